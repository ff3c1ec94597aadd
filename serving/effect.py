"""How long it takes from a reaction to the first slate that reflects it: the promise of the platform, measured.

From the acknowledgement of a user's feedback to the first slate for that user whose state includes it. Who comes back
later than after a minute is not counted: that would be the user's pause, not the platform's.
"""

import time
from collections.abc import Callable

from cachetools import TTLCache
from prometheus_client import Histogram

SECONDS = 60.0
WAITING = 50_000
"""Users remembered at a time, some 10 MB; beyond it the one who has waited longest is forgotten."""


class Effect:
    """Used by the event loop alone."""

    def __init__(self, histogram: Histogram, clock: Callable[[], float] = time.monotonic) -> None:
        self._histogram = histogram
        self._clock = clock
        self._waiting: TTLCache[str, tuple[int, float]] = TTLCache(WAITING, SECONDS, clock)

    def acknowledged(self, user_id: str, position: int) -> None:
        """The user's feedback lies at that position of the log; of several the first that waits is measured."""
        if user_id not in self._waiting:
            self._waiting[user_id] = (position, self._clock())

    def shown(self, user_id: str, state_position: int) -> None:
        """The user got a slate that reflects everything up to that position."""
        waiting = self._waiting.get(user_id)
        if waiting is not None and waiting[0] <= state_position:
            del self._waiting[user_id]
            self._histogram.observe(self._clock() - waiting[1])
