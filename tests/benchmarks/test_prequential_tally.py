"""What is summed of a replay, against the figures of whole evaluations and lists worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.prequential import EVERYBODY, MEASURES, NEW, OLD, Tally, WindowAnswers, hits
from evaluation import intervals
from evaluation.gates.variety import diversity, genre_vectors, novelty, self_information
from evaluation.replay import replay
from models.learning.dataset import TrainingSet

CUT_POSITION = 0


def test_hits_by_hand() -> None:
    lists_TK = np.array([[4, 2, 7], [1, -1, -1], [1, -1, -1]])
    hit_T, gain_T = hits(lists_TK, np.array([2, 1, 5]))
    assert hit_T.tolist() == [1.0, 1.0, 0.0]
    assert gain_T.tolist() == [pytest.approx(1 / np.log2(3)), 1.0, 0.0]


def test_novelty_is_the_mean_of_bits_and_a_missing_item_counts_for_nothing() -> None:
    bits_N = np.array([1.0, 3.0, 8.0])
    assert novelty(np.array([[0, 1], [2, -1], [-1, -1]]), bits_N).tolist() == [2.0, 8.0, 0.0]


def test_rare_items_have_more_bits(make_training_set: Callable) -> None:
    rows = [(place, f"u{place}", "often", "like", None, place) for place in range(1, 7)]
    bits_N = self_information(make_training_set(rows, ["never", "often"]))
    assert bits_N.tolist() == [3.0, pytest.approx(-np.log2(7 / 8))]


def test_diversity_by_hand() -> None:
    vectors_ND = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    lists_BK = np.array([[0, 1, -1], [0, 2, -1], [0, 1, 2], [0, 3, -1], [0, -1, -1]])
    assert diversity(lists_BK, vectors_ND).tolist() == pytest.approx([1.0, 0.0, 2 / 3, 1.0, 0.0])


def test_genres_say_how_alike_items_are(planted: TrainingSet) -> None:
    vectors_NG = genre_vectors(planted.catalogue)
    alike = [planted.catalogue.genres[0] == genres for genres in planted.catalogue.genres]
    np.testing.assert_allclose(vectors_NG @ vectors_NG[0], np.array(alike, float), atol=1e-6)


def _tally(name: str, users_T: np.ndarray, values_T: np.ndarray, liked_T: np.ndarray, before_U: np.ndarray) -> Tally:
    tally = Tally(name, before_U, items=5)
    for part in np.array_split(np.arange(len(users_T)), 3):
        values_MT = np.tile(values_T[part], (len(MEASURES), 1))
        lists_TK = np.tile([name == "other", 3], (len(part), 1)).astype(np.int64)
        earlier_T = np.arange(len(part))
        tally.take(WindowAnswers(users_T[part], earlier_T, liked_T[part], lists_TK, values_MT), len(part), 0.5)
    return tally


def test_intervals_are_those_of_the_whole_evaluation(planted: TrainingSet, hashed: type, cut: int) -> None:
    """The sums of users give the same bootstrap as the rows of a replay do."""
    evaluations = [replay(hashed(len(planted.catalogue), 1009, salt), planted, cut, 10**9) for salt in (0, 5)]
    tallies = []
    for evaluation in evaluations:
        events = evaluation.events
        users_T = np.searchsorted(planted.user_ids.astype(str), events["user_id"].to_numpy(str))
        hit_T = (events["rank"] <= 10).to_numpy(float)
        liked_T = (events["reward"] > 0.5).to_numpy()
        tallies.append(_tally(evaluation.name, users_T, hit_T, liked_T, np.zeros(len(planted.user_ids), np.int64)))
    for part, name in (("all", "all"), ("liked", "positive")):
        assert tallies[0].interval("hr@10", part=part) == intervals.interval(evaluations[0], "hr@10", name)
        told = tallies[0].times(tallies[1], "hr@10", part=part)
        expected = intervals.paired(*evaluations, "hr@10", name).relative
        assert (told.value, told.low, told.high) == pytest.approx(
            (1 + expected.value, 1 + expected.low, 1 + expected.high)
        )


def test_slices_coverage_and_cost() -> None:
    users_T, liked_T = np.array([0, 0, 1, 2, 2, 2]), np.array([True, False, True, True, True, False])
    tally = _tally("one", users_T, np.arange(6.0), liked_T, before_U=np.array([0, 3, 12]))
    assert (tally.events(), tally.events(part="liked"), tally.events(NEW), tally.events(OLD)) == (6, 4, 2, 4)
    assert tally.interval("ndcg@10", OLD, "liked").value == pytest.approx((2 + 3 + 4) / 3)
    assert tally.coverage(EVERYBODY) == 2 / 5
    assert (tally.seconds, tally.groups, len(tally.rolling)) == (1.5, 6, 3)
    assert tally.rolling[0][0] == 2.0


def test_arms_that_were_asked_otherwise_are_not_compared() -> None:
    before_U = np.zeros(3, np.int64)
    one = _tally("one", np.array([0, 1, 2]), np.ones(3), np.ones(3, bool), before_U)
    other = _tally("other", np.array([0, 1, 1]), np.ones(3), np.ones(3, bool), before_U)
    with pytest.raises(ValueError, match="did not answer the same"):
        one.times(other, "hr@10")
