"""A user's state as of this request: the snapshot in Feast, or this process's own, plus the user's tail in the log.

The tail is read from the log in every request, never remembered, so that whatever was acknowledged is reflected,
whichever process acknowledged it. A stale or missing snapshot costs a longer tail, never truth.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from cachetools import LRUCache

from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.tail import PAGE, Current, current
from attune.user_state import UserState, empty
from features.store import FeatureStore
from models.recommender import UNKNOWN_USER_STATS
from serving.lanes import Lane, Overloaded
from serving.metrics import Metrics

log = logging.getLogger(__name__)

STATS_SECONDS = 60.0
"""How long a user's statistics are used before they are read again; they change once an hour."""

REOPEN_SECONDS = 5.0
"""How long a feature store that failed is left alone before it is opened anew."""


Beside = TypeVar("Beside")

Snapshot = tuple[UserState | None, np.ndarray]
"""A state as last pushed, and ``USER_STATS``."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a user: the folded state, ``USER_STATS`` (float32, NaN when unknown), what failed.

    It was folded up to ``snapshot_position`` before, by ``snapshot_from`` (`process` or `features`; None: by nobody),
    and ``tail`` events came on top.
    """

    state: UserState
    user_stats: np.ndarray
    degraded: list[str]
    snapshot_position: int = 0
    snapshot_from: str | None = None
    tail: int = 0


class Snapshots:
    """The feature store's snapshots, done without while the store fails; threads may share one.

    A store that failed, or took too long, is left alone for ``REOPEN_SECONDS`` and then opened anew.
    """

    def __init__(self, open_store: Callable[[], FeatureStore]) -> None:
        self._open_store = open_store
        self._store: FeatureStore | None = None
        self._retry_at = 0.0

    @property
    def at_rest(self) -> bool:
        """Whether the store is left alone at this moment."""
        return self._store is None and time.monotonic() < self._retry_at

    def rest(self) -> None:
        """Leave the store alone for a while: others would only wait for it as well."""
        self._store = None
        self._retry_at = time.monotonic() + REOPEN_SECONDS

    def read(self, user_id: str) -> Snapshot | None:
        """(snapshot or None, user_stats), or None while the store cannot be read."""
        if self.at_rest:
            return None
        store = self._store
        try:
            if store is None:
                store = self._store = self._open_store()
            return store.online(user_id)
        except Exception as error:  # damaged files show as anything: Feast's errors, SQLite's, a broken row
            log.warning("the feature store cannot be read; states come from the event log alone: %s", error)
            self.rest()
            return None


class RecentStates:
    """The states that this process folded last, each with the statistics that were read for it.

    A state is a function of the log up to its position, so it never becomes wrong, only old: it is the start of the
    next tail, in place of Feast's snapshot. Statistics are read anew after ``STATS_SECONDS``.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._kept: LRUCache[str, tuple[float, UserState, np.ndarray]] = LRUCache(capacity)
        self._turn = threading.Lock()

    def get(self, user_id: str) -> tuple[UserState, np.ndarray] | None:
        """The user's state and statistics; None when they are not known here, or the statistics are old."""
        with self._turn:
            found = self._kept.get(user_id)
        if found is None or self._clock() - found[0] > STATS_SECONDS:
            return None
        return found[1:]

    def put(self, state: UserState, user_stats: np.ndarray, fresh: bool) -> None:
        """Keep a state; ``fresh`` says that the statistics were read just now. The least used one is forgotten."""
        if not self._capacity:
            return
        with self._turn:
            before = self._kept.get(state.user_id)
            read_at = self._clock() if fresh or before is None else before[0]
            self._kept[state.user_id] = (read_at, state, user_stats)


class StateReader:
    """Reads users' states: the snapshot on the lane ``features``, the tail on the lane ``reads``."""

    def __init__(
        self,
        event_log: EventLog,
        snapshots: Snapshots,
        recent: RecentStates,
        metrics: Metrics,
        features: Lane,
        reads: Lane,
    ) -> None:
        self._log = event_log
        self._snapshots = snapshots
        self._recent = recent
        self._metrics = metrics
        self._features = features
        self._reads = reads

    async def read(self, user_id: str, seconds: float) -> Known:
        """The user's state as of now, within so many seconds.

        A failing or slow feature store leaves the log alone to answer (``degraded`` says ``features``). A failing or
        slow log leaves the snapshot, which may lack the latest events (``degraded`` says ``event_log``).
        """
        known, _ = await self.read_beside(user_id, seconds, lambda: None)
        return known

    async def read_beside(
        self, user_id: str, seconds: float, beside: Callable[[], Beside]
    ) -> tuple[Known, Beside | None]:
        """``read``, and what ``beside`` gives: called on the same thread of ``reads``; None where that did not come."""
        started = time.monotonic()
        recent = self._recent.get(user_id)
        read = recent or await self._snapshot(user_id, seconds / 2)
        degraded = [] if read else ["features"]
        snapshot, user_stats = read or (None, UNKNOWN_USER_STATS)
        state = snapshot or empty(user_id)
        position, tail, other = state.position, 0, None
        try:
            left = max(seconds - (time.monotonic() - started), 0.0)
            found, other = await self._reads.run(lambda: (current(self._log, state), beside()), seconds=left)
        except (EventLogError, Overloaded) as error:
            log.warning("the event log cannot be read; the snapshot answers alone: %s", error)
            degraded.append("event_log")
        else:
            state, tail = found.state, found.folded
            position = 0 if found.astray else position
            self._count(found)
            if read:
                self._recent.put(state, user_stats, fresh=recent is None)
        for source in degraded:
            self._metrics.fallbacks.labels(source).inc()
        folded_by = ("process" if recent else "features") if position else None
        return Known(state, user_stats, degraded, position, folded_by, tail), other

    async def _snapshot(self, user_id: str, seconds: float) -> Snapshot | None:
        if self._snapshots.at_rest:
            return None
        try:
            return await self._features.run(self._snapshots.read, user_id, seconds=seconds)
        except Overloaded as error:
            log.warning("the feature store is too slow; states come from the event log alone: %s", error)
            self._snapshots.rest()
            return None

    def _count(self, found: Current) -> None:
        self._metrics.tail.observe(found.folded)
        if found.folded > PAGE:
            self._metrics.refolds.inc()
        if found.astray:
            log.warning("the snapshot of %r is not of this event log; folded from the start", found.state.user_id)
            self._metrics.fallbacks.labels("snapshot_astray").inc()
