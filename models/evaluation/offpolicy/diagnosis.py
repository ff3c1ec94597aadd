"""Whether a log can answer at all: what is known of its weights and of its reward model before any value is read."""

from dataclasses import dataclass

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.offpolicy.bandits import direct, doubly_robust
from models.evaluation.offpolicy.logs import BanditLog, Log
from models.evaluation.offpolicy.replicates import Replicates
from models.evaluation.offpolicy.slates import rips, slate_ips
from models.evaluation.offpolicy.terms import Terms, Weighting, effective, mean

DISTANT_WEIGHT = 20.0
"""From this weight on the logging policy hardly takes what the evaluation policy does: a twentieth as often."""


@dataclass(frozen=True)
class Diagnosis:
    """What speaks for and against an estimate.

    Rows count for what ``counts_of`` gives them, in everything but ``rows`` and ``certain``, which are numbers of rows.
    ``effective_K`` is Kong's effective sample size down to each position (one for a bandit), in rows.
    ``carrying`` is the same of the weighted rewards: how many rows the sum really rests on.
    ``mean_weights_K`` should be 1: below where the logging policy never takes what the evaluation policy does, off
    either way where the propensities are wrong. Its intervals are as wide as is asked for.
    ``largest_share`` is that of one row in the sum of the weights. ``distant`` is the share of the evaluation
    policy's probability on what the logging policy takes a twentieth as often, as far as the log shows it.
    ``certain`` is how many rows come of a policy that left no choice, ``certain_share`` their share.
    ``switched`` is the share of the weight above the switch, ``clipped`` what clipping takes away from the mean weight.
    With a reward model: ``residual``, reward minus prediction on what was logged, and ``disagreement``, dm minus dr,
    which is the model's error on what the evaluation policy does. Of slates: ``disagreement`` is rips minus
    slate-ips, which is not 0 where reactions depend on the items below.
    """

    rows: int
    users: int
    effective_K: tuple[float, ...]
    carrying: float
    mean_weights_K: tuple[Interval, ...]
    largest_share: float
    distant: float
    certain: int
    certain_share: float
    switched: float
    clipped: float
    residual: Interval | None
    disagreement: Interval | None

    @property
    def effective(self) -> float:
        """Kong's effective sample size of whole rows, the smallest that an estimate rests on."""
        return self.effective_K[-1]


def check_terms(log: Log) -> dict[str, Terms]:
    """What the diagnosis needs in the bootstrap besides the estimates; names that no estimator has."""
    terms = {f"weight {k}": mean(weights) for k, weights in enumerate(_weights_NK(log).T, start=1)}
    if isinstance(log, BanditLog):
        if log.predicted_N is not None:
            terms["residual"] = mean(log.rewards_N - log.predicted_N)
            terms["plain dm"], terms["plain dr"] = direct(log), doubly_robust(log)
    else:
        terms["plain rips"], terms["plain slate-ips"] = rips(log), slate_ips(log)
    return terms


def diagnose(log: Log, found: Replicates, weighting: Weighting, level: float, counts_N: np.ndarray) -> Diagnosis:
    """The diagnosis, from replicates of ``check_terms`` whose rows counted for ``counts_N``.

    Checks have intervals of ``level``, shared by positions.
    """
    weights_NK = _weights_NK(log)
    last_N, positions = weights_NK[:, -1], weights_NK.shape[1]
    counted_N = counts_N * last_N
    total = max(float(counted_N.sum()), np.finfo(float).tiny)
    certain_N = log.is_certain_N if isinstance(log, BanditLog) else log.is_certain_S
    of_each = 1 - (1 - level) / positions
    pair = ("plain dm", "plain dr") if isinstance(log, BanditLog) else ("plain rips", "plain slate-ips")
    return Diagnosis(
        rows=len(log),
        users=found.users,
        effective_K=tuple(effective(counts_N * weights_NK[:, k]) for k in range(positions)),
        carrying=effective(counts_N * _carried_N(log)),
        mean_weights_K=tuple(found.interval(f"weight {k + 1}", of_each) for k in range(positions)),
        largest_share=float(counted_N.max()) / total,
        distant=distant(last_N, counts_N),
        certain=int(certain_N.sum()),
        certain_share=float(counts_N[certain_N].sum() / counts_N.sum()),
        switched=float(counted_N[last_N > weighting.switch].sum()) / total,
        clipped=float(np.average(last_N - weighting.clipped(last_N), weights=counts_N)),
        residual=found.interval("residual") if "residual" in found.values else None,
        disagreement=found.difference(*pair, level) if pair[0] in found.values else None,
    )


def distant(weights_N: np.ndarray, counts_N: np.ndarray) -> float:
    """The share of the evaluation policy's probability on what the logging policy takes a twentieth as often."""
    counted_N = counts_N * weights_N
    return float(counted_N[weights_N >= DISTANT_WEIGHT].sum()) / max(float(counted_N.sum()), np.finfo(float).tiny)


def _weights_NK(log: Log) -> np.ndarray:
    """The importance weights down to each position; a bandit has one."""
    return log.weights_N[:, None] if isinstance(log, BanditLog) else log.prefixes_SK


def _carried_N(log: Log) -> np.ndarray:
    """How much each row adds to the sum of the weighted rewards, whatever its sign."""
    if isinstance(log, BanditLog):
        return np.abs(log.weights_N * log.rewards_N)
    carried_S: np.ndarray = np.abs(log.prefixes_SK * np.where(log.shown_SK, log.rewards_SK, 0.0)).sum(axis=1)
    return carried_S
