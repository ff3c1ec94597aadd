"""Does the live item profile, which no replay can judge, decide the ranking?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_above


@dataclass(frozen=True)
class LiveWeight(Gate):
    live_weight: float = 0.5
    """Of the live item profile in the mix, whose other parts come to 1 together: no hold-out says what it is worth."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        yield self.verdict(case.challenger.hybrid.live)

    def verdict(self, weight: float) -> Verdict:
        note = "weight of the live item profile, which stands still while a hold-out is replayed"
        return not_above("live_weight", self.live_weight, weight, note)
