"""The figures against brute force, written down from their definitions one event at a time."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import Evaluation, coverage, decisive, event_values, graded, group_values, summary, values

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
    groups["relevant_negative"], groups["hits_negative"] = [1, 0], [0, 0]
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
    assert (table["negative"]["events"], table["negative"]["hr@10"]) == (1, 0.0)


def test_a_disliked_item_in_the_list_costs_what_a_liked_one_gains() -> None:
    values_E, rewards_E = np.array([0.5, 0.5, 1.0, 1.0]), np.array([1.0, 0.75, 0.0, 0.5])
    assert graded(values_E, rewards_E) == pytest.approx((1.0 * 0.5 + 0.5 * 0.5 - 1.0 * 1.0) / (1.0 + 0.5))
    assert graded(values_E[:2], rewards_E[:2]) == pytest.approx(0.5), "where nothing is disliked, a mean"
    assert graded(values_E[2:], rewards_E[2:]) == pytest.approx(-1.0), "where nothing is liked, the cost"
    assert graded(values_E[3:], rewards_E[3:]) == 1.0, "where neither, the mean of all"
    assert graded(values_E[:0], rewards_E[:0]) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1), st.data())
def test_a_better_place_for_a_liked_item_and_a_worse_for_a_disliked_one_are_no_loss(targets, data) -> None:
    values_E, rewards_E = np.array(targets).T
    place = data.draw(st.integers(0, len(targets) - 1))
    raised_E = values_E.copy()
    raised_E[place] = data.draw(st.floats(values_E[place], 1))
    change = graded(raised_E, rewards_E) - graded(values_E, rewards_E)
    assert change >= -1e-9 if rewards_E[place] >= 0.5 else change <= 1e-9


def test_what_decides_is_what_people_like_or_all_where_nothing_is_liked_or_disliked() -> None:
    found = _evaluation()
    assert decisive(found) == "positive"
    assert decisive(replace(found, events=found.events.assign(reward=0.5))) == "all"
    assert decisive(replace(found, events=found.events[1:2])) == "positive", "of dislikes alone nothing is a hit"
    assert found.of("negative").events["position"].tolist() == [2]
    with pytest.raises(ValueError, match="unknown slice"):
        found.of("neutral")


def test_some_of_the_users_alone() -> None:
    only = _evaluation().only({"b"})
    assert values(only, "mrr")[1].tolist() == [0.0]
    assert coverage(only) == pytest.approx(3 / 40)
