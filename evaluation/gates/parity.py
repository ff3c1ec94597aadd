"""Does the loaded bundle score the golden inputs as the trained model did?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_above


@dataclass(frozen=True)
class Parity(Gate):
    parity: float = 1e-4
    """The largest absolute difference between the golden scores and those of the loaded bundle."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        yield self.verdict(case.challenger.golden_difference())

    def verdict(self, difference: float) -> Verdict:
        """NaN fails."""
        note = "largest difference to the golden scores of the training"
        return not_above("parity", self.parity, difference, note)
