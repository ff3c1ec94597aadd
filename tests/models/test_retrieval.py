"""Exact search: what is removed never takes a place, ties stand in catalogue order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.ranking.retrieval import top_k

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(SCORES, st.integers(1, 40), st.data())
def test_equals_a_full_sort_without_the_removed(scores: list[int], k: int, data: st.DataObject) -> None:
    removed = data.draw(st.lists(st.integers(-1, len(scores) - 1), max_size=30))
    left = [place for place in range(len(scores)) if place not in removed]
    expected = sorted(left, key=lambda place: (-scores[place], place))[:k]
    assert top_k(np.array(scores, np.float32), k, np.array(removed, np.int64)).tolist() == expected


def test_k_come_back_when_the_best_are_all_removed() -> None:
    scores_N = np.arange(1000, dtype=np.float32)
    found = top_k(scores_N, 10, np.arange(100, 1000))
    assert found.tolist() == list(range(99, 89, -1))


def test_the_scores_are_not_touched() -> None:
    scores_N = np.ones(5, np.float32)
    top_k(scores_N, 2, np.array([0, 1]))
    assert (scores_N == 1).all()
