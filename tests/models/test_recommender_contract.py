"""One suite of checks over every recommender: what ``models.history.Recommender`` promises."""

import copy
import json
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from models.baselines import ItemKnn, Popularity
from models.catalogue import Catalogue
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid
from models.learning.training import Trained
from models.network.sequence import SequenceRecommender
from models.sources import Part

RESTORE: dict[str, Callable[[Catalogue, dict, dict], Part]] = {
    "network": SequenceRecommender.restore,
    "item-knn": lambda catalogue, settings, tensors: ItemKnn.restore(settings, tensors),
    "popularity": lambda catalogue, settings, tensors: Popularity.restore(settings, tensors),
    "hybrid": Hybrid.restore,
}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(params=sorted(RESTORE))
def recommender(request: pytest.FixtureRequest, trained_on_tastes: Trained) -> Part:
    hybrid = replace(trained_on_tastes.hybrid, weights=(0.4, 0.4, 0.2))
    return {one.name: one for one in (*hybrid.parts, hybrid)}[request.param]


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
    settings = json.loads(json.dumps(recommender.settings()))
    back = RESTORE[recommender.name](trained_on_tastes.catalogue, settings, recommender.tensors())
    np.testing.assert_array_equal(back.scores(batch), recommender.scores(batch))
    assert back.settings() == recommender.settings()
    assert all(array.flags.c_contiguous for array in recommender.tensors().values())
