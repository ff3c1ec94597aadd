"""Intervals by user: the right width, paired where two models saw the same events."""

import math

import numpy as np
import pandas as pd
import pytest

from evaluation.case import Evidence
from evaluation.gates.rivals import Rivals
from evaluation.intervals import effective, interval, paired, paired_sums
from models.metrics import Evaluation


def evaluation(users: list[str], ranks: list[float], name: str = "x") -> Evaluation:
    events = pd.DataFrame({"group": range(len(users)), "user_id": users, "position": range(len(users))})
    events["reward"], events["rank"], events["candidates"] = 1.0, ranks, 100
    groups = pd.DataFrame({"user_id": users, "relevant": 1, "hits": (np.array(ranks) <= 10).astype(int)})
    groups["relevant_positive"], groups["hits_positive"] = groups["relevant"], groups["hits"]
    groups["relevant_negative"] = groups["hits_negative"] = 0
    return Evaluation(name, events, groups, np.full((len(users), 10), -1), 100, 0, 0, 0, 0.0)


def test_equals_a_bootstrap_written_with_loops() -> None:
    rng = np.random.default_rng(1)
    users = [f"u{place}" for place in rng.integers(0, 40, 300)]
    ranks = rng.integers(1, 30, 300).astype(float)
    found = interval(evaluation(users, ranks.tolist()), "hr@10")
    by_user = [ranks[[u == name for u in users]] <= 10 for name in sorted(set(users))]

    def mean_and_error(sample: list[np.ndarray]) -> tuple[float, float]:
        mean = np.concatenate(sample).mean()
        return mean, math.sqrt(sum((hits - mean).sum() ** 2 for hits in sample)) / sum(map(len, sample))

    value, error = mean_and_error(by_user)
    distances = []
    for _ in range(2000):
        mean, its_error = mean_and_error([by_user[place] for place in rng.integers(0, len(by_user), len(by_user))])
        distances.append((mean - value) / its_error)
    near, far = np.quantile(distances, [0.025, 0.975])
    assert found.value == pytest.approx(value) == (ranks <= 10).mean()
    assert found.low == pytest.approx(value - far * error, abs=0.01)
    assert found.high == pytest.approx(value - near * error, abs=0.01)


def test_the_interval_leans_to_the_side_where_a_few_lose_much() -> None:
    """Nine of ten users gain a little; plain quantiles would lie too high, since many replicates hold few losers."""
    changes_U = np.where(np.arange(60) % 10 == 0, -0.9, 0.1)
    found = paired_sums(0.5 + changes_U, np.full(60, 0.5), np.ones(60))
    assert found.absolute.value == pytest.approx(0.0, abs=1e-9)
    assert -found.absolute.low > 1.2 * found.absolute.high


def test_users_of_unequal_weight_are_worth_fewer() -> None:
    assert effective(np.full(30, 7.0)) == pytest.approx(30)
    assert effective(np.array([100.0, *np.ones(20)])) == pytest.approx(1.43, abs=0.01)
    assert effective(np.zeros(0)) == 0


def test_events_of_one_user_are_not_independent() -> None:
    spread = evaluation([f"u{place}" for place in range(200)], [1.0, 99.0] * 100)
    clustered = evaluation([f"u{place // 20}" for place in range(200)], [1.0] * 100 + [99.0] * 100)
    widths = [found.high - found.low for found in (interval(spread, "hr@10"), interval(clustered, "hr@10"))]
    assert widths[1] > 3 * widths[0]


def test_a_pair_is_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(2)
    users = [f"u{place % 50}" for place in range(1000)]
    ranks = rng.integers(2, 30, 1000).astype(float)
    better, worse = evaluation(users, (ranks - 1).tolist()), evaluation(users, ranks.tolist())
    found = paired(better, worse, "mrr")
    assert found.absolute.low > 0
    assert found.users == 50
    assert found.rows == 1000
    assert found.relative.value == pytest.approx((1 / (ranks - 1)).mean() / (1 / ranks).mean() - 1)
    same = paired(worse, worse, "mrr")
    assert (same.absolute.low, same.absolute.high, same.relative.low, same.relative.high) == (0, 0, 0, 0)


def test_coverage_of_the_interval_on_a_world_whose_truth_is_known() -> None:
    rng, inside = np.random.default_rng(3), 0
    for seed in range(100):
        chance_U = rng.beta(2, 6, 60)  # each user's own rate, mean 0.25
        users = np.repeat([f"u{place}" for place in range(60)], 10)
        ranks = np.where(rng.random(600) < np.repeat(chance_U, 10), 1.0, 50.0)
        found = interval(evaluation(users.tolist(), ranks.tolist()), "hr@10", replicates=400, seed=seed)
        inside += found.low <= 0.25 <= found.high
    assert 88 <= inside <= 100


def test_one_user_says_nothing_of_others() -> None:
    found = interval(evaluation(["u"] * 5, [1.0] * 5), "hr@10")
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)


def test_against_nothing_every_gain_is_infinite_and_nothing_is_no_change() -> None:
    users = ["a", "b"]
    none, some = evaluation(users, [99.0, 99.0]), evaluation(users, [1.0, 1.0])
    assert paired(some, none, "hr@10").relative.low == math.inf
    assert paired(none, none, "hr@10").relative.low == 0.0


def test_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="same events"):
        paired(evaluation(["a"], [1.0]), evaluation(["a", "b"], [1.0, 1.0]), "mrr")


def test_no_events_at_all() -> None:
    found = interval(evaluation([], []), "ndcg@10")
    assert (found.value, found.low, found.high) == (0.0, -math.inf, math.inf)


def test_a_user_with_thousands_of_events_turns_no_verdict() -> None:
    """Of 60 people each prefers the challenger a little; one more, with 50 times their events, cannot stand it."""
    rng = np.random.default_rng(4)
    users = [f"u{place // 50}" for place in range(3_000)] + ["bot"] * 3_000
    chance_E = np.concatenate([np.full(3_000, 0.5), np.zeros(3_000)])
    theirs = np.concatenate([np.where(rng.random(3_000) < 0.4, 1.0, 50.0), np.ones(3_000)])
    ours = np.where(rng.random(6_000) < chance_E, 1.0, 50.0)
    challenger, champion = evaluation(users, ours.tolist()), evaluation(users, theirs.tolist())
    freely = paired(challenger, champion, "ndcg@10")
    capped = paired(challenger, champion, "ndcg@10", cap=50)
    without = paired(challenger.only(set(users[:3_000])), champion.only(set(users[:3_000])), "ndcg@10", cap=50)
    assert freely.absolute.value < -0.3
    assert capped.absolute.low > 0
    assert capped.absolute.value == pytest.approx(without.absolute.value, abs=0.03)
    assert (freely.rows, capped.rows, capped.users) == (6_000, 3_050, 61), "nor is it evidence of thousands"
    verdicts = [
        Rivals().verdict("champion", one.relative, Evidence(one.users, one.rows, one.effective)).verdict
        for one in (freely, capped)
    ]
    assert freely.effective == pytest.approx(4.0, abs=0.1), "one account is half of all there is"
    assert verdicts == ["undecided", "pass"]


def test_below_the_cap_nobody_counts_for_less() -> None:
    rng = np.random.default_rng(5)
    users = [f"u{place}" for place in rng.integers(0, 30, 400)]
    pair = [evaluation(users, rng.integers(1, 30, 400).astype(float).tolist()) for _ in range(2)]
    assert paired(*pair, "ndcg@10", cap=400.0) == paired(*pair, "ndcg@10")
