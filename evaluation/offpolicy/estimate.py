"""What another policy is worth by a log, or why the log does not say and how much data it would take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evaluation.intervals import REPLICATES, Interval
from evaluation.offpolicy.estimators import (
    AS_THEY_ARE,
    BANDIT_ESTIMATORS,
    NEEDS_MODEL,
    SLATE_ESTIMATORS,
    Replicates,
    Terms,
    Weighting,
    bootstrap,
    direct,
    doubly_robust,
    effective,
    mean,
    rips,
    slate_ips,
)
from evaluation.offpolicy.logs import BanditLog, Log, counts_of, users_of

Outcome = Literal["decided", "refused"]

ROUNDING = 1e-9
"""A policy judged by itself has intervals as narrow as this."""

DISTANT_WEIGHT = 20.0
"""From this weight on the logging policy hardly takes what the evaluation policy does: a twentieth as often."""


@dataclass(frozen=True)
class Diagnosis:
    """What speaks for and against an estimate; rows count as ``counts_of`` says, but in ``rows`` and ``certain`` for 1.

    ``effective_K`` is Kong's effective sample size down to each position (one for a bandit), in rows; ``carrying`` the
    same of the weighted rewards. ``mean_weights_K`` should be 1: it is below where the logging policy never takes what
    the evaluation policy does, and off either way where the propensities are wrong. ``largest_share`` is that of one
    row in the sum of the weights. ``certain`` rows come of a policy that left no choice. ``switched`` is the share of
    the weight above the switch, ``clipped`` what clipping takes away from the mean weight. ``residual`` is reward minus
    prediction on what was logged, ``disagreement`` dm minus dr: the reward model's error on what the evaluation policy
    does. Of slates ``disagreement`` is rips minus slate-ips: not 0 where reactions depend on the items below.
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


def diagnose(log: Log, drawn: Replicates, weighting: Weighting, level: float, counts_N: np.ndarray) -> Diagnosis:
    """The diagnosis, from replicates of ``check_terms`` by ``counts_N``; ``level`` is shared by the positions."""
    weights_NK = _weights_NK(log)
    last_N, positions = weights_NK[:, -1], weights_NK.shape[1]
    counted_N = counts_N * last_N
    total = max(float(counted_N.sum()), np.finfo(float).tiny)
    if isinstance(log, BanditLog):
        pair, certain_N, rewards_NK = ("plain dm", "plain dr"), log.is_certain_N, log.rewards_N[:, None]
    else:
        pair, certain_N, rewards_NK = ("plain rips", "plain slate-ips"), log.is_certain_S, log.filled_rewards_SK
    of_each = 1 - (1 - level) / positions
    return Diagnosis(
        rows=len(log),
        users=drawn.users,
        effective_K=tuple(effective(counts_N * weights_NK[:, k]) for k in range(positions)),
        carrying=effective(counts_N * np.abs(weights_NK * rewards_NK).sum(axis=1)),
        mean_weights_K=tuple(drawn.interval(f"weight {k + 1}", of_each) for k in range(positions)),
        largest_share=float(counted_N.max()) / total,
        distant=distant(last_N, counts_N),
        certain=int(certain_N.sum()),
        certain_share=float(counts_N[certain_N].sum() / counts_N.sum()),
        switched=float(counted_N[last_N > weighting.switch].sum()) / total,
        clipped=float(np.average(last_N - weighting.clipped(last_N), weights=counts_N)),
        residual=drawn.interval("residual") if "residual" in drawn.values else None,
        disagreement=drawn.difference(*pair, level) if pair[0] in drawn.values else None,
    )


def distant(weights_N: np.ndarray, counts_N: np.ndarray) -> float:
    """The share of the evaluation policy's probability on what the logging policy takes a twentieth as often."""
    counted_N = counts_N * weights_N
    return float(counted_N[weights_N >= DISTANT_WEIGHT].sum()) / max(float(counted_N.sum()), np.finfo(float).tiny)


