"""Prequential replay, what real-time feedback is worth and what a replay costs: `attune bench replay`."""

from benchmarks import apart
from benchmarks.record import Figure

PARTS = ("movielens_1m", "movielens_demo", "pace")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone. Raises ConfigError for a part that there is not, or whose data is not there."""
    return apart.measure("replay", PARTS, seed, only)
