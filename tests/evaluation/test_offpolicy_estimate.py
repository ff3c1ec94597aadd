"""Verdicts: what is refused, for which reason, and how much data would do."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.offpolicy_worlds import bandit_world, slate_world
from evaluation.offpolicy.estimate import OffPolicyLimits, estimate
from evaluation.offpolicy.estimators import Weighting
from evaluation.offpolicy.logs import BanditLog, SlateLog


def good_log(users: int = 500) -> BanditLog:
    rng = np.random.default_rng(11)
    return bandit_world("none", rng).draw(rng, users=users)


def test_a_good_log_is_decided_by_every_estimator() -> None:
    answer = estimate(good_log())
    assert {name for name, one in answer.estimates.items() if one.outcome == "decided"} == {
        "dm", "ips", "snips", "dr", "sndr", "switch-dr",
    }  # fmt: skip
    assert answer.diagnosis.users == 500
    assert answer.diagnosis.rows == 2000
    assert 100 < answer.diagnosis.effective < 2000


def test_too_little_data_is_a_value_that_says_how_much_it_takes() -> None:
    limits = OffPolicyLimits()
    small = estimate(good_log(users=25), limits).estimates["ips"]
    assert small.outcome == "refused"
    assert any("users" in reason for reason in small.reasons)
    assert small.rows_needed is not None
    assert f"{small.rows_needed:,} rows" in small.reasons[-1]
    enough = estimate(good_log(users=small.rows_needed // 4), limits).estimates["ips"]
    half = (enough.interval.high - enough.interval.low) / 2
    assert half == pytest.approx(limits.half_width, rel=0.35)


def test_one_row_is_no_error() -> None:
    verdict = estimate(BanditLog(np.ones(1), np.full(1, 0.5), np.full(1, 0.5))).estimates["ips"]
    assert verdict.outcome == "refused"
    assert verdict.interval.high == math.inf
    assert verdict.rows_needed is None


def test_a_policy_that_was_never_shown_at_all_is_refused() -> None:
    verdict = estimate(BanditLog(np.ones(200), np.full(200, 0.5), np.zeros(200))).estimates["snips"]
    assert verdict.outcome == "refused"
    assert any("never takes" in reason for reason in verdict.reasons)
    assert verdict.rows_needed is None


def test_slates_without_a_choice_are_not_evaluable() -> None:
    ones_SK = np.ones((200, 3))
    answer = estimate(SlateLog(ones_SK, ones_SK, np.full((200, 3), 0.5)))
    assert all("not evaluable" in " ".join(one.reasons) for one in answer.estimates.values())
    assert answer.diagnosis.certain == 200
    same = estimate(SlateLog(ones_SK, ones_SK, ones_SK))
    assert all(one.outcome == "decided" for one in same.estimates.values()), "its own value is what was seen"


def test_rounds_without_a_choice_are_not_evaluable() -> None:
    log = good_log()
    certain_N = log.propensities_N.copy()
    certain_N[:7] = 1.0
    few = estimate(replace(log, propensities_N=certain_N)).estimates["dr"]
    assert few.outcome == "decided"
    assert any(warning.startswith("7 of 2,000 rows are not evaluable") for warning in few.warnings)
    certain_N[:70] = 1.0
    many = estimate(replace(log, propensities_N=certain_N)).estimates["dr"]
    assert any(reason.startswith("70 of 2,000 rows are not evaluable") for reason in many.reasons)


def test_a_user_without_a_choice_counts_for_the_cap_at_most() -> None:
    """Of 1,000 rows of one user, 40 leave no choice: two in a hundred of all rows, less than one as rows count."""
    log, users_N = good_log(), np.arange(2000) // 4
    certain_N = log.propensities_N.copy()
    users_N[:1000] = 0
    certain_N[:40] = 1.0
    heavy = replace(log, users_N=users_N, propensities_N=certain_N)
    told = {cap: estimate(heavy, OffPolicyLimits(user_cap=cap)) for cap in (100.0, math.inf)}
    found = {cap: (one.diagnosis.certain, one.diagnosis.certain_share) for cap, one in told.items()}
    assert found == {100.0: (40, pytest.approx(4 / 1100)), math.inf: (40, 0.02)}
    is_refused = {cap: any("deterministic" in r for r in one.estimates["dr"].reasons) for cap, one in told.items()}
    assert is_refused == {100.0: False, math.inf: True}


def test_a_handful_of_rewards_decides_nothing() -> None:
    log = good_log()
    rare_N = np.zeros(len(log))
    rare_N[:5] = 1.0
    verdict = estimate(replace(log, rewards_N=rare_N)).estimates["ips"]
    assert any("rest on the worth of" in reason for reason in verdict.reasons)


def test_a_policy_judged_by_itself_is_decided_however_its_probabilities_were_rounded() -> None:
    rng = np.random.default_rng(6)
    log = slate_world("none", rng).draw(rng)
    own = replace(
        log, chances_SK=np.minimum(log.propensities_SK * (1 - 1e-12), 1.0), predicted_SK=None, expected_SK=None
    )
    answer = estimate(own)
    assert {one.outcome for one in answer.estimates.values()} == {"decided"}
    assert answer.estimates["rips"].interval.value == pytest.approx(np.nansum(log.rewards_SK) / len(log))


def test_clipping_is_stated() -> None:
    verdict = estimate(good_log(), weighting=Weighting(clip=2.0)).estimates["ips"]
    assert any(warning.startswith("clipping leaves") for warning in verdict.warnings)


def test_what_lies_above_the_switch_is_stated() -> None:
    verdict = estimate(good_log(), weighting=Weighting(switch=2.0)).estimates["switch-dr"]
    assert any("above the switch" in warning for warning in verdict.warnings)


def test_the_same_seed_gives_the_same_verdicts() -> None:
    log = good_log()
    one, two, other = estimate(log, seed=1), estimate(log, seed=1), estimate(log, seed=2)
    assert one == two
    assert one.estimates["ips"].interval != other.estimates["ips"].interval


def test_long_slates_are_refused_with_the_positions_that_hold() -> None:
    rng = np.random.default_rng(3)
    weights_SK = rng.choice([0.25, 1.75], (3000, 12))  # each position alone is fine, twelve of them are not
    log = SlateLog(np.ones((3000, 12)) * 0.5, np.full((3000, 12), 0.5), weights_SK * 0.5)
    answer = estimate(log)
    reasons = answer.estimates["rips"].reasons
    held = next(reason for reason in reasons if reason.startswith("the first"))
    k = int(held.split()[2])
    assert 1 < k < 12
    assert estimate(log.top(k)).diagnosis.effective >= OffPolicyLimits().effective


def test_a_slate_log_of_users_is_drawn_by_user() -> None:
    rng = np.random.default_rng(5)
    log = slate_world("none", rng).draw(rng)
    by_user, by_slate = estimate(log), estimate(replace(log, users_S=None))
    assert (by_user.diagnosis.users, by_slate.diagnosis.users) == (600, 1800)
