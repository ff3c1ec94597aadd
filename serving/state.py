"""A user's state as of this request: the snapshot in Feast, or this process's own, plus the user's tail in the log.

Every request reads the tail from the log, so that whatever was acknowledged is reflected, whichever process
acknowledged it. A stale or missing snapshot costs a longer tail, never truth.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from cachetools import LRUCache

from attune.errors import EventLogError, UnreadableEvent
from attune.event_log import EventLog
from attune.user_state import PAGE, Current, UserState, current, currents
from features.feature_store import FeatureStore
from models.recommender import UNKNOWN_USER_STATS
from serving.catalogue_snapshot import CatalogueReader, ItemFilter, Pool
from serving.metrics import Metrics
from serving.micro_batcher import BoundedExecutor, MicroBatcher, Overloaded

log = logging.getLogger(__name__)

STATS_SECONDS = 60.0
"""How long a user's statistics are used before they are read again; they change once an hour."""

REOPEN_SECONDS = 5.0  # how long a feature store that failed is left alone before it is opened again

FEATURES, EVENT_LOG, PROCESS = "features", "event_log", "process"
"""Where a state comes from, or what could not be read for it."""

NOBODY = ""  # a user id that the row rules refuse

UserSnapshot = tuple[UserState | None, np.ndarray]
"""A state as last pushed to the feature store, and ``USER_STATS``."""


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as of now: the folded state, ``USER_STATS`` (float32, NaN when unknown), what could not be read.

    The state was folded up to ``snapshot_position`` before, by ``snapshot_from`` (`process` or `features`; None: not
    at all), and ``tail`` events came on top.
    """

    state: UserState
    user_stats: np.ndarray
    degraded: list[str] = field(default_factory=list)
    snapshot_position: int = 0
    snapshot_from: str | None = None
    tail: int = 0


@dataclass(frozen=True, slots=True)
class TailQuery:
    """A state as it was folded last, and the items that its user wants to choose from (None: none)."""

    state: UserState
    item_filter: ItemFilter | None = None


@dataclass(frozen=True, slots=True)
class TailView:
    """The state as of now (None where the log cannot be read), and the candidates where the query has a filter.

    ``is_long`` says that the log can be read, and that this state takes so long to fold that it is folded alone.
    """

    current: Current | None
    pool: Pool | None
    is_long: bool = False


def read_tails(event_log: EventLog, catalogue: CatalogueReader, queries: Sequence[TailQuery]) -> list[TailView]:
    """The log as of now for many requests: one statement for their users, one for items. Blocks.

    Raises UnreadableEvent where a user among several has an event that this version cannot read: each is tried alone.
    """
    filters = [query.item_filter for query in queries if query.item_filter is not None]
    states: Sequence[Current | None] = [None] * len(queries)
    is_read = False
    try:
        states, is_read = currents(event_log, [query.state for query in queries]), True
    except UnreadableEvent:
        if len(queries) > 1:
            raise
    except EventLogError as error:
        log.warning("the event log cannot be read; snapshots answer alone: %s", error)
    pools = iter(catalogue.pools(filters) if is_read else [item_filter.pool(stale=True) for item_filter in filters])
    return [
        TailView(state, next(pools) if query.item_filter is not None else None, is_long=is_read and state is None)
        for query, state in zip(queries, states, strict=True)
    ]


class UserSnapshots:
    """The feature store's snapshots; requests go on without while the store fails. Threads may share one.

    A store that failed is left alone for ``REOPEN_SECONDS`` and then opened again.
    """

    def __init__(self, open_store: Callable[[], FeatureStore]) -> None:
        self._open_store = open_store
        self._store: FeatureStore | None = None
        self._retry_at = 0.0

    def read(self, user_ids: Sequence[str]) -> Sequence[UserSnapshot | None]:
        """(state as last pushed or None, user_stats) of each; None for all while the store cannot be read. Blocks.

        Damage shows as anything: Feast's errors, SQLite's, a broken row. If the store still answers for a user id that
        nobody has, the store is sound, and only the users whose rows cannot be read go without a snapshot.
        """
        if time.monotonic() < self._retry_at:
            return [None] * len(user_ids)
        try:
            store = self._store = self._store or self._open_store()
            try:
                return store.online_many(user_ids)
            except Exception:
                store.online_many([NOBODY])
                return [_read_alone(store, user_id) for user_id in user_ids]
        except Exception as error:
            log.warning("the feature store cannot be read; states come from the event log alone: %s", error)
            self._store, self._retry_at = None, time.monotonic() + REOPEN_SECONDS
            return [None] * len(user_ids)


def _read_alone(store: FeatureStore, user_id: str) -> UserSnapshot | None:
    try:
        return store.online(user_id)
    except Exception as error:
        log.warning("the snapshot of %r cannot be read; the event log alone answers: %s", user_id, error)
        return None


class RecentStates:
    """The states that this process folded last, each with the statistics that were read for it.

    A state is a function of the log up to its position, so it never becomes wrong, only old: it is the start of the
    next tail, in place of Feast's snapshot. Statistics are read again after ``STATS_SECONDS``.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._cache: LRUCache[str, tuple[float, UserState, np.ndarray]] = LRUCache(capacity)
        self._lock = threading.Lock()

    def get(self, user_id: str) -> tuple[UserState, np.ndarray] | None:
        """The user's state and statistics; None when they are not known here, or the statistics are old."""
        with self._lock:
            row = self._cache.get(user_id)
        return None if row is None or self._clock() - row[0] > STATS_SECONDS else row[1:]

    def put(self, state: UserState, user_stats: np.ndarray, fresh: bool) -> None:
        """Keep a state; ``fresh`` says that the statistics were read just now. The least used one is forgotten."""
        if not self._capacity:
            return
        with self._lock:
            before = self._cache.get(state.user_id)
            read_at = self._clock() if fresh or before is None else before[0]
            self._cache[state.user_id] = (read_at, state, user_stats)


