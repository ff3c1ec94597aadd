"""The faults that the gates' power is reported on: kinds that no limit was tuned on."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.exam.planted import Planted, Random, Tensors, hidden, mistaught, spoiled, with_network
from benchmarks.exam.stretches import Exam, joined
from models.baselines import ItemKnn
from models.bundle import FILES, FORMAT, WEIGHTS, Bundle, open_sealed, seal
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.sequence import SequenceRecommender
from models.ranking.preference import Preference


def by_bots(later: TrainingSet, random: Random) -> TrainingSet:
    """Two hundred that love thirty films speak as often as everybody else together."""
    count, users = len(later), len(later.user_ids)
    rows = np.sort(random.choice(count, count))
    loved = random.choice(len(later.catalogue), 30, replace=False)
    bots = replace(
        later.select(rows),
        users=users + random.integers(200, size=count),
        items=random.choice(loved, count),
        rewards=np.ones(count, np.float32),
    )
    names = np.concatenate([later.user_ids, np.array([f"visitor-{place}" for place in range(200)], object)])
    return _in_order(replace(later, user_ids=names), replace(bots, user_ids=names))


def of_other_people(later: TrainingSet, random: Random) -> TrainingSet:
    """Who did what is mixed up."""
    return replace(later, users=random.permutation(later.users))


def at_random(later: TrainingSet, random: Random, is_changed_E: np.ndarray) -> TrainingSet:
    """Some events (a mask) are about any item."""
    anything = random.integers(len(later.catalogue), size=len(later))
    return replace(later, items=np.where(is_changed_E, anything, later.items))


def half_at_random(later: TrainingSet, random: Random) -> TrainingSet:
    """Every other event is about any item."""
    return at_random(later, random, np.arange(len(later)) % 2 == 0)


def newcomers_at_random(later: TrainingSet, random: Random) -> TrainingSet:
    """What people do in their first ten events of the window is about any item."""
    return at_random(later, random, _turn(later) < 10)


def one_voice(later: TrainingSet, _random: Random) -> TrainingSet:
    """Nine of ten events are those of the busiest user, over and over."""
    busiest = np.flatnonzero(later.users == np.bincount(later.users).argmax())
    return later.select(
        np.sort(np.concatenate([np.arange(0, len(later), 10), np.resize(busiest, len(later) * 9 // 10)]))
    )


def one_genre(later: TrainingSet, _random: Random, genre: str) -> TrainingSet:
    """Nothing else is learned from."""
    return later.select(np.array([genre in names for names in later.catalogue.genres])[later.items])


def the_latest(later: TrainingSet, _random: Random, count: int) -> TrainingSet:
    """Only a few are learned from."""
    return later.select(np.arange(len(later) - count, len(later)))


def in_other_units(later: TrainingSet, _random: Random) -> TrainingSet:
    """Statistics of items and users are a thousand times what serving will say."""
    return replace(later, item_stats_EF=later.item_stats_EF * 1e3, user_stats_EF=later.user_stats_EF * 1e3)


def newest_hidden(exam: Exam, folder: Path, _seed: int, share: float) -> Path:
    """What came last is never shown: a share of the items, by when somebody used them first."""
    bundle = exam.honest()
    first_N = np.full(len(bundle.catalogue), exam.stream.times.max())
    np.minimum.at(first_N, exam.stream.items, exam.stream.times)
    is_hidden_N = np.zeros(len(first_N), bool)
    is_hidden_N[np.argsort(-first_N, kind="stable")[: int(share * len(first_N))]] = True
    return exam.written(folder, hidden(bundle, is_hidden_N), bundle.catalogue)


def some_hidden(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """A share of the items, whichever, is never shown."""
    return hidden(bundle, random.random(len(bundle.catalogue)) < share)


def all_but_hits(bundle: Bundle, _random: Random, count: int) -> Hybrid:
    """Nothing but the most popular is ever shown."""
    order = np.argsort(-bundle.hybrid.popularity.weights_N)
    is_hidden_N = np.ones(len(order), bool)
    is_hidden_N[order[:count]] = False
    return hidden(bundle, is_hidden_N)


def foreign_ids(exam: Exam, folder: Path, seed: int, share: float) -> Path:
    """A catalogue of which a share are another shop's."""
    bundle, random = exam.honest(), np.random.default_rng(seed)
    is_foreign = random.random(len(bundle.catalogue)) < share
    ids = tuple(f"sku-{one}" if foreign else one
                for one, foreign in zip(bundle.catalogue.item_ids, is_foreign, strict=True))  # fmt: skip
    return exam.written(folder, bundle.hybrid, replace(bundle.catalogue, item_ids=ids))


