"""The value of another policy from logged rounds: what each estimator sums.

The value is the mean reward of a round, in the unit of the rewards, had the evaluation policy chosen the actions.
w is the importance weight of a round, clipped as ``Weighting`` says, r its reward, q the reward model's prediction
for the action shown and v its mean over the evaluation policy's actions.

Every estimator takes a log of N rounds and gives ``Terms`` of N rows; those that need a reward model raise
ValueError where the log has none.
"""

from collections.abc import Callable

import numpy as np

from models.evaluation.offpolicy.logs import BanditLog
from models.evaluation.offpolicy.terms import AS_THEY_ARE, Terms, Weighting, mean, ratio


def direct(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v): right where the reward model is, whatever the propensities.

    Dudik, Langford and Li (2011), "Doubly robust policy evaluation and learning", section 2 (the direct method).
    """
    return mean(_model(log)[1])


def ips(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(w r): unbiased with right propensities that cover the evaluation policy.

    Horvitz and Thompson (1952); for policies Dudik, Langford and Li (2011), section 2.
    """
    return mean(weighting.clipped(log.weights_N) * log.rewards_N)


def snips(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """sum(w r) / sum(w): a bias that fades with the rows against a smaller variance; never outside the rewards.

    Swaminathan and Joachims (2015), "The self-normalized estimator for counterfactual learning", the section on
    control variates and the self-normalised estimator.
    """
    weights_N = weighting.clipped(log.weights_N)
    return ratio(weights_N * log.rewards_N, weights_N)


def doubly_robust(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v + w (r - q)): right where the propensities or the reward model are.

    Dudik, Langford and Li (2011), section 2 (the doubly robust estimator).
    """
    predicted_N, expected_N = _model(log)
    return mean(expected_N + weighting.clipped(log.weights_N) * (log.rewards_N - predicted_N))


def self_normalised_dr(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v) + sum(w (r - q)) / sum(w).

    Thomas and Brunskill (2016), "Data-efficient off-policy policy evaluation for reinforcement learning", the
    weighted doubly robust estimator, for one step.
    """
    predicted_N, expected_N = _model(log)
    weights_N = weighting.clipped(log.weights_N)
    return ratio(weights_N * (log.rewards_N - predicted_N), weights_N, expected_N)


def switch_dr(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v + w [w <= switch] (r - q)): above the switch the reward model alone speaks, and must be right there.

    Wang, Agarwal and Dudik (2017), "Optimal and adaptive off-policy evaluation in contextual bandits", the SWITCH
    estimator with the doubly robust part below the threshold.
    """
    predicted_N, expected_N = _model(log)
    weights_N = np.where(log.weights_N <= weighting.switch, weighting.clipped(log.weights_N), 0.0)
    return mean(expected_N + weights_N * (log.rewards_N - predicted_N))


Estimator = Callable[[BanditLog, Weighting], Terms]

BANDIT_ESTIMATORS: dict[str, Estimator] = {
    "dm": direct,
    "ips": ips,
    "snips": snips,
    "dr": doubly_robust,
    "sndr": self_normalised_dr,
    "switch-dr": switch_dr,
}
NEEDS_MODEL = frozenset({"dm", "dr", "sndr", "switch-dr", "cascade-dr"})


def _model(log: BanditLog) -> tuple[np.ndarray, np.ndarray]:
    """The reward model's predictions (q, v), float64 (N)."""
    if log.predicted_N is None or log.expected_N is None:
        raise ValueError("this estimator needs a reward model: give the log predicted_N and expected_N")
    return np.asarray(log.predicted_N, np.float64), np.asarray(log.expected_N, np.float64)
