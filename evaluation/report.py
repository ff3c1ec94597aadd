"""What came of holding a challenger against the gates: as a value, as JSON, as Markdown."""

from dataclasses import asdict, dataclass, field
from typing import Any

from attune.clock import shown_time
from evaluation.gate import Decision, GateLimits, Verdict, decision, kept_out_by
from evaluation.intervals import Interval
from evaluation.offpolicy.value_change import ValueChange
from models.figures import for_json, short, table
from models.metrics import EVENT_METRICS, GROUP_METRICS, SLICE_WORDS, Rolling

Summary = dict[str, dict[str, float]]
"""Slice -> metric -> figure, as ``models.metrics.summary`` gives it."""


@dataclass(frozen=True)
class Judgement:
    """Verdicts and everything they rest on.

    ``metrics`` is the challenger's summary, ``panel`` that on the users whose events teach no model, ``baselines`` hold
    the replays that it was compared with. ``intervals`` maps a comparison and a metric to its 95 % interval by user.
    ``off_policy`` is the challenger's value by what the champion showed, None without slates. ``calibration`` is as
    ``evaluation.gates.calibration.curves`` gives it. ``part`` is the slice of the targets that decides. ``rolling`` is
    for a picture, and no part of the JSON.
    """

    verdicts: tuple[Verdict, ...]
    metrics: Summary
    baselines: dict[str, Summary]
    panel: Summary
    intervals: dict[str, dict[str, Interval]]
    hold_out: dict[str, int]
    cost: dict[str, float]
    limits: GateLimits
    accept_undecided: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    rolling: Rolling | None = None
    off_policy: ValueChange | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    part: str = "positive"

    @property
    def accepted(self) -> bool:
        """Whether the challenger may take over."""
        return self.decision == "accepted"

    @property
    def decision(self) -> Decision:
        """What its gates come to."""
        return decision(self.verdicts, self.accept_undecided)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values; infinite bounds are None."""
        keeping = kept_out_by(self.verdicts, self.accept_undecided)
        plain = ("metrics", "baselines", "panel", "hold_out", "cost", "versions", "calibration", "part")
        return for_json(
            {
                "accepted": self.accepted,
                "decision": self.decision,
                "accept_undecided": self.accept_undecided,
                "refused_by": [gate.name for gate in keeping if gate.verdict == "fail"],
                "undecided": [gate.name for gate in keeping if gate.verdict == "undecided"],
                "gates": [verdict.to_json() for verdict in self.verdicts],
                "intervals": {
                    comparison: {metric: asdict(interval) for metric, interval in row.items()}
                    for comparison, row in self.intervals.items()
                },
                "limits": self.limits.as_dict(),
                "off_policy": asdict(self.off_policy) if self.off_policy else None,
                **{name: getattr(self, name) for name in plain},
            }
        )

    def summary(self) -> str:
        """One line for the promotions table: the verdict of each gate, with its figure."""
        return "; ".join(f"{gate.name} {gate.verdict} ({short(gate.measured)})" for gate in self.verdicts)

    def markdown(self) -> str:
        """The report for people."""
        held, cap = self.hold_out, self.limits.case.user_cap
        after, upto = shown_time(held["after_time"]), shown_time(held["upto_time"])
        late = f" Late: {held['late']} events arrived after newer ones were learned; they teach, they do not judge."
        risk = ", undecided gates allowed" if self.accept_undecided else ""
        interval_rows = [
            [comparison, metric, short(interval.value), short(interval.low), short(interval.high)]
            for comparison, row in self.intervals.items()
            for metric, interval in row.items()
        ]
        shown = []
        if self.off_policy is not None:
            shown.append("## What the champion showed (centred reward a slate; intervals of 95 %, by user)")
            shown.append(table(self.off_policy.rows(), ["", "value", "low", "high"]))
        return "\n\n".join(
            [
                f"# The challenger is {self.decision}{risk}",
                f"Judged after {after} up to {upto}: {held['events']} events of {held['users']} users in"
                f" {held['groups']} groups; left out {held['repeated']} repeats and"
                f" {held['unmarked']} events that are no use; the challenger did not know {held['unknown']} targets."
                f" The gates compare over {SLICE_WORDS[self.part]}." + late * bool(held["late"]),
                "## Gates",
                table(
                    [[row.name, row.verdict, short(row.measured), short(row.limit), row.note] for row in self.verdicts],
                    ["gate", "verdict", "measured", "limit", "note"],
                ),
                *self._figures("positive", "Liked targets (reward above 0.5)"),
                *self._figures("negative", "Disliked targets (reward below 0.5; less is better)"),
                *self._figures("all", "All targets"),
                f"## Intervals (95 %, by user; in comparisons one counts for at most {cap:g} events)",
                table(interval_rows, ["comparison", "metric", "value", "low", "high"]),
                *self._calibration(),
                *shown,
                "## Cost",
                table([[name, short(value)] for name, value in self.cost.items()], ["", ""]),
            ]
        )

    def _figures(self, part: str, title: str) -> list[str]:
        names = (*EVENT_METRICS, *GROUP_METRICS, "coverage@10")
        everybody = {"challenger": self.metrics, **self.baselines, "challenger on the panel": self.panel}
        rows = [[who, *(short(figures[part][name]) for name in names)] for who, figures in everybody.items()]
        return [f"## {title}", table(rows, ["recommender", *names])]

    def _calibration(self) -> list[str]:
        rows = [
            [who, *(short(row[name]) for name in ("chance", "share", "targets"))]
            for who, curve in self.calibration.items()
            for row in curve["reliability"]
        ]
        title = "## Calibration (the ten best: what chance the network gave them, and what share came true)"
        return [title, table(rows, ["recommender", "chance", "share", "targets"])] if rows else []
