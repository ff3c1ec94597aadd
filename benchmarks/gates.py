"""The power of the gates: how many bad challengers they refuse, and how many good ones they let through."""

from benchmarks import apart
from benchmarks.record import Figure

PARTS = ("gates_known", "gates_unseen")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Both sets of planted challengers, or one alone. Raises ConfigError for another part, or without the data."""
    return apart.measure("gates", PARTS, seed, only)