def attributes_mixed_up(exam: Exam, folder: Path, seed: int) -> Path:
    """Genres and years are other items'."""
    bundle = exam.honest()
    order = np.random.default_rng(seed).permutation(len(bundle.catalogue)).tolist()
    catalogue = replace(
        bundle.catalogue,
        genres=tuple(bundle.catalogue.genres[place] for place in order),
        years=tuple(bundle.catalogue.years[place] for place in order),
    )
    network = bundle.hybrid.network
    mistaken = SequenceRecommender.restore(catalogue, network.settings(), network.tensors())
    return exam.written(folder, replace(bundle.hybrid, network=mistaken), catalogue)


def not_a_number(bundle: Bundle, random: Random) -> Hybrid:
    """A hundredth of the item vectors."""

    def broken(tensors: Tensors) -> Tensors:
        vectors_ND = tensors["ids_ND"]
        vectors_ND[random.choice(len(vectors_ND), len(vectors_ND) // 100, replace=False)] = np.nan
        return tensors

    return with_network(bundle, broken)


def other_weights(exam: Exam, folder: Path, _seed: int) -> Path:
    """The honest bundle, sealed again with the first champion's network."""
    honest, first = (open_sealed(exam.folder / name, FORMAT, FILES) for name in ("honest", "anchor"))
    return seal(folder, FORMAT, {**honest, WEIGHTS: first[WEIGHTS]})


def the_disliked(later: TrainingSet, _random: Random) -> TrainingSet:
    """Nothing that anybody liked is learned from."""
    return later.select(later.rewards < 0.5)


def biased(bundle: Bundle, _random: Random, times: float) -> Hybrid:
    """What the network thinks of an item whoever asks, many times over."""
    return with_network(bundle, lambda tensors: {**tensors, "bias_N": tensors["bias_N"] * np.float32(times)})


def oldest_first(bundle: Bundle, _random: Random) -> Hybrid:
    """Item-kNN's votes grow with age, and it has most to say."""
    choice = replace(bundle.hybrid.knn.choice, decay=1.25)
    return replace(bundle.hybrid.with_others(replace(bundle.hybrid.knn, choice=choice)), weights=(0.3, 0.7, 0.0))


def too_large(bundle: Bundle, random: Random, times: int) -> Hybrid:
    """So many times the similarities, all but the first ones next to nothing."""
    table = bundle.hybrid.knn.similarity_NN
    added = random.integers(table.shape[0], size=(2, times * table.nnz))
    faint = np.full(added.shape[1], 1e-9, np.float32)
    grown = table + sp.csr_matrix((faint, added), shape=table.shape)
    return bundle.hybrid.with_others(ItemKnn(grown, bundle.hybrid.knn.choice))


def coarse(bundle: Bundle, _random: Random) -> Hybrid:
    """Every weight is one of three numbers."""

    def rounded(tensors: Tensors) -> Tensors:
        return {
            name: (np.sign(array) * (np.abs(array) > array.std()) * array.std()).astype(array.dtype)
            for name, array in tensors.items()
        }

    return with_network(bundle, rounded)


def short_of_memory(bundle: Bundle, _random: Random) -> Hybrid:
    """Only the latest event is read."""
    network, knn = bundle.hybrid.network, bundle.hybrid.knn
    settings = network.settings()
    settings["config"] = {**settings["config"], "context": 1}
    forgetful = SequenceRecommender.restore(bundle.catalogue, settings, network.tensors())
    return replace(bundle.hybrid.with_others(replace(knn, choice=replace(knn.choice, history=1))), network=forgetful)


def drowned(bundle: Bundle, _random: Random) -> Hybrid:
    """The latest like decides everything."""
    return replace(bundle.hybrid, preference=Preference(0.9, 5.0))


def against_neighbours(bundle: Bundle, _random: Random) -> Hybrid:
    """What goes with the user's items is moved down."""
    network, knn, popularity = bundle.hybrid.weights
    return replace(bundle.hybrid, weights=(network, -knn if knn else -0.3, popularity))


def neighbours_mixed_up(bundle: Bundle, random: Random) -> Hybrid:
    """Each item has another's neighbours, and nothing else counts."""
    table = bundle.hybrid.knn.similarity_NN
    mixed = table[random.permutation(table.shape[0])]
    return replace(bundle.hybrid.with_others(replace(bundle.hybrid.knn, similarity_NN=mixed)), weights=(0.2, 0.8, 0.0))


def _turn(later: TrainingSet) -> np.ndarray:
    """How many events of its user each one has before it."""
    order = np.argsort(later.users, kind="stable")
    starts = np.searchsorted(later.users[order], later.users[order])
    turn_E = np.empty(len(order), np.int64)
    turn_E[order] = np.arange(len(order)) - starts
    return turn_E


def _in_order(one: TrainingSet, other: TrainingSet) -> TrainingSet:
    """Both sets' events in the order of time."""
    both = joined(one, other)
    return both.select(np.argsort(both.times, kind="stable"))


HARD: dict[str, Any] = {"finetune_epochs": 12, "finetune_rate": 0.01, "finetune_pull": 0.0, "replay_share": 0.0}
"""A fine-tune that holds on to nothing."""

FAULTS = (
    Planted("poisoned by bots", mistaught(by_bots)),
    Planted("other people's feedback", mistaught(of_other_people)),
    Planted("half of the feedback at random", mistaught(half_at_random)),
    Planted("newcomers' feedback at random", mistaught(newcomers_at_random, finetune_epochs=6)),
    Planted("one user's voice", mistaught(one_voice, finetune_epochs=6, replay_share=0.0)),
    Planted("forgetting: one genre", mistaught(partial(one_genre, genre="Horror"), **HARD)),
    Planted("forgetting: the latest 2,000 events", mistaught(partial(the_latest, count=2_000), **HARD)),
    Planted("statistics in other units", mistaught(in_other_units, finetune_epochs=6, replay_share=0.0)),
    Planted("the newest films hidden", partial(newest_hidden, share=0.2)),
    Planted("a tenth of the films hidden", spoiled(partial(some_hidden, share=0.1))),
    Planted("all but hits hidden", spoiled(partial(all_but_hits, count=150)), by_construction=True),
    Planted("another catalogue: half", partial(foreign_ids, share=0.5)),
    Planted("another catalogue: all", partial(foreign_ids, share=1.0)),
    Planted("attributes mixed up", attributes_mixed_up, by_construction=True),
    Planted("not a number", spoiled(not_a_number), by_construction=True),
    Planted("other weights than were tried", other_weights, by_construction=True),
    Planted("only what was disliked learned from", mistaught(the_disliked, **HARD)),
    Planted("biases drown the rest", spoiled(partial(biased, times=30.0))),
    Planted("the oldest event counts most", spoiled(oldest_first)),
    Planted("too large", spoiled(partial(too_large, times=12)), by_construction=True),
    Planted("three values a weight", spoiled(coarse)),
    Planted("only the latest event read", spoiled(short_of_memory)),
    Planted("preference drowns the rest", spoiled(drowned)),
    Planted("against the neighbours", spoiled(against_neighbours)),
    Planted("neighbours mixed up", spoiled(neighbours_mixed_up)),
)
