"""The platform's own figures: `attune bench platform`."""

from benchmarks import apart
from benchmarks.record import Figure

PARTS = ("reaction", "kills", "volume", "soak")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone. Raises ConfigError for a part that there is not."""
    return apart.measure("platform", PARTS, seed, only)
