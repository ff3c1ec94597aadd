"""One suite of checks over every recommender: what ``models.history.Recommender`` promises."""

import copy
import json
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from attune.user_state import Recent, UserState
from models.baselines import ItemKnn, KnnChoice, Latest, Popularity
from models.catalogue import Catalogue
from models.ease import Ease, EaseChoice
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet, groups, histories
from models.learning.training import Trained
from models.network.config import SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.exploration import Greedy
from models.recommender import PopularityAlone, Request, recommend
from models.sources import SOURCES, Part

VOTES = {"history": 10, "decay": 0.9, "slope": 0.5, "neighbours": 20}
SHARES = {"network": 0.3, "item-knn": 0.2, "popularity": 0.1, "ease": 0.3, "latest": 0.1}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def unlearned(world: TrainingSet) -> SequenceRecommender:
    torch.manual_seed(0)
    attributes = ItemAttributes.of(world.catalogue)
    network = SequenceNetwork(SequenceConfig(width=8, blocks=1, heads=1, context=16), attributes)
    return SequenceRecommender(network, attributes.genre_names)


SOURCE: dict[str, Callable[[TrainingSet], Part]] = {
    "item-knn": lambda world: ItemKnn.fit(world, KnnChoice(window=20, shrinkage=1.0, **VOTES)),
    "popularity": lambda world: Popularity.fit(world, 30.0),
    "ease": lambda world: Ease.fit(world, EaseChoice(penalty=10.0, items=1_000, **VOTES)),
    "latest": lambda world: Latest.fit(world, 1.0),
}
NAMES = ("network", *SOURCE, "hybrid")


def fitted(name: str, world: TrainingSet, network: SequenceRecommender | None = None) -> Part:
    """The recommender of that name, fitted to a world; a network that learned nothing unless one is given."""
    if name in SOURCE:
        return SOURCE[name](world)
    network = network or unlearned(world)
    others = tuple(SOURCE[source](world) for source in SOURCES)
    return network if name == "network" else Hybrid(network, others, tuple(SHARES.values()))


def restored(part: Part, catalogue: Catalogue) -> Part:
    settings, tensors = json.loads(json.dumps(part.settings())), part.tensors()
    if part.name in SOURCES:
        return SOURCES[part.name].restore(settings, tensors)
    return {"network": SequenceRecommender, "hybrid": Hybrid}[part.name].restore(catalogue, settings, tensors)


def test_every_source_is_checked() -> None:
    assert tuple(SOURCE) == tuple(SOURCES)
    assert ("network", *SOURCES) == tuple(SHARES)


@pytest.fixture(params=NAMES)
def recommender(request: pytest.FixtureRequest, tastes: TrainingSet, trained_on_tastes: Trained) -> Part:
    return fitted(request.param, tastes, trained_on_tastes.hybrid.network)


def random_batch(count: int, rows: int = 7, length: int = 9, seed: int = 0) -> HistoryBatch:
    """Histories of all lengths from none to ``length``, of many kinds; some statistics unknown."""
    rng = np.random.default_rng(seed)
    lengths = np.arange(rows) % (length + 1)
    known = np.arange(length) >= length - lengths[:, None]
    times = np.sort(rng.integers(1, 10**12, (rows, length)), axis=1)
    stats = rng.random((rows, length, 4)).astype(np.float32) * 50
    stats[rng.random((rows, length)) < 0.3] = np.nan
    return HistoryBatch(
        items_BL=np.where(known, rng.integers(1, count + 1, (rows, length)), 0),
        kinds_BL=np.where(known, rng.integers(1, len(KIND_INDEX) + 1, (rows, length)), 0),
        rewards_BL=np.where(known, rng.random((rows, length)), 0.5).astype(np.float32),
        times_BL=np.where(known, times, 0),
        item_stats_BLF=np.where(known[..., None], stats, np.nan).astype(np.float32),
        user_stats_BF=np.where(rng.random((rows, 1)) < 0.3, np.nan, rng.random((rows, 4)) * 9).astype(np.float32),
        now_B=np.full(rows, 10**12 + 5, np.int64),
    )


@pytest.fixture
def batch(trained_on_tastes: Trained) -> HistoryBatch:
    return random_batch(len(trained_on_tastes.catalogue))


def test_scores_are_finite_floats_for_the_whole_catalogue(recommender, batch, trained_on_tastes):
    scores = recommender.scores(batch)
    assert scores.shape == (len(batch), len(trained_on_tastes.catalogue))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_scores_depend_on_the_batch_alone(recommender, batch):
    kept = copy.deepcopy(batch)
    first = recommender.scores(batch)
    recommender.scores(random_batch(first.shape[1], seed=5))
    np.testing.assert_array_equal(recommender.scores(batch), first)
    for one in fields(HistoryBatch):
        np.testing.assert_array_equal(getattr(batch, one.name), getattr(kept, one.name))


def test_a_row_does_not_depend_on_the_others(recommender, batch):
    together = recommender.scores(batch)
    for row in range(len(batch)):
        np.testing.assert_allclose(recommender.scores(batch.select(np.array([row])))[0], together[row], **CLOSE)


