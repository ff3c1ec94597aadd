"""Estimators of another policy's value from logged rounds or slates, and one bootstrap for everything asked of a log.

The value is the mean reward of a round, or of a slate's summed rewards, had the evaluation policy chosen what was
shown. Estimators that need a reward model raise ValueError where the log has none.

w is the importance weight of a round, w_k that of a slate down to position k, both clipped as ``Weighting`` says; r is
the reward, q the reward model's prediction for what was shown and v its mean over the evaluation policy's choices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.intervals import REPLICATES, Draw, Interval, by_user, percentiles, quotients, replicated
from evaluation.offpolicy.logs import BanditLog, SlateLog


@dataclass(frozen=True)
class Terms:
    """An estimate as float64 sums over N rows: mean(plain_N) + sum(weighted_N) / sum(norms_N), norms >= 0.

    Only a self-normalised estimator has a weighted part: each replicate forms it anew.
    """

    plain_N: np.ndarray
    weighted_N: np.ndarray
    norms_N: np.ndarray

    @property
    def value(self) -> float:
        """The estimate; the weighted part is 0 where every norm is."""
        return float(value_of(self.plain_N.sum(), self.weighted_N.sum(), self.norms_N.sum(), len(self.plain_N)))


def value_of(plain: np.ndarray, weighted: np.ndarray, norms: np.ndarray, counts: np.ndarray | float) -> np.ndarray:
    """Estimates from the sums of their terms and the counts of the rows, of any shape."""
    return plain / counts + quotients(weighted, norms)


def mean(plain_N: np.ndarray) -> Terms:
    """A plain mean."""
    plain_N = np.asarray(plain_N, np.float64)
    return Terms(plain_N, np.zeros_like(plain_N), np.ones_like(plain_N))


@dataclass(frozen=True)
class Weighting:
    """What is done about large importance weights; by default nothing.

    Larger weights count as ``clip`` (Ionides 2008, "Truncated importance sampling"), at a bias that the verdict states.
    Above ``switch`` switch-DR trusts the reward model instead. Raises ValueError for one that is not positive.
    """

    clip: float = np.inf
    switch: float = 10.0

    def __post_init__(self) -> None:
        for name in ("clip", "switch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}: it is a largest weight")

    def clipped(self, weights: np.ndarray) -> np.ndarray:
        return np.minimum(weights, self.clip)


AS_THEY_ARE = Weighting()


def effective(weights_N: np.ndarray) -> float:
    """How many rows of equal weight tell as much: (sum w)^2 / sum w^2, between 0 and N.

    Kong (1992), "A note on importance sampling using standardized weights", technical report 348, Chicago.
    """
    squares = float(np.square(weights_N).sum())
    return float(np.abs(weights_N).sum()) ** 2 / squares if squares > 0 else 0.0


def direct(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v): right where the reward model is, whatever the propensities.

    Dudik, Langford and Li (2011), "Doubly robust policy evaluation and learning", section 2 (the direct method).
    """
    return mean(_model(log)[1])


