"""The gates on the challengers that their limits were tuned on: a part of `attune bench gates`."""

from benchmarks.exam import power
from benchmarks.exam.stretches import Era
from benchmarks.record import Figure

ERA = Era(anchor=0.25, elder=0.35, champion=0.45, learned=0.55, judged=0.65, audited=0.75)


def measure(seed: int) -> list[Figure]:
    """How many of these are refused and let through; there is no limit, since the limits follow from them."""
    return power.measure("known", ERA, "benchmarks.exam.known_faults", seed, power.NO_LIMITS)
