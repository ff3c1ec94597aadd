"""The gates on challengers of kinds, and on a stretch of the stream, that no limit was tuned on: their power."""

from infra.bench.exam import power
from infra.bench.exam.stretches import Era
from infra.bench.record import Figure

ERA = Era(anchor=0.4, elder=0.5, champion=0.6, learned=0.7, judged=0.8, audited=0.9)


def measure(seed: int) -> list[Figure]:
    """At least 19 of 20 bad ones are to be refused, at least 16 of 20 good ones let through."""
    return power.measure("unseen", ERA, "infra.bench.exam.unseen_faults", seed, power.ASKED)
