"""What a gate is, what it gives, and whether its verdicts let a challenger take over."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evaluation.case import Case, CaseLimits, Evidence
from evaluation.intervals import Interval

Outcome = Literal["pass", "fail", "undecided", "not_applicable"]


@dataclass(frozen=True)
class Verdict:
    """A gate's verdict; ``measured`` and ``limit`` are in the unit that ``note`` states.

    ``verdict`` is ``undecided`` where the evidence does not decide, ``not_applicable`` where there is nothing to
    compare with. An undecided one is ``adverse`` if its figure lies on the wrong side or nothing was measured.
    ``at_most`` says that the limit is one from above.
    """

    name: str
    limit: float | None
    measured: float | None
    verdict: Outcome
    note: str
    low: float | None = None
    high: float | None = None
    adverse: bool = False
    at_most: bool = False

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON holds it: infinities become null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Gate(ABC):
    """A frozen dataclass whose fields are the gate's limits; no two gates have a limit of one name.

    A gate measures what it needs, or asks the case for what other gates need too.
    """

    @abstractmethod
    def __call__(self, case: Case) -> Iterable[Verdict]:
        """Its verdicts, in the order of a report; none where the question does not arise."""


@dataclass(frozen=True)
class GateLimits:
    """Every limit that decides a verdict, made of the gates' own parts: one table, recorded with each judgement."""

    version: int
    case: CaseLimits
    gates: tuple[Gate, ...]

    def as_dict(self) -> dict[str, Any]:
        """The table by the names of the limits."""
        table = {"version": self.version, **asdict(self.case)}
        for gate in self.gates:
            table |= asdict(gate)
        return table


def not_applicable(name: str, note: str) -> Verdict:
    """The verdict where there is nothing to compare with."""
    return Verdict(name, None, None, "not_applicable", note)


def passes(condition: bool) -> Outcome:
    """The outcome of a condition that is known to hold or not to hold."""
    return "pass" if condition else "fail"


def not_above(name: str, limit: float, measured: float, note: str) -> Verdict:
    """The verdict on a figure that may be its limit at most; NaN fails."""
    return Verdict(name, limit, measured, passes(measured <= limit), note, at_most=True)


def on_interval(
    name: str, limit: float, measured: Interval, sides: tuple[bool, bool, bool], evidence: Evidence, unit: str
) -> Verdict:
    """A quality gate's verdict: an interval that lies wholly on one side decides, where it is valid.

    ``sides``: whether the whole interval is on the right side, whether the whole is on the wrong one, and whether
    the figure itself is on the right one.
    """
    holds, fails, leans = sides
    note = f"{unit}, 95 % interval by user [{measured.low:.4f}, {measured.high:.4f}]"
    outcome: Outcome = "undecided"
    limits = evidence.limits
    adverse = not leans or evidence.users < limits.least_users
    if not evidence.is_enough:
        note += (
            f"; {evidence.users} users, worth {evidence.effective:.0f} of equal weight, and {evidence.events} events do"
            f" not decide (at least {limits.min_users:.0f} and {limits.min_events})"
        )
    elif holds:
        outcome, adverse = "pass", False
    elif fails:
        outcome, adverse, note = "fail", False, f"{note}: the whole interval lies on the wrong side"
    else:
        note += f" over {evidence.users} users and {evidence.events} events holds the limit"
    if outcome == "undecided":
        note += f"; {evidence.likely_needed(measured, limit)}"
    return Verdict(name, limit, measured.value, outcome, note, measured.low, measured.high, adverse)


Decision = Literal["accepted", "refused", "undecided"]


def kept_out_by(verdicts: Iterable[Verdict], accept_undecided: bool) -> list[Verdict]:
    """Failures, and undecided verdicts unless the caller accepts those not adverse: what keeps a challenger out."""
    return [
        verdict
        for verdict in verdicts
        if verdict.verdict == "fail" or (verdict.verdict == "undecided" and (verdict.adverse or not accept_undecided))
    ]


def accepts(verdicts: Iterable[Verdict], accept_undecided: bool) -> bool:
    """Whether nothing keeps the challenger out and something speaks for it."""
    listed = list(verdicts)
    return any(verdict.verdict == "pass" for verdict in listed) and not kept_out_by(listed, accept_undecided)


def decision(verdicts: Iterable[Verdict], accept_undecided: bool) -> Decision:
    """What the verdicts come to: refused where a gate failed or nothing speaks for the challenger, else undecided."""
    listed = list(verdicts)
    if accepts(listed, accept_undecided):
        return "accepted"
    keeping = [verdict.verdict for verdict in kept_out_by(listed, accept_undecided)]
    return "undecided" if keeping and "fail" not in keeping else "refused"
