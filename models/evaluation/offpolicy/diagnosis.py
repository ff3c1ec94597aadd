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

    ``effective_K`` is Kong's effective sample size down to each position (one for a bandit), in rows.
    ``carrying`` is the same of the weighted rewards: how many rows the sum really rests on.
    ``mean_weights_K`` should be 1: below where the logging policy never takes what the evaluation policy does, off
    either way where the propensities are wrong. Its intervals are as wide as is asked for.
    ``largest_share`` is that of one row in the sum of the weights. ``distant`` is the share of the evaluation
    policy's probability on what the logging policy takes a twentieth as often, as far as the log shows it.
    ``certain`` counts rows of a policy that left no choice. ``switched`` is the share of the weight above the
    switch, ``clipped`` what clipping takes away from the mean weight.
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


def diagnose(log: Log, found: Replicates, weighting: Weighting, level: float) -> Diagnosis:
    """The diagnosis, from replicates of ``check_terms``; checks have intervals of ``level``, shared by positions."""
    weights_NK = _weights_NK(log)
    last_N, positions = weights_NK[:, -1], weights_NK.shape[1]
    total = max(float(last_N.sum()), np.finfo(float).tiny)
    of_each = 1 - (1 - level) / positions
    pair = ("plain dm", "plain dr") if isinstance(log, BanditLog) else ("plain rips", "plain slate-ips")
    return Diagnosis(
        rows=len(log),
        users=found.users,
        effective_K=tuple(effective(weights_NK[:, k]) for k in range(positions)),
        carrying=effective(_carried_N(log)),
        mean_weights_K=tuple(found.interval(f"weight {k + 1}", of_each) for k in range(positions)),
        largest_share=float(last_N.max()) / total,
        distant=distant(last_N),
        certain=int((log.is_certain_N if isinstance(log, BanditLog) else log.is_certain_S).sum()),
        switched=float(last_N[last_N > weighting.switch].sum()) / total,
        clipped=float((last_N - weighting.clipped(last_N)).mean()),
        residual=found.interval("residual") if "residual" in found.values else None,
        disagreement=found.difference(*pair, level) if pair[0] in found.values else None,
    )


def distant(weights_N: np.ndarray) -> float:
    """The share of the evaluation policy's probability on what the logging policy takes a twentieth as often."""
    total = max(float(weights_N.sum()), np.finfo(float).tiny)
    return float(weights_N[weights_N >= DISTANT_WEIGHT].sum()) / total


def _weights_NK(log: Log) -> np.ndarray:
    """The importance weights down to each position; a bandit has one."""
    return log.weights_N[:, None] if isinstance(log, BanditLog) else log.prefixes_SK


def _carried_N(log: Log) -> np.ndarray:
    """How much each row adds to the sum of the weighted rewards, whatever its sign."""
    if isinstance(log, BanditLog):
        return np.abs(log.weights_N * log.rewards_N)
    carried_S: np.ndarray = np.abs(log.prefixes_SK * np.where(log.shown_SK, log.rewards_SK, 0.0)).sum(axis=1)
    return carried_S
