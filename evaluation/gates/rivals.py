"""Is the challenger not worse than the champion, than the first champion, and than that of ten promotions ago?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import RIVALS, Case, Evidence, Lost
from evaluation.gate import Gate, Verdict, not_applicable, on_interval
from evaluation.intervals import Interval
from models.metrics import Evaluation

TITLES = {"champion": "the champion", "anchor": "the first champion", "elder": "an earlier champion"}

NOBODY = {
    "champion": "nothing has been promoted before",
    "anchor": "nothing has been promoted before",
    "elder": "there have not been ten promotions since",
}


@dataclass(frozen=True)
class Rivals(Gate):
    """No lower bound of a relative change is below its limit; a lost rival leaves its verdict undecided."""

    champion_change: float = -0.02
    """Relative: the lower bound of the change against the champion must not be below it."""
    anchor_change: float = -0.02
    """Relative: the same against the first model that was ever promoted, so that small losses cannot add up."""
    elder_change: float = -0.02
    """Relative: the same against the champion of ten promotions ago: the first one may be too easy by now."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        compared: list[Evaluation] = []
        for rival in RIVALS:
            name, lost, replay = f"not_worse_than_{rival}", getattr(case, rival), case.replays.get(rival)
            if isinstance(lost, Lost):
                yield Verdict(name, None, None, "undecided", lost.why)
            elif replay is None:
                yield not_applicable(name, NOBODY[rival])
            elif any(replay is other for other in compared):
                yield not_applicable(name, "it is one of those before")
            else:
                compared.append(replay)
                yield self.verdict(rival, case.paired(rival).relative, case.evidence)

    def verdict(self, rival: str, change: Interval, evidence: Evidence) -> Verdict:
        limit = getattr(self, f"{rival}_change")
        sides = change.low >= limit, change.high < limit, change.value >= limit
        unit = f"relative change in {evidence.figure} against {TITLES[rival]}"
        return on_interval(f"not_worse_than_{rival}", limit, change, sides, evidence, unit)