def _weights_NK(log: Log) -> np.ndarray:
    return log.weights_N[:, None] if isinstance(log, BanditLog) else log.prefixes_SK


@dataclass(frozen=True)
class OffPolicyLimits:
    """When a log is refused, in one place; counts are of rows unless they say otherwise."""

    effective: float = 100.0
    """The least effective sample size."""
    carrying: float = 25.0
    """The least rows that the weighted rewards rest on: a handful of lucky clicks decides nothing."""
    users: int = 30
    """The least users: a bootstrap over fewer is too narrow."""
    distant: float = 0.1
    """The largest share of the evaluation policy's probability on what the logging policy hardly takes."""
    certain: float = 0.01
    """The largest share of rows whose policy left no choice."""
    user_cap: float = 100.0
    """The most rows that one user counts for."""
    restated: float = 0.99
    """The least share of slates whose logged propensities the champion's policy must give again."""
    half_width: float = 0.02
    """In the unit of the value: half of an interval's width for which ``rows_needed`` is stated."""
    check_level: float = 0.99
    """The level of the intervals that find a log at fault; one in a hundred good logs is refused by each."""


@dataclass(frozen=True)
class Estimate:
    """One estimator's answer: the value with its 95 % interval, and the ``reasons`` where it is refused.

    ``rows_needed`` is how many rows like these the limits ask for; None where more of them do not mend what is wrong.
    """

    estimator: str
    outcome: Outcome
    interval: Interval
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    rows_needed: int | None


@dataclass(frozen=True)
class Answer:
    """What a log says of an evaluation policy, by each estimator that it has the columns for."""

    diagnosis: Diagnosis
    estimates: Mapping[str, Estimate]


