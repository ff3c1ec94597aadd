"""Does the challenger show its users more of what they dislike?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case, Evidence
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.gates.rivals import TITLES
from evaluation.intervals import Interval
from models.metrics import GRADED


@dataclass(frozen=True)
class Dislikes(Gate):
    """Disliked items do not clearly stand higher than the champion puts them (before there is one: popularity).

    A model that foresees better what people use meets more of what they come to dislike as well. So more is allowed
    where it is paid for: where the graded metric, in which each target counts by its centred reward, clearly gains.
    """

    dislikes_change: float = 0.1
    """Relative: the lower bound of the change over disliked targets may be above it only where it is paid for. Where
    too few users dislike something for intervals to decide, nothing is said."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        rival = "popularity" if case.champion is None else "champion"
        change, graded = case.paired(rival, part="negative"), case.paired(rival, GRADED + case.limits.metric, "all")
        figure = f"{case.limits.metric} over disliked targets against {TITLES.get(rival, case.replays[rival].name)}"
        evidence = Evidence(change.users, change.rows, change.effective, limits=case.limits, figure=figure)
        yield self.verdict(change.relative, graded.absolute, evidence)

    def verdict(self, more: Interval, graded: Interval, evidence: Evidence) -> Verdict:
        """``more`` is the change over the disliked targets, ``graded`` the difference of the graded metric over all."""
        counts = f"{evidence.users} users and {evidence.events} events"
        if not evidence.is_enough:
            few = f"{counts} of dislike are too few to say"
            return not_applicable("dislikes", few if evidence.users else "no target is disliked")
        limit, is_paid_for = self.dislikes_change, graded.low > 0
        interval = f"95 % interval by user [{more.low:.4f}, {more.high:.4f}]"
        note = f"relative change in {evidence.figure}, over {counts}; {interval}"
        clearly_more = more.low > limit
        if clearly_more:
            note += "; paid for: graded by reward it gains" if is_paid_for else "; liked targets do not pay for it"
        outcome = passes(is_paid_for or not clearly_more)
        return Verdict("dislikes", limit, more.value, outcome, note, more.low, more.high, at_most=True)
