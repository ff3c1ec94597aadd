"""The gates on challengers of kinds, and on a stretch of the stream, that no limit was tuned on: their power."""

from infra.bench.exam import power
from infra.bench.exam.stretches import Era
from infra.bench.record import Figure

ERA = Era(anchor=0.6, elder=0.7, champion=0.8, learned=0.9, judged=0.97, audited=1.0)


def measure(seed: int) -> list[Figure]:
    """At least 19 of 20 bad ones are to be refused, at least 16 of 20 good ones let through."""
    return power.measure("unseen", ERA, "infra.bench.exam.unseen_faults", seed, power.ASKED)
