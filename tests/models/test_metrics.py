"""The figures against brute force, written down from their definitions one event at a time."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import Evaluation, coverage, event_values, group_values, summary, values

RANK = st.one_of(st.integers(1, 30).map(float), st.just(math.inf))


@given(st.lists(RANK, min_size=1, max_size=20), st.integers(2, 40))
def test_event_metrics_by_brute_force(ranks: list[float], more: int) -> None:
    candidates = [(0 if math.isinf(rank) else int(rank)) + more for rank in ranks]
    for metric in ("hr@10", "ndcg@10", "mrr", "auc"):
        expected = [_event(metric, rank, count) for rank, count in zip(ranks, candidates, strict=True)]
        assert event_values(metric, np.array(ranks), np.array(candidates)) == pytest.approx(expected)


def _event(metric: str, rank: float, candidates: int) -> float:
    if math.isinf(rank):
        return 0.0
    if metric == "hr@10":
        return float(rank in range(1, 11))
    if metric == "ndcg@10":
        gains = [1.0 if place == rank else 0.0 for place in range(1, 11)]
        return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, start=1))
    if metric == "mrr":
        return 1 / rank
    below = [place for place in range(1, candidates + 1) if place > rank]
    return len(below) / (candidates - 1)


@given(st.sets(st.integers(0, 20), min_size=1), st.permutations(range(21)))
def test_group_metrics_by_brute_force(relevant: set[int], order: list[int]) -> None:
    hits = len(relevant & set(order[:10]))
    precision, recall = hits / 10, hits / len(relevant)
    both = 0.0 if hits == 0 else 2 / (1 / precision + 1 / recall)
    for metric, expected in (("precision@10", precision), ("recall@10", recall), ("f1@10", both)):
        assert group_values(metric, np.array([hits]), np.array([len(relevant)]))[0] == pytest.approx(expected)


def test_auc_is_absent_where_nothing_competes() -> None:
    assert np.isnan(event_values("auc", np.array([1.0]), np.array([1]))[0])


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(ValueError, match="hr@11"):
        event_values("hr@11", np.ones(1), np.ones(1))


def _evaluation() -> Evaluation:
    events = pd.DataFrame(
        {
            "group": [0, 0, 1],
            "user_id": ["a", "a", "b"],
            "position": [1, 2, 3],
            "reward": [1.0, 0.0, 0.75],
            "rank": [1.0, 12.0, math.inf],
            "candidates": [20, 20, 20],
        }
    )
    groups = pd.DataFrame({"user_id": ["a", "b"], "relevant": [2, 1], "hits": [1, 0]})
    groups["relevant_positive"], groups["hits_positive"] = [1, 1], [1, 0]
    lists_GK = np.array([[0, 1, 2, -1, -1, -1, -1, -1, -1, -1], [0, 1, 3, -1, -1, -1, -1, -1, -1, -1]])
    return Evaluation("x", events, groups, lists_GK, 40, 0, 0, 1, 0.0)


def test_a_summary_counts_what_it_rests_on() -> None:
    table = summary(_evaluation())
    assert table["all"]["events"] == 3
    assert table["positive"]["events"] == 2
    assert table["all"]["hr@10"] == pytest.approx(1 / 3)
    assert table["positive"]["hr@10"] == pytest.approx(1 / 2)
    assert table["all"]["recall@10"] == pytest.approx(1 / 4)
    assert table["positive"]["recall@10"] == pytest.approx(1 / 2)
    assert table["all"]["coverage@10"] == pytest.approx(4 / 40)


def test_some_of_the_users_alone() -> None:
    only = _evaluation().only({"b"})
    assert values(only, "mrr")[1].tolist() == [0.0]
    assert coverage(only) == pytest.approx(3 / 40)
