"""What off-policy estimates are worth: `attune bench offpolicy`."""

from infra.bench import apart
from infra.bench.record import Figure

PARTS = ("coverage", "obp")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone. Raises ConfigError for a part that there is not."""
    return apart.measure("offpolicy", PARTS, seed, only)
