"""What off-policy estimates are worth: `attune bench offpolicy`."""

import os

from benchmarks import apart, open_bandit
from benchmarks.record import Figure

PARTS = ("coverage", "obp", "open_bandit")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone; of all parts, the sample's only where it is named.

    Raises ConfigError for a part that there is not.
    """
    has_sample = only is not None or open_bandit.FOLDER in os.environ
    return apart.measure("offpolicy", PARTS if has_sample else PARTS[:-1], seed, only)
