"""A user's state as of this request: the snapshot in Feast, or this process's own, plus the user's tail in the log.

The tail is read from the log in every request, never remembered, so that whatever was acknowledged is reflected,
whichever process acknowledged it. A stale or missing snapshot costs a longer tail, never truth.
"""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.tail import PAGE, Current, current
from attune.user_state import UserState, empty
from features.store import FeatureStore
from models.recommender import UNKNOWN_USER_STATS
from serving.metrics import Metrics

log = logging.getLogger(__name__)

STATS_SECONDS = 60.0
"""How long a user's statistics are used before they are read again; they change once an hour."""

REOPEN_SECONDS = 5.0
"""How long a feature store that failed is left alone before it is opened anew."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a user: the folded state, ``USER_STATS`` (float32, NaN when unknown), what failed."""

    state: UserState
    user_stats: np.ndarray
    degraded: list[str]


class Snapshots:
    """The feature store's snapshots, done without while the store fails; threads may share one.

    A store that failed is left alone for ``REOPEN_SECONDS`` and then opened anew.
    """

    def __init__(self, open_store: Callable[[], FeatureStore]) -> None:
        self._open_store = open_store
        self._store: FeatureStore | None = None
        self._retry_at = 0.0

    def read(self, user_id: str) -> tuple[UserState | None, np.ndarray] | None:
        """(snapshot or None, user_stats), or None while the store cannot be read."""
        store = self._store
        if store is None and time.monotonic() < self._retry_at:
            return None
        try:
            if store is None:
                store = self._store = self._open_store()
            return store.online(user_id)
        except Exception as error:  # damaged files show as anything: Feast's errors, SQLite's, a broken row
            log.warning("the feature store cannot be read; states come from the event log alone: %s", error)
            self._store = None
            self._retry_at = time.monotonic() + REOPEN_SECONDS
            return None


class RecentStates:
    """The states that this process folded last, each with the statistics that were read for it.

    A state is a function of the log up to its position, so it never becomes wrong, only old: it is the start of the
    next tail, in place of Feast's snapshot. Statistics are read anew after ``STATS_SECONDS``.
    """

    def __init__(self, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, UserState, np.ndarray]] = OrderedDict()
        self._changing = threading.Lock()

    def get(self, user_id: str) -> tuple[UserState, np.ndarray] | None:
        """The user's state and statistics; None when they are not known here, or the statistics are old."""
        read_at, state, user_stats = self._kept.get(user_id, (-math.inf, None, None))
        if state is None or user_stats is None or self._clock() - read_at > STATS_SECONDS:
            return None
        return state, user_stats

    def put(self, state: UserState, user_stats: np.ndarray, fresh: bool) -> None:
        """Keep a state; ``fresh`` says that the statistics were read just now. The least recent one is forgotten."""
        with self._changing:
            read_at = self._clock() if fresh else self._kept.get(state.user_id, (-math.inf,))[0]
            self._kept[state.user_id] = (read_at, state, user_stats)
            self._kept.move_to_end(state.user_id)
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)


class StateReader:
    """Reads users' states; blocking, so call it on a lane."""

    def __init__(self, event_log: EventLog, snapshots: Snapshots, recent: RecentStates, metrics: Metrics) -> None:
        self._log = event_log
        self._snapshots = snapshots
        self._recent = recent
        self._metrics = metrics

    def read(self, user_id: str) -> Known:
        """The user's state as of now.

        A failing feature store leaves the log alone to answer (``degraded`` says ``features``). A failing log
        leaves the snapshot, which may lack the latest events (``degraded`` says ``event_log``).
        """
        recent = self._recent.get(user_id)
        read = recent or self._snapshots.read(user_id)
        degraded = [] if read else ["features"]
        snapshot, user_stats = read or (None, UNKNOWN_USER_STATS)
        state = snapshot or empty(user_id)
        try:
            found = current(self._log, state)
        except EventLogError as error:
            log.warning("the event log cannot be read; the snapshot answers alone: %s", error)
            degraded.append("event_log")
        else:
            state = found.state
            self._count(found)
            if read:
                self._recent.put(state, user_stats, fresh=recent is None)
        for source in degraded:
            self._metrics.fallbacks.labels(source).inc()
        return Known(state, user_stats, degraded)

    def _count(self, found: Current) -> None:
        self._metrics.tail.observe(found.folded)
        if found.folded > PAGE:
            self._metrics.refolds.inc()
        if found.astray:
            log.warning("the snapshot of %r is not of this event log; folded from the start", found.state.user_id)
            self._metrics.fallbacks.labels("snapshot_astray").inc()
