"""The platform's own figures: `attune bench platform`."""

from collections.abc import Callable

from infra.bench import kills, reaction, soak, volume
from infra.bench.record import Figure

PARTS: dict[str, Callable[[int], list[Figure]]] = {
    "reaction": reaction.measure,
    "kills": kills.measure,
    "volume": volume.measure,
    "soak": soak.measure,
}


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone."""
    chosen = [only] if only else list(PARTS)
    return [figure for name in chosen for figure in PARTS[name](seed)]
