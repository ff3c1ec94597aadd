"""The faults that the gates' limits were tuned on: most kinds twice, once weaker."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exam.planted import Planted, Random, Tensors, hidden, mistaught, shuffled, spoiled, with_network
from benchmarks.exam.stretches import Exam
from evaluation.spoil import spoil
from models.bundle import Bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import SequenceRecommender
from models.ranking.policy import PlackettLuce


def item_vectors_shuffled(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """Vectors and biases of a share of the items stand at each other's places."""
    order = shuffled(len(bundle.catalogue), share, random)

    def moved(tensors: Tensors) -> Tensors:
        return {**tensors, "ids_ND": tensors["ids_ND"][order], "bias_N": tensors["bias_N"][order]}

    return with_network(bundle, moved)


def noise(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """Every weight is off by normal noise of so many times its table's standard deviation."""

    def noisy(tensors: Tensors) -> Tensors:
        return {
            name: (array + share * array.std() * random.standard_normal(array.shape)).astype(array.dtype)
            for name, array in tensors.items()
        }

    return with_network(bundle, noisy)


def old_champion(exam: Exam, folder: Path, _seed: int) -> Path:
    """The first champion once more."""
    return Path(shutil.copytree(exam.champions["anchor"], folder))


def old_counts(exam: Exam, folder: Path, _seed: int) -> Path:
    """The first champion's network and counts under the mix of the honest one."""
    anchor = Bundle.load(exam.champions["anchor"])
    return exam.written(folder, replace(anchor.hybrid, weights=exam.honest().hybrid.weights), anchor.catalogue)


def leaked(exam: Exam, folder: Path, seed: int, share: float) -> Path:
    """A fine-tune that reads into the hold-out, and says that it does not."""
    upto = exam.learned + int((exam.judged - exam.learned) * share)
    return exam.taught(folder, seed, upto=upto, lineage={"holdout_after": exam.learned})


def inverted(later: TrainingSet, _random: Random) -> TrainingSet:
    """What was worth 1 is worth 0, and the other way round."""
    return replace(later, rewards=1.0 - later.rewards)


def as_it_is(later: TrainingSet, _random: Random) -> TrainingSet:
    """Nothing is wrong with the events."""
    return later


def untaught(bundle: Bundle, random: Random) -> Hybrid:
    """A network whose weights are as good as drawn: each table's in another order."""

    def mixed_up(tensors: Tensors) -> Tensors:
        return {name: random.permutation(array.ravel()).reshape(array.shape) for name, array in tensors.items()}

    return with_network(bundle, mixed_up)


def reweighed(bundle: Bundle, _random: Random, weights: tuple[float, float, float]) -> Hybrid:
    """Other weights of network, item-kNN and popularity."""
    return replace(bundle.hybrid, weights=weights)


def slowed(bundle: Bundle, _random: Random, times: int) -> Hybrid:
    """So many times the blocks, all but the first ones without effect: the same lists, later."""
    network = bundle.hybrid.network
    config: SequenceConfig = network.network.config
    tensors, last = network.tensors(), config.blocks - 1
    added = {
        name.replace(f"blocks.{last}.", f"blocks.{block}."): np.zeros_like(array)
        for block in range(config.blocks, config.blocks * times)
        for name, array in tensors.items()
        if name.startswith(f"blocks.{last}.")
    }
    settings = network.settings()
    settings["config"] = {**settings["config"], "blocks": config.blocks * times}
    slow = SequenceRecommender.restore(bundle.catalogue, settings, {**tensors, **added})
    return replace(bundle.hybrid, network=slow)


def half_of_ids_shuffled(exam: Exam, folder: Path, seed: int) -> Path:
    """Half of the items mean others."""
    bundle = exam.honest()
    order = shuffled(len(bundle.catalogue), 0.5, np.random.default_rng(seed))
    ids = tuple(bundle.catalogue.item_ids[place] for place in order)
    return exam.written(folder, bundle.hybrid, replace(bundle.catalogue, item_ids=ids))


def blind(exam: Exam, folder: Path, _seed: int) -> Path:
    """The ranking is right, and hardly counts where slates are drawn."""
    bundle = exam.honest()
    return exam.written(folder, bundle.hybrid, bundle.catalogue, PlackettLuce(100.0))


def newcomers_last(bundle: Bundle, _random: Random) -> Hybrid:
    """Who is new is shown what nobody uses; the mix has no weight for popularity, so nobody else notices."""
    network, knn, _ = bundle.hybrid.weights
    turned = replace(bundle.popularity, weights_N=1.0 - bundle.popularity.weights_N)
    rest = network + knn
    return replace(bundle.hybrid.with_others(turned), weights=(network / rest, knn / rest, 0.0))


def drowned_live(bundle: Bundle, _random: Random) -> Hybrid:
    """What everybody says decides, which stands still wherever challengers are replayed."""
    return replace(bundle.hybrid, live=50.0)


def too_large_to_add(bundle: Bundle, _random: Random) -> Hybrid:
    """Weights that are numbers, and scores that are none."""
    return with_network(bundle, lambda tensors: {**tensors, "bias_N": tensors["bias_N"] + np.float32(3e38)})


def genre_hidden(bundle: Bundle, _random: Random, genre: str) -> Hybrid:
    """One genre is never shown."""
    return hidden(bundle, np.array([genre in names for names in bundle.catalogue.genres]))


def films_before(bundle: Bundle, _random: Random, year: int) -> Hybrid:
    """Old films are never shown."""
    return hidden(bundle, np.array([one is not None and one < year for one in bundle.catalogue.years]))


def _both(kind: str, change: Callable[..., Hybrid], **strengths: object) -> list[Planted]:
    """One kind, twice; the strengths by what the name adds."""
    ((argument, chosen),) = strengths.items()
    assert isinstance(chosen, dict)
    return [Planted(f"{kind}: {name}", spoiled(partial(change, **{argument: value}))) for name, value in chosen.items()]


FREELY: dict[str, Any] = {"finetune_epochs": 12, "finetune_pull": 0.0}

FAULTS = (
    *_both("item vectors shuffled", item_vectors_shuffled, share={"all": 1.0, "a third": 0.33}),
    *_both("noise", noise, share={"as large as the weights": 1.0, "half as large": 0.5}),
    Planted("stale: the first champion", old_champion),
    Planted("stale: its parts, mixed as today", old_counts),
    Planted("leaked: half of the hold-out", partial(leaked, share=0.5), by_construction=True),
    Planted("leaked: all of it", partial(leaked, share=1.0), by_construction=True),
    Planted("inverted feedback", mistaught(inverted, reward_floor=0.0)),
    Planted("inverted feedback: for long", mistaught(inverted, reward_floor=0.0, **FREELY)),
    Planted("untaught network", spoiled(untaught)),
    *_both("popularity in disguise", reweighed, weights={"mostly": (0.05, 0.0, 0.95), "all": (0.0, 0.0, 1.0)}),
    Planted("slow: 12 times the blocks", spoiled(partial(slowed, times=12)), by_construction=True),
    Planted("slow: 16 times the blocks", spoiled(partial(slowed, times=16)), by_construction=True),
    Planted("taught too fast", mistaught(as_it_is, finetune_rate=0.1)),
    Planted("taught too fast: without a pull", mistaught(as_it_is, finetune_rate=0.05, finetune_pull=0.0)),
    Planted("item ids shuffled: all", lambda exam, folder, seed: spoil(exam.folder / "honest", folder, seed)),
    Planted("item ids shuffled: half", half_of_ids_shuffled),
    Planted("draws blindly", blind, by_construction=True),
    Planted("newcomers are shown what nobody uses", spoiled(newcomers_last)),
    Planted("the live profile drowns the rest", spoiled(drowned_live), by_construction=True),
    Planted("weights too large to add", spoiled(too_large_to_add), by_construction=True),
    Planted("a genre hidden: Thriller", spoiled(partial(genre_hidden, genre="Thriller")), by_construction=True),
    Planted("a genre hidden: Western", spoiled(partial(genre_hidden, genre="Western")), by_construction=True),
    Planted("old films hidden", spoiled(partial(films_before, year=1960)), by_construction=True),
)  # fmt: skip