@dataclass(frozen=True)
class StateReader:
    """Reads users' states: ``features`` reads the snapshots of many users at once, ``tails`` their tails.

    A user with a long tail is folded alone on the executor ``reads``, so that it holds up no other request.
    """

    event_log: EventLog
    recent: RecentStates
    metrics: Metrics
    features: MicroBatcher[str, UserSnapshot | None]
    tails: MicroBatcher[TailQuery, TailView]
    reads: BoundedExecutor

    async def read(self, user_id: str, seconds: float) -> UserView:
        """The user's state as of now, within so many seconds.

        A failing or slow feature store leaves the log alone to answer (``degraded`` says ``features``). A failing or
        slow log leaves the snapshot, which may lack the latest events (``degraded`` says ``event_log``).
        """
        user, _ = await self._read(user_id, None, seconds)
        return user

    async def read_with_pool(self, user_id: str, item_filter: ItemFilter, seconds: float) -> tuple[UserView, Pool]:
        """``read``, and the candidates; without the log as of the latest snapshot, and ``degraded`` says so."""
        user, pool = await self._read(user_id, item_filter, seconds)
        pool = pool or item_filter.pool(stale=True)
        if pool.stale and EVENT_LOG not in user.degraded:
            self._degrade(user.degraded, EVENT_LOG)
        return user, pool

    async def _read(self, user_id: str, item_filter: ItemFilter | None, seconds: float) -> tuple[UserView, Pool | None]:
        until = time.monotonic() + seconds
        recent = self.recent.get(user_id)
        snapshot = recent or await self._snapshot(user_id, seconds / 2)
        state, user_stats = snapshot or (None, UNKNOWN_USER_STATS)
        user = UserView(state or UserState(user_id), user_stats)
        if snapshot is None:
            self._degrade(user.degraded, FEATURES)
        try:
            view = await self.tails.submit(TailQuery(user.state, item_filter), max(until - time.monotonic(), 0.0))
        except Overloaded as error:
            log.warning("the event log is too slow; the snapshot answers alone: %s", error)
            view = TailView(None, None)
        now = await self._fold_alone(user, until, keep=snapshot is not None) if view.is_long else view.current
        if now is None:
            self._degrade(user.degraded, EVENT_LOG)
            position, tail = user.state.position, 0
        else:
            self.metrics.tail.observe(now.folded)
            if now.folded > PAGE:
                self.metrics.refolds.inc()
            if now.astray:
                log.warning("the snapshot of %r is not of this event log; folded from the start", user_id)
                self.metrics.fallbacks.labels("snapshot_astray").inc()
            position, tail = 0 if now.astray else user.state.position, now.folded
            user = replace(user, state=now.state)
            if snapshot:
                self.recent.put(now.state, user_stats, fresh=recent is None)
        folded_by = (PROCESS if recent else FEATURES) if position else None
        return replace(user, snapshot_position=position, snapshot_from=folded_by, tail=tail), view.pool

    async def _snapshot(self, user_id: str, seconds: float) -> UserSnapshot | None:
        if self.features.is_stuck:  # until that read ends, nobody else waits for it
            return None
        try:
            return await self.features.submit(user_id, seconds)
        except Overloaded as error:
            log.warning("the feature store is too slow; states come from the event log alone: %s", error)
            return None

    async def _fold_alone(self, user: UserView, until: float, keep: bool) -> Current | None:
        """The long way. The state is kept even if the time is over by then, so that the next tail is short."""

        def fold() -> Current:
            folded = current(self.event_log, user.state)
            if keep:
                self.recent.put(folded.state, user.user_stats, fresh=False)
            return folded

        try:
            return await self.reads.run(fold, seconds=max(until - time.monotonic(), 0.0))
        except (EventLogError, Overloaded) as error:
            log.warning("the tail of %r takes too long; the snapshot answers alone: %s", user.state.user_id, error)
            return None

    def _degrade(self, degraded: list[str], source: str) -> None:
        degraded.append(source)
        self.metrics.fallbacks.labels(source).inc()
