"""Does an answer take not much longer than popularity's and the champion's?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_above


@dataclass(frozen=True)
class Latency(Gate):
    """Median answers of one run are compared; infinite milliseconds are those of a model that gives no answer."""

    latency_ratio: float = 60.0
    """How many times the popularity pipeline's median answer time a model's may be, in the same run."""
    latency_change: float = 3.0
    """How many times the champion's median answer time it may be, in the same run."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        milliseconds = case.answer_ms
        yield self.against_popularity(milliseconds["challenger"], milliseconds["popularity"])
        if "champion" in milliseconds:
            yield self.against_champion(milliseconds["challenger"], milliseconds["champion"])

    def against_popularity(self, model_ms: float, popularity_ms: float) -> Verdict:
        ratio = model_ms / max(popularity_ms, 1e-9) if math.isfinite(model_ms) else math.inf
        note = f"times the popularity pipeline's median answer: {model_ms:.2f} ms against {popularity_ms:.2f} ms"
        return not_above("latency", self.latency_ratio, ratio, note)

    def against_champion(self, model_ms: float, champion_ms: float) -> Verdict:
        ratio = model_ms / max(champion_ms, 1e-9)
        note = f"times the champion's median answer: {model_ms:.2f} ms against {champion_ms:.2f} ms"
        return not_above("not_slower_than_champion", self.latency_change, ratio, note)