def ips(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(w r): unbiased with right propensities that cover the evaluation policy (Horvitz and Thompson 1952)."""
    return mean(weighting.clipped(log.weights_N) * log.rewards_N)


def snips(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """sum(w r) / sum(w): a bias that fades with the rows against a smaller variance; never outside the rewards.

    Swaminathan and Joachims (2015), "The self-normalized estimator for counterfactual learning".
    """
    weights_N = weighting.clipped(log.weights_N)
    return Terms(np.zeros_like(weights_N), weights_N * log.rewards_N, weights_N)


def doubly_robust(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v + w (r - q)): right where the propensities or the reward model are (Dudik, Langford and Li, as above)."""
    predicted_N, expected_N = _model(log)
    return mean(expected_N + weighting.clipped(log.weights_N) * (log.rewards_N - predicted_N))


def self_normalised_dr(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v) + sum(w (r - q)) / sum(w).

    Thomas and Brunskill (2016), "Data-efficient off-policy policy evaluation for reinforcement learning", for one step.
    """
    predicted_N, expected_N = _model(log)
    weights_N = weighting.clipped(log.weights_N)
    return Terms(expected_N, weights_N * (log.rewards_N - predicted_N), weights_N)


def switch_dr(log: BanditLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(v + w [w <= switch] (r - q)): above the switch the reward model alone speaks, and must be right there.

    Wang, Agarwal and Dudik (2017), "Optimal and adaptive off-policy evaluation in contextual bandits".
    """
    predicted_N, expected_N = _model(log)
    weights_N = np.where(log.weights_N <= weighting.switch, weighting.clipped(log.weights_N), 0.0)
    return mean(expected_N + weights_N * (log.rewards_N - predicted_N))


BANDIT_ESTIMATORS: dict[str, Callable[[BanditLog, Weighting], Terms]] = {
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


def slate_ips(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(w_K sum_k r_k): unbiased however items act on one another; the variance grows with the slate's length."""
    return mean(weighting.clipped(log.prefixes_SK[:, -1]) * log.filled_rewards_SK.sum(axis=1))


def rips(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(sum_k w_k r_k): unbiased where a reaction depends on the items above and at its position alone.

    McInerney, Brost, Chandar, Mehrotra and Carterette (2020), "Counterfactual evaluation of slate recommendations
    with sequential reward interactions", without its normalisation and look-back.
    """
    return mean((weighting.clipped(log.prefixes_SK) * log.filled_rewards_SK).sum(axis=1))


def cascade_dr(log: SlateLog, weighting: Weighting = AS_THEY_ARE) -> Terms:
    """mean(sum_k w_k (r_k - q_k) + w_(k-1) v_k), w_0 = 1: as RIPS, with a reward model against the variance.

    Unbiased where RIPS is, if one model gave ``expected_SK`` and ``predicted_SK``. Kiyohara, Saito, Matsuhiro, Narita,
    Shimizu and Yamamoto (2022), "Doubly robust off-policy evaluation for ranking policies under the cascade behavior
    model".
    """
    if log.predicted_SK is None or log.expected_SK is None:
        raise ValueError("cascade-dr needs a reward model: give the log predicted_SK and expected_SK")
    shown_SK = log.shown_SK
    upto_SK = weighting.clipped(log.prefixes_SK)
    above_SK = np.concatenate([np.ones((len(log), 1)), upto_SK[:, :-1]], axis=1)
    residuals_SK = np.where(shown_SK, log.rewards_SK - log.predicted_SK, 0.0)
    return mean((upto_SK * residuals_SK + above_SK * np.where(shown_SK, log.expected_SK, 0.0)).sum(axis=1))


SLATE_ESTIMATORS: dict[str, Callable[[SlateLog, Weighting], Terms]] = {
    "slate-ips": slate_ips,
    "rips": rips,
    "cascade-dr": cascade_dr,
}


@dataclass(frozen=True)
class Replicates:
    """Named values with their R replicates each, of a log with so many users."""

    values: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]
    users: int

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """The percentile interval of a value."""
        return percentiles(self.values[name], self.drawn[name], self.users, level)

    def difference(self, a: str, b: str, level: float = 0.95) -> Interval:
        """The interval of ``a - b``, paired draw by draw."""
        drawn_R = self.drawn[a] - self.drawn[b]
        return percentiles(self.values[a] - self.values[b], drawn_R, self.users, level)


def bootstrap(
    terms: Mapping[str, Terms],
    users_N: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    draw: Draw | None = None,
    counts_N: np.ndarray | None = None,
) -> Replicates:
    """Replicates of every one of the terms, all of the same N rows, by user where there are users.

    All share the draws of users, so a difference of two has a narrow interval as well. Rows count for ``counts_N`` (see
    ``counts_of``; by default each for one). Time and memory grow with replicates times users, not with rows.
    """
    sums_TN = np.stack([part for term in terms.values() for part in (term.plain_N, term.weighted_N, term.norms_N)])
    counts_N = np.ones(sums_TN.shape[1]) if counts_N is None else counts_N
    counted_TN = np.concatenate([sums_TN * counts_N, counts_N[None, :]])
    counted_TU = counted_TN if users_N is None else by_user(users_N, counted_TN)[0]
    sums_RT, counts_R = replicated(counted_TU[:-1], counted_TU[-1], replicates, seed, draw)
    totals_T, values, drawn = counted_TN.sum(axis=1), {}, {}
    for place, name in enumerate(terms):
        own = slice(3 * place, 3 * place + 3)
        (plain, weighted, norms), (plain_R, weighted_R, norms_R) = totals_T[own], sums_RT[:, own].T
        values[name] = float(value_of(plain, weighted, norms, totals_T[-1]))
        drawn[name] = value_of(plain_R, weighted_R, norms_R, counts_R)
    return Replicates(values, drawn, counted_TU.shape[1])
