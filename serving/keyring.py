"""The API keys that hold, in memory: a request costs a look into a dict, never one into the database.

A thread reads the table every two seconds, so a revoked key ends soon after. A key that is not known here may be newer
than that: the request waits for the next reading, of which there is one a second at most however many wait. While the
table cannot be read, the keys that are known go on.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Protocol

from cachetools import FIFOCache

from attune.api_keys import REVOKED_WITHIN_SECONDS, ApiKey
from attune.errors import AttuneError

log = logging.getLogger(__name__)

READ_EVERY_SECONDS = 2.0
assert READ_EVERY_SECONDS < REVOKED_WITHIN_SECONDS
PAUSE_SECONDS = 1.0
"""Between two readings, however many unknown keys come."""

WAIT_SECONDS = 5.0
WAITING = 256
REFUSED_KEPT = 10_000


class Unreadable(AttuneError):
    """Whether a key holds could not be found out; the same request may be made again."""


class Table(Protocol):
    """The part of ``attune.api_keys.ApiKeys`` that is needed here."""

    def active(self) -> Iterable[ApiKey]:
        """The keys that hold."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class KeyRing:
    """Finds keys by their id; ``start`` before, ``close`` after. ``find`` is for one event loop."""

    def __init__(self, open_table: Callable[[], Table], every: float = READ_EVERY_SECONDS) -> None:
        """``open_table`` is called by the thread, and again as long as it raises; ``every`` is in seconds."""
        self._open_table = open_table
        self._every = every
        self._table: Table | None = None
        self._keys: Mapping[str, ApiKey] = {}
        self._refused: FIFOCache[str, bool] = FIFOCache(REFUSED_KEPT)
        self._waiting = 0
        self._lock = threading.Lock()
        self._next: Future[bool] = Future()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._could_read: bool | None = None
        self._thread = threading.Thread(target=self._follow, name="attune-keys", daemon=True)

    def start(self) -> None:
        """Begin to read the table."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the table."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_SECONDS)

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id, None where none holds. Raises Unreadable when that cannot be found out now."""
        return self._keys.get(key_id) or await self._look_up(key_id)

    async def _look_up(self, key_id: str) -> ApiKey | None:
        """What the next reading says. Ids are drawn at random: one that was absent once is never given to a key."""
        if key_id in self._refused:
            return None
        if self._waiting >= WAITING:
            raise Unreadable("too many requests with unknown API keys wait already; ask again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                could_read = await asyncio.shield(asyncio.wrap_future(self._ask()))
        except TimeoutError:
            could_read = False
        finally:
            self._waiting -= 1
        found = self._keys.get(key_id)
        if found is None and not could_read:
            raise Unreadable("the table of API keys cannot be read, and this key was not known before; ask again")
        if found is None:
            self._refused[key_id] = True
        return found

    def _ask(self) -> "Future[bool]":
        """The outcome of a reading that has not begun yet."""
        with self._lock:
            asked = self._next
        self._wake.set()
        return asked

    def _follow(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._read()
            self._wake.wait(self._every)
            self._wake.clear()
            self._stop.wait(max(began + PAUSE_SECONDS - time.monotonic(), 0.0))
        if self._table is not None:
            self._table.close()

    def _read(self) -> None:
        with self._lock:
            asked, self._next = self._next, Future()
        try:
            self._table = self._table or self._open_table()
            self._keys = {key.key_id: key for key in self._table.active()}
        except Exception as error:  # a thread that ended would leave revoked keys in use
            self._tell(False, error)
        else:
            self._tell(True)
        asked.set_result(self._could_read is True)

    def _tell(self, could_read: bool, error: Exception | None = None) -> None:
        """Say what changed, once."""
        if error is not None and self._could_read is not False:
            log.error("the table of API keys cannot be read; those known before go on: %s", error)
        elif could_read and self._could_read is False:
            log.info("the table of API keys can be read again")
        elif could_read and self._could_read is None and not self._keys:
            log.warning("there is no API key yet: `attune keys create NAME --scope recommend` makes one")
        self._could_read = could_read
