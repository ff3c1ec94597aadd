"""Does the challenger beat the popularity that serves best on this hold-out?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case, Evidence
from evaluation.gate import Gate, Verdict, on_interval
from evaluation.intervals import Interval


@dataclass(frozen=True)
class BeatsPopularity(Gate):
    popularity_gain: float = 0.0
    """Absolute: the lower bound of the gain over popularity must be above it."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        baseline = case.replays["popularity"].name
        yield self.verdict(case.paired("popularity").absolute, case.evidence, baseline)

    def verdict(self, gain: Interval, evidence: Evidence, baseline: str = "popularity") -> Verdict:
        limit = self.popularity_gain
        sides = gain.low > limit, gain.high <= limit, gain.value > limit
        unit = f"gain in {evidence.figure} against the best simple baseline ({baseline})"
        return on_interval("beats_popularity", limit, gain, sides, evidence, unit)
