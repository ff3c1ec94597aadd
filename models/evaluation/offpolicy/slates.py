"""The value of another policy from logged slates: what each estimator sums.

The value is the mean of a slate's summed rewards, in the unit of the rewards, had the evaluation policy drawn the
slates. w_k is a slate's importance weight down to position k, clipped as ``Weighting`` says; r_k, q_k and v_k are
the reward there and the reward model's two predictions (see ``SlateLog``).

Every estimator takes a log of S slates and gives ``Terms`` of S rows.
"""

from collections.abc import Callable

import numpy as np

from models.evaluation.offpolicy.logs import SlateLog
from models.evaluation.offpolicy.terms import AS_THEY_ARE, Terms, Weighting, mean


def slate_ips(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(w_K sum_k r_k): a slate is one action; unbiased however its items act on one another.

    Its weight is a product over all positions, so its variance grows with the length of a slate as none other does.
    """
    return mean(weighting.clipped(log.prefixes_SK[:, -1]) * _rewards(log).sum(axis=1))


def rips(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(sum_k w_k r_k): unbiased where a reaction depends on the items above and at its position alone.

    McInerney, Brost, Chandar, Mehrotra and Carterette (2020), "Counterfactual evaluation of slate recommendations
    with sequential reward interactions": the weights of its estimator, without its normalisation and look-back.
    """
    return mean((weighting.clipped(log.prefixes_SK) * _rewards(log)).sum(axis=1))


def cascade_dr(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(sum_k w_k (r_k - q_k) + w_(k-1) v_k), w_0 = 1: as RIPS, with a reward model against the variance.

    Unbiased where RIPS is, whatever the model, as long as ``expected_SK`` is the mean of the same model that gave
    ``predicted_SK``. Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto (2022), "Doubly robust off-policy
    evaluation for ranking policies under the cascade behavior model", the Cascade-DR estimator.
    Raises ValueError where the log has no reward model.
    """
    if log.predicted_SK is None or log.expected_SK is None:
        raise ValueError("cascade-dr needs a reward model: give the log predicted_SK and expected_SK")
    shown_SK = log.shown_SK
    upto_SK = weighting.clipped(log.prefixes_SK)
    above_SK = np.concatenate([np.ones((len(log), 1)), upto_SK[:, :-1]], axis=1)
    residuals_SK = np.where(shown_SK, _rewards(log) - log.predicted_SK, 0.0)
    return mean((upto_SK * residuals_SK + above_SK * np.where(shown_SK, log.expected_SK, 0.0)).sum(axis=1))


SlateEstimator = Callable[[SlateLog, Weighting], Terms]

SLATE_ESTIMATORS: dict[str, SlateEstimator] = {"slate-ips": slate_ips, "rips": rips, "cascade-dr": cascade_dr}


def _rewards(log: SlateLog) -> np.ndarray:
    """The rewards, 0 where a slate has no such position."""
    return np.where(log.shown_SK, log.rewards_SK, 0.0)
