"""Is the bundle not many times the champion's? Nothing is asked where there is none."""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_above


@dataclass(frozen=True)
class Memory(Gate):
    memory_ratio: float = 3.0
    """How many times the champion's size a bundle may have."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        if case.champion is not None:
            yield self.verdict(case.challenger.bytes, case.champion.bytes)

    def verdict(self, size: int, of_champion: int) -> Verdict:
        """The sizes of both bundles are in bytes."""
        ratio = size / max(of_champion, 1)
        note = f"times the champion's bundle: {size / 1e6:.1f} MB against {of_champion / 1e6:.1f} MB"
        return not_above("memory", self.memory_ratio, ratio, note)
