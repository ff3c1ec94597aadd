"""How a change is judged: which positions count, how much a user does, how seldom one as good is refused."""

import numpy as np
import pytest

from evaluation.gates.off_policy_value import OffPolicyValue
from evaluation.offpolicy.estimate import OffPolicyLimits
from evaluation.offpolicy.logged_policy import LoggedSlates
from evaluation.offpolicy.logs import SlateLog
from evaluation.offpolicy.value_change import ValueChange, value_change
from models.ranking.policy import PlackettLuce, Pool

USERS, ROUNDS, POSITIONS, CANDIDATES = 100, 8, 3, 20
POLICY = PlackettLuce(0.3)


def as_good(seed: int, gap: float) -> ValueChange:
    """Rewards are a user's and no item's, so every policy is worth the same; scores lie ``gap`` apart."""
    rng = np.random.default_rng(seed)
    theirs_UC = rng.normal(0, 0.3, (USERS, CANDIDATES))
    ours_UC = theirs_UC + rng.normal(0, gap, theirs_UC.shape)
    users_S = np.repeat(np.arange(USERS), ROUNDS)
    drawn = POLICY.draw_many([Pool(theirs_UC[user], POSITIONS, rng) for user in users_S])
    ours = [Pool(ours_UC[user], POSITIONS, rng) for user in users_S]
    chances_SK = np.stack(POLICY.propensities_of(ours, [one.places_K for one in drawn]))
    liked_S1 = rng.uniform(0.1, 0.5, USERS)[users_S][:, None]
    log = SlateLog(
        rewards_SK=(rng.random(chances_SK.shape) < liked_S1).astype(float),
        propensities_SK=np.stack([one.propensities_K for one in drawn]),
        chances_SK=np.minimum(chances_SK, 1.0),
        users_S=users_S,
    )
    return value_change(LoggedSlates(log, {}, len(log), len(log)), replicates=500)


def test_the_further_apart_the_scores_the_fewer_positions_count() -> None:
    tops = [as_good(3, gap).top for gap in (0.1, 0.35, 0.7)]
    assert tops[0] == POSITIONS
    assert tops == sorted(tops, reverse=True)
    assert tops[-1] < POSITIONS


@pytest.mark.parametrize("gap", [0.1, 0.2, 0.3])
def test_a_challenger_that_is_as_good_seldom_fails(gap: float) -> None:
    """One in forty by construction; heavy weights make intervals a little narrow (7 of 292 in a longer run failed)."""
    found = [as_good(seed, gap) for seed in range(40)]
    verdicts = [OffPolicyValue().verdict(one).verdict for one in found]
    assert verdicts.count("pass") >= 30
    assert verdicts.count("fail") <= 4


def crowd(users: int, slates: int, liked: float, first: int, rng: np.random.Generator) -> SlateLog:
    """Two items, shown evenly; the challenger shows the first in nine of ten, which pleases so often, as the other not.

    It is worth 0.8 * (liked - 0.5) more than what was shown.
    """
    is_first_S = rng.random(users * slates) < 0.5
    chances_S = np.where(is_first_S, 0.9, 0.1)
    pleased_S = rng.random(users * slates) < np.where(is_first_S, liked, 1 - liked)
    users_S = np.repeat(np.arange(first, first + users), slates)
    return SlateLog(pleased_S[:, None] * 1.0, np.full((len(users_S), 1), 0.5), chances_S[:, None], users_S=users_S)


def together(*logs: SlateLog) -> SlateLog:
    """All rows of logs without a reward model."""
    names = ("rewards_SK", "propensities_SK", "chances_SK", "users_S")
    return SlateLog(**{name: np.concatenate([getattr(one, name) for one in logs]) for name in names})


def valued(log: SlateLog, cap: float = OffPolicyLimits().user_cap) -> ValueChange:
    return value_change(LoggedSlates(log, {}, len(log), len(log)), OffPolicyLimits(user_cap=cap))


@pytest.mark.parametrize(("liked", "against", "verdict"), [(0.6, 0.2, "pass"), (0.2, 0.6, "fail")])
def test_a_dozen_accounts_with_a_thousand_slates_each_turn_no_verdict(
    liked: float, against: float, verdict: str
) -> None:
    rng = np.random.default_rng(3)
    people, accounts = crowd(200, 10, liked, 0, rng), crowd(12, 1000, against, 1000, rng)
    other = {"pass": "fail", "fail": "pass"}[verdict]
    told = {
        "people": OffPolicyValue().verdict(valued(people)).verdict,
        "capped": OffPolicyValue().verdict(valued(together(people, accounts))).verdict,
        "uncapped": OffPolicyValue().verdict(valued(together(people, accounts), np.inf)).verdict,
    }
    assert told == {"people": verdict, "capped": verdict, "uncapped": other}


def test_a_user_counts_for_the_cap_at_most() -> None:
    """Slates of a user that count for a tenth each: the values are those of the weighted means, made by hand."""
    rng = np.random.default_rng(5)
    people, account = crowd(60, 10, 0.6, 0, rng), crowd(1, 1000, 0.2, 1000, rng)
    found = valued(together(people, account))
    parts = [(log.rewards_SK[:, 0], log.prefixes_SK[:, 0]) for log in (people, account)]
    shown = (parts[0][0].sum() + parts[1][0].sum() / 10) / 700
    assert found.shown.value == pytest.approx(shown)
    assert found.challenger.value == pytest.approx(
        sum((r * w).sum() / c for (r, w), c in zip(parts, (1, 10), strict=True)) / 700
    )
    squares = np.square(parts[0][1]).sum() + np.square(parts[1][1] / 10).sum()
    assert found.effective == pytest.approx((parts[0][1].sum() + parts[1][1].sum() / 10) ** 2 / squares)
    assert found.shown.low < shown < found.shown.high
    assert (found.slates, found.users) == (1600, 61)


def test_where_nobody_has_more_slates_than_the_cap_nothing_changes() -> None:
    log = crowd(60, 10, 0.6, 0, np.random.default_rng(5))
    assert valued(log, cap=10) == valued(log, cap=np.inf)
    assert valued(log, cap=9) != valued(log, cap=np.inf)
