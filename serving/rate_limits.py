"""How many requests a second anybody may make: token buckets, each kept as one number.

A bucket holds ``burst`` tokens and gains ``rate`` a second; a request takes one. In place of its tokens and when they
were counted, the moment at which it is full again is kept, which says the same (the generic cell rate algorithm). So a
full bucket need not be kept at all, and memory has a bound.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

ROUNDING = 1e-9
"""Seconds; who waited as long as he was told is let in, whatever the last bit says."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``rate`` requests a second (0: any number), of which ``burst`` may come at once."""

    rate: float
    burst: int

    @classmethod
    def of(cls, rate: float, burst: int | None = None) -> "Limit":
        """Without a burst it is the requests of one second, and one at the least."""
        return cls(rate, burst or max(math.ceil(rate), 1))

    def __str__(self) -> str:
        return f"{self.rate:g} requests a second, {self.burst} at once"


class TokenBuckets:
    """A bucket for each name; not for several threads.

    At most ``capacity`` are kept. Beyond that the one that was asked for longest ago is dropped, and is full again if
    it comes back: whoever has that many addresses to ask from is not stopped by a limit per address.
    """

    def __init__(self, capacity: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds, and never goes back."""
        self._clock = clock
        self._full_at: LRUCache[str, float] = LRUCache(capacity)

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, limit: Limit) -> float:
        """Take one token: 0.0, or the seconds after which there will be one (and none was taken)."""
        if not limit.rate:
            return 0.0
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now)
        wait = full_at - now - (limit.burst - 1) / limit.rate
        if wait > ROUNDING:
            return wait
        self._full_at[name] = full_at + 1 / limit.rate
        return 0.0