def test_padding_changes_nothing(recommender, batch):
    def padded(values: np.ndarray, fill: float) -> np.ndarray:
        width = [(0, 0), (3, 0)] + [(0, 0)] * (values.ndim - 2)
        return np.pad(values, width, constant_values=fill).astype(values.dtype)

    wider = replace(
        batch,
        items_BL=padded(batch.items_BL, 0),
        kinds_BL=padded(batch.kinds_BL, 0),
        rewards_BL=padded(batch.rewards_BL, 0.5),
        times_BL=padded(batch.times_BL, 0),
        item_stats_BLF=padded(batch.item_stats_BLF, np.nan),
    )
    np.testing.assert_allclose(recommender.scores(wider), recommender.scores(batch), **CLOSE)


def test_a_history_longer_than_its_context_is_read_from_its_end(recommender, trained_on_tastes):
    long = random_batch(len(trained_on_tastes.catalogue), rows=201, length=200)
    assert np.isfinite(recommender.scores(long)).all()


def test_no_history_at_all_has_scores(recommender, batch):
    assert np.isfinite(recommender.scores(batch.select(np.array([0])))).all()
    assert recommender.scores(batch.select(np.zeros(0, int))).shape[0] == 0


def test_what_is_written_down_comes_back(recommender, batch, trained_on_tastes):
    back = restored(recommender, trained_on_tastes.catalogue)
    np.testing.assert_array_equal(back.scores(batch), recommender.scores(batch))
    assert back.settings() == recommender.settings()
    assert all(array.flags.c_contiguous for array in recommender.tensors().values())


def test_what_is_said_of_an_item_that_came_later_is_heard_or_passed_over(recommender, batch):
    """Its place lies behind those that were learned; nobody's scores of the others depend on its being there."""
    learned = recommender.scores(batch).shape[1]
    stats = np.full((2, 4), np.nan, np.float32)
    extended = recommender.extended(Catalogue(("new", "newer"), ("", ""), (("a",), ()), (None, 2001.0), stats))
    np.testing.assert_array_equal(extended.scores(batch)[:, :learned], recommender.scores(batch))
    later = replace(batch, items_BL=np.where(batch.items_BL == 1, learned + 2, batch.items_BL))
    assert (later.items_BL > learned).any()
    scores = extended.scores(later)
    assert scores.shape == (len(batch), learned + 2)
    assert np.isfinite(scores).all()


def test_a_slate_holds_nothing_seen_nothing_unknown_and_nothing_twice(recommender, tastes):
    catalogue = tastes.catalogue
    alone = PopularityAlone(catalogue, recommender, Greedy(), np.zeros((len(catalogue), 1), np.float32))
    seen = (*catalogue.item_ids[3:20], "unheard of")
    recent = tuple(Recent(f"e{place}", item, "like", None, place, place, False) for place, item in enumerate(seen, 1))
    for state in (UserState("u", len(recent), recent, seen), UserState("nobody")):
        shown = [item.item_id for item in recommend(alone, state, None, Request(100, 10**9, seed=0)).shown]
        assert sorted(shown) == sorted(set(catalogue.item_ids) - set(state.seen))


def odd_worlds(make_training_set: Callable[..., TrainingSet]) -> dict[str, TrainingSet]:
    people = [f"u{number}" for number in range(30)]
    alike = [(place, f"u{place % 6}", f"i{place % 7}", "like", None, 5_000_000) for place in range(1, 41)]
    return {
        "a catalogue of one item": make_training_set(
            [(place, user, "only", "like", None, place * 1_000_000) for place, user in enumerate(people, 1)]
        ),
        "one moment": make_training_set(alike),
        "one event": make_training_set([(1, "u", "a", "view", None, 1)], ["a", "b", "c"]),
        "dislikes alone": make_training_set([(*row[:3], "dislike", None, row[0]) for row in alike]),
        "nothing used": make_training_set([(*row[:3], "impression", None, row[0]) for row in alike]),
    }


@pytest.mark.parametrize("name", NAMES)
def test_odd_worlds_are_scored_like_any_other_and_twice_the_same(name: str, make_training_set) -> None:
    for world_name, world in odd_worlds(make_training_set).items():
        part, count = fitted(name, world), len(world.catalogue)
        for batch in (random_batch(count), histories(world, groups(world, 0, 10**12))):
            scores = part.scores(batch)
            assert scores.shape == (len(batch), count), world_name
            assert np.isfinite(scores).all(), world_name
            np.testing.assert_array_equal(restored(part, world.catalogue).scores(batch), scores)
        again = fitted(name, world).tensors()
        assert all(again[key].tobytes() == array.tobytes() for key, array in part.tensors().items()), world_name


@pytest.mark.parametrize("name", ["popularity", "latest"])
def test_scores_that_everybody_shares_are_said_to_be(name: str, tastes: TrainingSet, batch: HistoryBatch) -> None:
    part = fitted(name, tastes)
    np.testing.assert_array_equal(part.scores(batch), np.broadcast_to(part.shared_N, (len(batch), len(part.shared_N))))
    assert np.abs(part.shared_N).max() <= 1.0
