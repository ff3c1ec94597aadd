"""How a change is judged: which positions count, and how seldom a challenger that is as good is refused."""

import numpy as np
import pytest

from models.evaluation.gates import GateLimits, off_policy_value
from models.evaluation.offpolicy.change import ValueChange, value_change
from models.evaluation.offpolicy.logs import SlateLog
from models.evaluation.offpolicy.replayed import Replayed
from models.ranking.policy import Lot, PlackettLuce

USERS, ROUNDS, POSITIONS, CANDIDATES = 100, 8, 3, 20
POLICY = PlackettLuce(0.3)


def as_good(seed: int, gap: float) -> ValueChange:
    """Rewards are a user's and no item's, so every policy is worth the same; scores lie ``gap`` apart."""
    rng = np.random.default_rng(seed)
    theirs_UC = rng.normal(0, 0.3, (USERS, CANDIDATES))
    ours_UC = theirs_UC + rng.normal(0, gap, theirs_UC.shape)
    users_S = np.repeat(np.arange(USERS), ROUNDS)
    drawn = POLICY.draw_many([Lot(theirs_UC[user], POSITIONS, rng) for user in users_S])
    ours = [Lot(ours_UC[user], POSITIONS, rng) for user in users_S]
    chances_SK = np.stack(POLICY.propensities_of(ours, [one.places_K for one in drawn]))
    liked_S1 = rng.uniform(0.1, 0.5, USERS)[users_S][:, None]
    log = SlateLog(
        rewards_SK=(rng.random(chances_SK.shape) < liked_S1).astype(float),
        propensities_SK=np.stack([one.propensities_K for one in drawn]),
        chances_SK=np.minimum(chances_SK, 1.0),
        users_S=users_S,
    )
    return value_change(Replayed(log, {}, len(log), len(log)), replicates=500)


def test_the_further_apart_the_scores_the_fewer_positions_count() -> None:
    tops = [as_good(3, gap).top for gap in (0.1, 0.35, 0.7)]
    assert tops[0] == POSITIONS
    assert tops == sorted(tops, reverse=True)
    assert tops[-1] < POSITIONS


@pytest.mark.parametrize("gap", [0.1, 0.2, 0.3])
def test_a_challenger_that_is_as_good_seldom_fails(gap: float) -> None:
    """One in forty by construction; heavy weights make intervals a little narrow (7 of 292 in a longer run failed)."""
    found = [as_good(seed, gap) for seed in range(40)]
    verdicts = [off_policy_value(one, GateLimits()).verdict for one in found]
    assert verdicts.count("pass") >= 30
    assert verdicts.count("fail") <= 4