def estimate(
    log: Log,
    limits: OffPolicyLimits | None = None,
    weighting: Weighting = AS_THEY_ARE,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Answer:
    """What every estimator that the log has the columns for says of it."""
    limits = limits or OffPolicyLimits()
    terms = terms_of(log, weighting)
    counts_N = counts_of(log, limits.user_cap)
    drawn = bootstrap({**terms, **check_terms(log)}, users_of(log), replicates, seed, counts_N=counts_N)
    diagnosis = diagnose(log, drawn, weighting, limits.check_level, counts_N)
    return Answer(diagnosis, {name: _estimate(name, drawn.interval(name), diagnosis, limits) for name in terms})


def terms_of(log: Log, weighting: Weighting = AS_THEY_ARE) -> dict[str, Terms]:
    """The terms of every estimator that the log has the columns for."""
    estimators: Mapping[str, Any] = BANDIT_ESTIMATORS if isinstance(log, BanditLog) else SLATE_ESTIMATORS
    has_model = (log.predicted_N if isinstance(log, BanditLog) else log.predicted_SK) is not None
    return {name: make(log, weighting) for name, make in estimators.items() if has_model or name not in NEEDS_MODEL}


def _estimate(name: str, interval: Interval, diagnosis: Diagnosis, limits: OffPolicyLimits) -> Estimate:
    scarce, faults = _scarce(diagnosis, limits), _faults(diagnosis, limits)
    needed = _rows_needed(interval, diagnosis, limits)
    reasons = [*scarce, *faults]
    if not reasons:  # an assumption is held against weights that are right, and enough of them
        faults = reasons = _own_faults(name, diagnosis)
    elif name == "dm":
        reasons.append("so nothing here can check the reward model where the evaluation policy goes")
    if scarce and not faults and needed is not None:
        reasons.append(f"about {needed:,} rows like these would do, for +-{limits.half_width:g}")
    outcome: Outcome = "refused" if reasons else "decided"
    return Estimate(name, outcome, interval, tuple(reasons), _warnings(name, diagnosis), None if faults else needed)


def _scarce(diagnosis: Diagnosis, limits: OffPolicyLimits) -> list[str]:
    """What more of the same would mend."""
    reasons = []
    if diagnosis.users < limits.users:
        reasons.append(f"the log has {diagnosis.users} users or independent rows, of at least {limits.users}")
    if diagnosis.effective < limits.effective:
        reasons.append(
            f"{diagnosis.rows:,} rows weigh as much as {diagnosis.effective:.0f}, of at least {limits.effective:.0f}"
        )
        enough = next(k for k, size in enumerate(diagnosis.effective_K) if size < limits.effective)
        if enough:
            reasons.append(f"the first {enough} positions have enough: ask for the top {enough} of the log")
    if diagnosis.carrying < limits.carrying:
        reasons.append(
            f"the rewards rest on the worth of {diagnosis.carrying:.0f} rows, of at least {limits.carrying:.0f}"
        )
    return reasons


def _faults(diagnosis: Diagnosis, limits: OffPolicyLimits) -> list[str]:
    """What no more of the same would mend."""
    reasons = []
    if diagnosis.certain_share > limits.certain:
        reasons.append(f"{_not_evaluable(diagnosis)}; log with exploration")
    off = [weight for weight in diagnosis.mean_weights_K if not holds(weight, 1.0)]
    if off:
        reasons.append(
            f"the mean importance weight is {off[-1].value:.3f} [{off[-1].low:.3f}, {off[-1].high:.3f}] and not 1: "
            + ("the logging policy never takes part of it, or " if off[-1].value < 1 else "")
            + "the propensities are not those of the policy that drew"
        )
    if diagnosis.distant > limits.distant:
        reasons.append(
            f"{diagnosis.distant:.0%} of the evaluation policy's choices are taken at most 1/{DISTANT_WEIGHT:.0f} as "
            f"often by the logging policy, of at most {limits.distant:.0%}: log with more exploration"
        )
    return reasons


def _own_faults(name: str, diagnosis: Diagnosis) -> list[str]:
    apart = diagnosis.disagreement
    if apart is None or holds(apart, 0.0):
        return []
    if name == "dm" or (name == "switch-dr" and diagnosis.switched):
        return [
            f"the reward model is wrong by {apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}] on what the "
            "evaluation policy does (dm against dr)"
        ]
    if name in ("rips", "cascade-dr"):
        return [
            f"reactions depend on the items below: rips lies {apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}] "
            "beside slate-ips"
        ]
    return []


def _warnings(name: str, diagnosis: Diagnosis) -> tuple[str, ...]:
    reasons = [_not_evaluable(diagnosis)] if diagnosis.certain else []
    if name == "switch-dr" and diagnosis.switched:
        reasons.append(f"{diagnosis.switched:.1%} of the weight lies above the switch: there the reward model decides")
    if name != "dm" and diagnosis.clipped > 0:
        reasons.append(f"clipping leaves {diagnosis.clipped:.1%} of the weight out, with the rewards that stood there")
    residual = diagnosis.residual
    if name == "dm" and residual is not None and not holds(residual, 0.0):
        reasons.append(f"on what was logged the reward model is off by {residual.value:+.3f}")
    return tuple(reasons)


def holds(interval: Interval, value: float) -> bool:
    """Whether the value lies within, up to rounding."""
    return interval.low - ROUNDING <= value <= interval.high + ROUNDING


def _not_evaluable(diagnosis: Diagnosis) -> str:
    return (
        f"{diagnosis.certain:,} of {diagnosis.rows:,} rows are not evaluable: their policy was deterministic and says "
        "nothing of what else could have been shown"
    )


def _rows_needed(interval: Interval, diagnosis: Diagnosis, limits: OffPolicyLimits) -> int | None:
    """Variance falls with the rows, and the effective rows grow with them."""
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half) or not (diagnosis.effective and diagnosis.carrying):
        return None
    counts = [(getattr(limits, name), getattr(diagnosis, name)) for name in ("effective", "carrying", "users")]
    times = max((half / limits.half_width) ** 2, *(least / count if count < least else 0.0 for least, count in counts))
    return math.ceil(times * diagnosis.rows)
