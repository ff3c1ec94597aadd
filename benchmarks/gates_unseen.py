"""The gates on challengers of kinds, and on a stretch of the stream, that no limit was tuned on: their power."""

from benchmarks.exam import power
from benchmarks.exam.stretches import Era
from benchmarks.record import Figure

ERA = Era(anchor=0.6, elder=0.7, champion=0.8, learned=0.9, judged=0.97, audited=1.0)


def measure(seed: int) -> list[Figure]:
    """At least 19 of 20 bad ones are to be refused, at least 16 of 20 good ones let through."""
    return power.measure("unseen", ERA, "benchmarks.exam.unseen_faults", seed, power.ASKED)
