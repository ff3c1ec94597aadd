"""EASE against a ridge regression item by item, and what bounds its cost."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from attune.errors import ModelError
from models.ease import Ease, EaseChoice, ease_weights, gram
from models.history import KIND_INDEX, HistoryBatch
from models.learning.dataset import TrainingSet
from models.network.config import EaseGrid, Recipe

PLAIN = EaseChoice(penalty=2.0, history=50, decay=1.0, slope=0.0, neighbours=1_000, items=1_000)


def test_the_weights_are_those_of_a_ridge_regression_of_each_item_on_the_others() -> None:
    votes_UM = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (30, 6), p=[0.1, 0.5, 0.4])
    weights_MM = ease_weights(votes_UM.T @ votes_UM, 2.0)
    for item in range(6):
        others = np.arange(6) != item
        rest_UM = votes_UM[:, others]
        solved = np.linalg.solve(rest_UM.T @ rest_UM + 2.0 * np.eye(5), rest_UM.T @ votes_UM[:, item])
        np.testing.assert_allclose(weights_MM[others, item], solved, atol=1e-9)
    assert (weights_MM.diagonal() == 0).all()


def test_a_history_is_restored_by_its_rows(tastes: TrainingSet) -> None:
    ease = Ease.fit(tastes, PLAIN)
    gram_MM, places_M = gram(tastes, 1_000)
    assert len(places_M) == 28, "nobody used the others"
    row, column = np.array([[3, 0, 7]]), np.array([[KIND_INDEX["like"], 0, KIND_INDEX["dislike"]]])
    batch = HistoryBatch(
        items_BL=row,
        kinds_BL=column,
        rewards_BL=np.array([[1.0, 0.5, 0.0]], np.float32),
        times_BL=np.array([[1, 0, 2]]),
        item_stats_BLF=np.full((1, 3, 4), np.nan, np.float32),
        user_stats_BF=np.full((1, 4), np.nan, np.float32),
        now_B=np.array([9]),
    )
    weights_MM = ease_weights(gram_MM, PLAIN.penalty)
    expected_N = np.zeros(32)
    expected_N[places_M] = weights_MM[places_M.tolist().index(2)] - weights_MM[places_M.tolist().index(6)]
    np.testing.assert_allclose(ease.scores(batch)[0], expected_N, atol=1e-6)


def test_what_one_likes_and_another_dislikes_moves_apart(tastes: TrainingSet) -> None:
    weights_NN = Ease.fit(tastes, PLAIN).similarity_NN.toarray()
    own, other = weights_NN[:14, :14], weights_NN[:14, 16:30]
    assert own[~np.eye(14, dtype=bool)].mean() > 0 > other.mean()


def test_rows_keep_the_strongest(tastes: TrainingSet) -> None:
    whole = np.abs(Ease.fit(tastes, PLAIN).similarity_NN.toarray())
    few = Ease.fit(tastes, replace(PLAIN, neighbours=3)).similarity_NN
    assert set(np.diff(few.indptr)) == {0, 3}
    for row in np.flatnonzero(np.diff(few.indptr)):
        assert np.abs(few[row].data).min() >= np.sort(whole[row])[-3] - 1e-7


def test_a_large_catalogue_is_cut_to_its_most_used_items_and_the_log_says_so(
    tastes: TrainingSet, caplog: pytest.LogCaptureFixture
) -> None:
    grid = EaseGrid(penalties=(1.0, 50.0), items=10)
    with caplog.at_level(logging.INFO, "models.ease"):
        ease, tried = Ease.choose(tastes, Recipe("few", ease=grid), lambda one: -one.choice.penalty)
    assert "EASE takes the 10 most used items of 32" in caplog.text
    assert ease.choice.penalty == 1.0
    assert {row["penalty"] for row in tried} == {1.0, 50.0}
    used_N = np.bincount(tastes.items, minlength=32)
    heard = np.flatnonzero(np.diff(ease.similarity_NN.indptr))
    assert len(heard) == 10
    assert used_N[heard].min() >= np.sort(used_N)[-11]
    caplog.clear()
    Ease.choose(tastes, Recipe("all"), lambda one: 0.0)
    assert not caplog.text
    without, _ = Ease.choose(tastes, Recipe("none", ease=EaseGrid(items=0)), lambda one: 0.0)
    assert not without.similarity_NN.nnz


def test_a_penalty_that_leaves_it_unsolvable_is_refused() -> None:
    with pytest.raises(ModelError, match="penalty 0: choose a larger one"):
        ease_weights(np.ones((3, 3)), 0.0)
