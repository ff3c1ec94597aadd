"""The faults of bad challengers: in the finished model, in its bundle, or in the events that it learns from."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.gates_challengers import (
    Challenger,
    Random,
    Tensors,
    change_network,
    changed_model,
    finetuned_on,
    hide_items,
    shuffle_places,
)
from benchmarks.gates_experiment import Experiment, join_events
from infra.demo import spoil
from models.baselines import ItemKnn
from models.bundle import FILES, FORMAT, WEIGHTS, Bundle, open_sealed, seal
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import SequenceRecommender
from models.ranking.policy import PlackettLuce
from models.ranking.preference import Preference


def shuffle_item_vectors(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """Vectors and biases of a share of the items stand at each other's places."""
    order = shuffle_places(len(bundle.catalogue), share, random)

    def moved(tensors: Tensors) -> Tensors:
        return {**tensors, "ids_ND": tensors["ids_ND"][order], "bias_N": tensors["bias_N"][order]}

    return change_network(bundle, moved)


def add_noise(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """Every weight is off by normal noise of so many times its table's standard deviation."""

    def noisy(tensors: Tensors) -> Tensors:
        return {
            name: (array + share * array.std() * random.standard_normal(array.shape)).astype(array.dtype)
            for name, array in tensors.items()
        }

    return change_network(bundle, noisy)


def copy_first_champion(experiment: Experiment, folder: Path, _seed: int) -> Path:
    """The first champion once more."""
    return Path(shutil.copytree(experiment.champions["anchor"], folder))


def reuse_first_parts(experiment: Experiment, folder: Path, _seed: int) -> Path:
    """The first champion's network and counts under the mix of the honest one."""
    anchor = Bundle.load(experiment.champions["anchor"])
    return experiment.write(
        folder, replace(anchor.hybrid, weights=experiment.honest().hybrid.weights), anchor.catalogue
    )


def leak_holdout(experiment: Experiment, folder: Path, seed: int, share: float) -> Path:
    """A fine-tune that reads into the hold-out, and says that it does not."""
    upto = experiment.learned + int((experiment.judged - experiment.learned) * share)
    return experiment.finetune(folder, seed, upto=upto, lineage={"holdout_after_time": experiment.learned})


def invert_rewards(events: TrainingSet, _random: Random) -> TrainingSet:
    """What was worth 1 is worth 0, and the other way round."""
    return replace(events, rewards=1.0 - events.rewards)


def keep_events(events: TrainingSet, _random: Random) -> TrainingSet:
    """Nothing is wrong with the events."""
    return events


def permute_weights(bundle: Bundle, random: Random) -> Hybrid:
    """A network whose weights are as good as drawn: each table's in another order."""

    def mixed_up(tensors: Tensors) -> Tensors:
        return {name: random.permutation(array.ravel()).reshape(array.shape) for name, array in tensors.items()}

    return change_network(bundle, mixed_up)


def change_mix(bundle: Bundle, _random: Random, weights: tuple[float, float, float]) -> Hybrid:
    """Other weights of network, item-kNN and popularity, and none for further parts."""
    return weighed(bundle.hybrid, dict(zip(("network", "item-knn", "popularity"), weights, strict=True)))


def add_idle_blocks(bundle: Bundle, _random: Random, times: int) -> Hybrid:
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


def shuffle_half_of_ids(experiment: Experiment, folder: Path, seed: int) -> Path:
    """Half of the items mean others."""
    bundle = experiment.honest()
    order = shuffle_places(len(bundle.catalogue), 0.5, np.random.default_rng(seed))
    ids = tuple(bundle.catalogue.item_ids[place] for place in order)
    return experiment.write(folder, bundle.hybrid, replace(bundle.catalogue, item_ids=ids))


def flatten_policy(experiment: Experiment, folder: Path, _seed: int) -> Path:
    """The ranking is right, and hardly counts where slates are drawn."""
    bundle = experiment.honest()
    return experiment.write(folder, bundle.hybrid, bundle.catalogue, PlackettLuce(100.0))


def invert_popularity(bundle: Bundle, _random: Random) -> Hybrid:
    """Who is new is shown what nobody uses; the mix has no weight for popularity, so nobody else notices."""
    turned = replace(bundle.popularity, weights_N=1.0 - bundle.popularity.weights_N)
    shares = {**shares_of(bundle.hybrid), bundle.popularity.name: 0.0}
    return weighed(bundle.hybrid.with_others(turned), {name: w / sum(shares.values()) for name, w in shares.items()})


def overweigh_live_profile(bundle: Bundle, _random: Random) -> Hybrid:
    """What everybody says decides, which stands still wherever challengers are replayed."""
    return replace(bundle.hybrid, live=50.0)


def overflow_biases(bundle: Bundle, _random: Random) -> Hybrid:
    """Weights that are numbers, and scores that are none."""
    return change_network(bundle, lambda tensors: {**tensors, "bias_N": tensors["bias_N"] + np.float32(3e38)})


def hide_genre(bundle: Bundle, _random: Random, genre: str) -> Hybrid:
    """One genre is never shown."""
    return hide_items(bundle, np.array([genre in names for names in bundle.catalogue.genres]))


def hide_films_before(bundle: Bundle, _random: Random, year: int) -> Hybrid:
    """Old films are never shown."""
    return hide_items(bundle, np.array([one is not None and one < year for one in bundle.catalogue.years]))


def add_bots(events: TrainingSet, random: Random) -> TrainingSet:
    """Two hundred that love thirty films speak as often as everybody else together."""
    count, users = len(events), len(events.user_ids)
    rows = np.sort(random.choice(count, count))
    favourites = random.choice(len(events.catalogue), 30, replace=False)
    bots = replace(
        events.select(rows),
        users=users + random.integers(200, size=count),
        items=random.choice(favourites, count),
        rewards=np.ones(count, np.float32),
    )
    names = np.concatenate([events.user_ids, np.array([f"visitor-{place}" for place in range(200)], object)])
    return _in_time_order(replace(events, user_ids=names), replace(bots, user_ids=names))


def permute_users(events: TrainingSet, random: Random) -> TrainingSet:
    """Who did what is mixed up."""
    return replace(events, users=random.permutation(events.users))


def randomize_items(events: TrainingSet, random: Random, is_changed_E: np.ndarray) -> TrainingSet:
    """Some events (a mask) are about any item."""
    anything = random.integers(len(events.catalogue), size=len(events))
    return replace(events, items=np.where(is_changed_E, anything, events.items))


def randomize_half(events: TrainingSet, random: Random) -> TrainingSet:
    """Every other event is about any item."""
    return randomize_items(events, random, np.arange(len(events)) % 2 == 0)


def randomize_first_events(events: TrainingSet, random: Random) -> TrainingSet:
    """What people do in their first ten events of the window is about any item."""
    return randomize_items(events, random, _events_before(events) < 10)


def repeat_busiest_user(events: TrainingSet, _random: Random) -> TrainingSet:
    """Nine of ten events are those of the busiest user, over and over."""
    busiest = np.flatnonzero(events.users == np.bincount(events.users).argmax())
    return events.select(
        np.sort(np.concatenate([np.arange(0, len(events), 10), np.resize(busiest, len(events) * 9 // 10)]))
    )


def keep_genre(events: TrainingSet, _random: Random, genre: str) -> TrainingSet:
    """Nothing else is learned from."""
    return events.select(np.array([genre in names for names in events.catalogue.genres])[events.items])


def keep_latest(events: TrainingSet, _random: Random, count: int) -> TrainingSet:
    """Only a few are learned from."""
    return events.select(np.arange(len(events))[-count:])


def scale_statistics(events: TrainingSet, _random: Random) -> TrainingSet:
    """Statistics of items and users are a thousand times what serving will say."""
    return replace(events, item_stats_EF=events.item_stats_EF * 1e3, user_stats_EF=events.user_stats_EF * 1e3)


def hide_newest(experiment: Experiment, folder: Path, _seed: int, share: float) -> Path:
    """What came last is never shown: a share of the items, by when somebody used them first."""
    bundle = experiment.honest()
    first_N = np.full(len(bundle.catalogue), experiment.stream.times.max())
    np.minimum.at(first_N, experiment.stream.items, experiment.stream.times)
    is_hidden_N = np.zeros(len(first_N), bool)
    is_hidden_N[np.argsort(-first_N, kind="stable")[: int(share * len(first_N))]] = True
    return experiment.write(folder, hide_items(bundle, is_hidden_N), bundle.catalogue)


def hide_share(bundle: Bundle, random: Random, share: float) -> Hybrid:
    """A share of the items, whichever, is never shown."""
    return hide_items(bundle, random.random(len(bundle.catalogue)) < share)


def hide_all_but_popular(bundle: Bundle, _random: Random, count: int) -> Hybrid:
    """Nothing but the most popular is ever shown."""
    order = np.argsort(-bundle.hybrid.popularity.weights_N)
    is_hidden_N = np.ones(len(order), bool)
    is_hidden_N[order[:count]] = False
    return hide_items(bundle, is_hidden_N)


def rename_ids(experiment: Experiment, folder: Path, seed: int, share: float) -> Path:
    """A catalogue of which a share are another shop's."""
    bundle, random = experiment.honest(), np.random.default_rng(seed)
    is_foreign = random.random(len(bundle.catalogue)) < share
    ids = tuple(f"sku-{one}" if foreign else one
                for one, foreign in zip(bundle.catalogue.item_ids, is_foreign, strict=True))  # fmt: skip
    return experiment.write(folder, bundle.hybrid, replace(bundle.catalogue, item_ids=ids))


def permute_attributes(experiment: Experiment, folder: Path, seed: int) -> Path:
    """Genres and years are other items'."""
    bundle = experiment.honest()
    order = np.random.default_rng(seed).permutation(len(bundle.catalogue)).tolist()
    catalogue = replace(
        bundle.catalogue,
        genres=tuple(bundle.catalogue.genres[place] for place in order),
        years=tuple(bundle.catalogue.years[place] for place in order),
    )
    network = bundle.hybrid.network
    mistaken = SequenceRecommender.restore(catalogue, network.settings(), network.tensors())
    return experiment.write(folder, replace(bundle.hybrid, network=mistaken), catalogue)


def insert_nan(bundle: Bundle, random: Random) -> Hybrid:
    """A hundredth of the item vectors."""

    def broken(tensors: Tensors) -> Tensors:
        vectors_ND = tensors["ids_ND"]
        vectors_ND[random.choice(len(vectors_ND), len(vectors_ND) // 100, replace=False)] = np.nan
        return tensors

    return change_network(bundle, broken)


def swap_network_weights(experiment: Experiment, folder: Path, _seed: int) -> Path:
    """The honest bundle, sealed again with the first champion's network."""
    honest, first = (open_sealed(experiment.folder / name, FORMAT, FILES) for name in ("honest", "anchor"))
    return seal(folder, FORMAT, {**honest, WEIGHTS: first[WEIGHTS]})


def keep_disliked(events: TrainingSet, _random: Random) -> TrainingSet:
    """Nothing that anybody liked is learned from."""
    return events.select(events.rewards < 0.5)


def scale_biases(bundle: Bundle, _random: Random, times: float) -> Hybrid:
    """What the network thinks of an item whoever asks, many times over."""
    return change_network(bundle, lambda tensors: {**tensors, "bias_N": tensors["bias_N"] * np.float32(times)})


def weigh_oldest_events(bundle: Bundle, _random: Random) -> Hybrid:
    """Item-kNN's votes grow with age, and it has most to say."""
    choice = replace(bundle.hybrid.knn.choice, decay=1.25)
    slow = bundle.hybrid.with_others(replace(bundle.hybrid.knn, choice=choice))
    return weighed(slow, {"network": 0.3, "item-knn": 0.7})


def add_similarities(bundle: Bundle, random: Random, times: int) -> Hybrid:
    """So many times the similarities, all but the first ones next to nothing."""
    table = bundle.hybrid.knn.similarity_NN
    added = random.integers(table.shape[0], size=(2, times * table.nnz))
    faint = np.full(added.shape[1], 1e-9, np.float32)
    grown = table + sp.csr_matrix((faint, added), shape=table.shape)
    return bundle.hybrid.with_others(ItemKnn(grown, bundle.hybrid.knn.choice))


def quantize_weights(bundle: Bundle, _random: Random) -> Hybrid:
    """Every weight is one of three numbers."""

    def rounded(tensors: Tensors) -> Tensors:
        return {
            name: (np.sign(array) * (np.abs(array) > array.std()) * array.std()).astype(array.dtype)
            for name, array in tensors.items()
        }

    return change_network(bundle, rounded)


def read_latest_event_only(bundle: Bundle, _random: Random) -> Hybrid:
    """Only the latest event is read."""
    network, knn = bundle.hybrid.network, bundle.hybrid.knn
    settings = network.settings()
    settings["config"] = {**settings["config"], "context": 1}
    forgetful = SequenceRecommender.restore(bundle.catalogue, settings, network.tensors())
    return replace(bundle.hybrid.with_others(replace(knn, choice=replace(knn.choice, history=1))), network=forgetful)


def overweigh_preference(bundle: Bundle, _random: Random) -> Hybrid:
    """The latest like decides everything."""
    return replace(bundle.hybrid, preference=Preference(0.9, 5.0))


def invert_neighbours(bundle: Bundle, _random: Random) -> Hybrid:
    """What goes with the user's items is moved down."""
    shares = shares_of(bundle.hybrid)
    return weighed(bundle.hybrid, {**shares, "item-knn": -shares["item-knn"] or -0.3})


def permute_neighbours(bundle: Bundle, random: Random) -> Hybrid:
    """Each item has another's neighbours, and nothing else counts."""
    table = bundle.hybrid.knn.similarity_NN
    mixed = table[random.permutation(table.shape[0])]
    permuted = bundle.hybrid.with_others(replace(bundle.hybrid.knn, similarity_NN=mixed))
    return weighed(permuted, {"network": 0.2, "item-knn": 0.8})


def shares_of(hybrid: Hybrid) -> dict[str, float]:
    """What each part weighs, by its name."""
    return dict(zip(hybrid.names, hybrid.weights, strict=True))


def weighed(hybrid: Hybrid, shares: Mapping[str, float]) -> Hybrid:
    """The same parts by these weights; 0 for those that are not named."""
    return replace(hybrid, weights=tuple(shares.get(name, 0.0) for name in hybrid.names))


def _events_before(events: TrainingSet) -> np.ndarray:
    """How many events of its user each one has before it."""
    order = np.argsort(events.users, kind="stable")
    starts = np.searchsorted(events.users[order], events.users[order])
    turn_E = np.empty(len(order), np.int64)
    turn_E[order] = np.arange(len(order)) - starts
    return turn_E


def _in_time_order(one: TrainingSet, other: TrainingSet) -> TrainingSet:
    """Both sets' events in the order of time."""
    both = join_events(one, other)
    return both.select(np.argsort(both.times, kind="stable"))


def _twice(kind: str, change: Callable[..., Hybrid], **strengths: object) -> list[Challenger]:
    """One kind, twice; the strengths by what the name adds."""
    ((argument, chosen),) = strengths.items()
    assert isinstance(chosen, dict)
    return [
        Challenger(f"{kind}: {name}", changed_model(partial(change, **{argument: value})))
        for name, value in chosen.items()
    ]


FREELY: dict[str, Any] = {"finetune_epochs": 12, "finetune_pull": 0.0}
HARD: dict[str, Any] = {"finetune_epochs": 12, "finetune_rate": 0.01, "finetune_pull": 0.0, "replay_share": 0.0}
"""A fine-tune that holds on to nothing."""

KNOWN = (
    *_twice("item vectors shuffled", shuffle_item_vectors, share={"all": 1.0, "a third": 0.33}),
    *_twice("noise", add_noise, share={"as large as the weights": 1.0, "half as large": 0.5}),
    Challenger("stale: the first champion", copy_first_champion),
    Challenger("stale: its parts, mixed as today", reuse_first_parts),
    Challenger("leaked: half of the hold-out", partial(leak_holdout, share=0.5), by_construction=True),
    Challenger("leaked: all of it", partial(leak_holdout, share=1.0), by_construction=True),
    Challenger("inverted feedback", finetuned_on(invert_rewards, reward_floor=0.0)),
    Challenger("inverted feedback: for long", finetuned_on(invert_rewards, reward_floor=0.0, **FREELY)),
    Challenger("untaught network", changed_model(permute_weights)),
    *_twice("popularity in disguise", change_mix, weights={"mostly": (0.05, 0.0, 0.95), "all": (0.0, 0.0, 1.0)}),
    Challenger("slow: 12 times the blocks", changed_model(partial(add_idle_blocks, times=12)), by_construction=True),
    Challenger("slow: 16 times the blocks", changed_model(partial(add_idle_blocks, times=16)), by_construction=True),
    Challenger("taught too fast", finetuned_on(keep_events, finetune_rate=0.1)),
    Challenger("taught too fast: without a pull", finetuned_on(keep_events, finetune_rate=0.05, finetune_pull=0.0)),
    Challenger("item ids shuffled: all", lambda setup, folder, seed: spoil(setup.folder / "honest", folder, seed)),
    Challenger("item ids shuffled: half", shuffle_half_of_ids),
    Challenger("draws blindly", flatten_policy, by_construction=True),
    Challenger("newcomers are shown what nobody uses", changed_model(invert_popularity)),
    Challenger("the live profile drowns the rest", changed_model(overweigh_live_profile), by_construction=True),
    Challenger("weights too large to add", changed_model(overflow_biases), by_construction=True),
    Challenger("a genre hidden: Thriller", changed_model(partial(hide_genre, genre="Thriller")), by_construction=True),
    Challenger("a genre hidden: Western", changed_model(partial(hide_genre, genre="Western")), by_construction=True),
    Challenger("old films hidden", changed_model(partial(hide_films_before, year=1960)), by_construction=True),
)  # fmt: skip
"""The faults that the limits of the gates were tuned on: most kinds twice, once weaker."""

UNSEEN = (
    Challenger("poisoned by bots", finetuned_on(add_bots)),
    Challenger("other people's feedback", finetuned_on(permute_users)),
    Challenger("half of the feedback at random", finetuned_on(randomize_half)),
    Challenger("newcomers' feedback at random", finetuned_on(randomize_first_events, finetune_epochs=6)),
    Challenger("one user's voice", finetuned_on(repeat_busiest_user, finetune_epochs=6, replay_share=0.0)),
    Challenger("forgetting: one genre", finetuned_on(partial(keep_genre, genre="Horror"), **HARD)),
    Challenger("forgetting: the latest 2,000 events", finetuned_on(partial(keep_latest, count=2_000), **HARD)),
    Challenger("statistics in other units", finetuned_on(scale_statistics, finetune_epochs=6, replay_share=0.0)),
    Challenger("the newest films hidden", partial(hide_newest, share=0.2)),
    Challenger("a tenth of the films hidden", changed_model(partial(hide_share, share=0.1))),
    Challenger("all but hits hidden", changed_model(partial(hide_all_but_popular, count=150)), by_construction=True),
    Challenger("another catalogue: half", partial(rename_ids, share=0.5)),
    Challenger("another catalogue: all", partial(rename_ids, share=1.0)),
    Challenger("attributes mixed up", permute_attributes, by_construction=True),
    Challenger("not a number", changed_model(insert_nan), by_construction=True),
    Challenger("other weights than were tried", swap_network_weights, by_construction=True),
    Challenger("only what was disliked learned from", finetuned_on(keep_disliked, **HARD)),
    Challenger("biases drown the rest", changed_model(partial(scale_biases, times=30.0))),
    Challenger("the oldest event counts most", changed_model(weigh_oldest_events)),
    Challenger("too large", changed_model(partial(add_similarities, times=12)), by_construction=True),
    Challenger("three values a weight", changed_model(quantize_weights)),
    Challenger("only the latest event read", changed_model(read_latest_event_only)),
    Challenger("preference drowns the rest", changed_model(overweigh_preference)),
    Challenger("against the neighbours", changed_model(invert_neighbours)),
    Challenger("neighbours mixed up", changed_model(permute_neighbours)),
)
"""The faults that the power of the gates is reported on: kinds that no limit was tuned on."""

FAULTS = {"known": KNOWN, "unseen": UNSEEN}
