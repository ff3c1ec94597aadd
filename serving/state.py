"""A user's state as of this request: the snapshot in Feast plus the user's tail in the log.

The user's last position is read from the log in every request, never remembered, so that whatever was acknowledged
is reflected, whichever process acknowledged it. A stale or missing snapshot costs a longer tail, never truth.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attune.columns import USER_STATS
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.user_state import UserState, empty, fold
from features.store import FeatureStore
from serving.metrics import Metrics

log = logging.getLogger(__name__)

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


class StateReader:
    """Reads users' states; blocking, so call it on a lane."""

    def __init__(self, event_log: EventLog, snapshots: Snapshots, metrics: Metrics) -> None:
        self._log = event_log
        self._snapshots = snapshots
        self._metrics = metrics

    def read(self, user_id: str) -> Known:
        """The user's state as of now.

        A failing feature store leaves the log alone to answer (``degraded`` says ``features``). A failing log
        leaves the snapshot, which may lack the latest events (``degraded`` says ``event_log``).
        """
        degraded: list[str] = []
        read = self._snapshots.read(user_id)
        if read is None:
            degraded.append("features")
        snapshot, user_stats = read or (None, np.full(len(USER_STATS), np.nan, np.float32))
        try:
            state = self._current(user_id, snapshot)
        except EventLogError as error:
            log.warning("the event log cannot be read; the snapshot answers alone: %s", error)
            degraded.append("event_log")
            state = snapshot or empty(user_id)
        for source in degraded:
            self._metrics.fallbacks.labels(source).inc()
        return Known(state, user_stats, degraded)

    def _current(self, user_id: str, snapshot: UserState | None) -> UserState:
        last = self._log.last_position(user_id)
        state = snapshot or empty(user_id)
        if state.position > last:  # a snapshot of another log, such as one restored from a backup
            log.warning("the snapshot of %r is ahead of the event log; folding from the start", user_id)
            self._metrics.fallbacks.labels("snapshot_ahead").inc()
            state = empty(user_id)
        if state.position == last:
            self._metrics.tail.observe(0)
            return state
        tail = self._log.tail(user_id, state.position)
        self._metrics.tail.observe(len(tail))
        return fold(state, tail)
