"""The endpoint's figures: `attune bench serving`."""

from benchmarks import apart
from benchmarks.record import Figure

PARTS = ("cost", "against_mlflow", "effect", "durable", "growth", "processes", "memory")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone. Raises ConfigError for a part that there is not."""
    return apart.measure("serving", PARTS, seed, only)
