"""A user's state as of this request: the snapshot in Feast, or this process's own, plus the user's tail in the log.

The tail is read from the log in every request, never remembered, so that whatever was acknowledged is reflected,
whichever process acknowledged it. A stale or missing snapshot costs a longer tail, never truth.
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
from attune.log_tail import PAGE, Current, currents
from attune.user_state import UserState, empty
from features.feature_store import FeatureStore
from models.recommender import UNKNOWN_USER_STATS
from serving.bounded_executor import Lane, Overloaded
from serving.catalogue_snapshot import Choice, Offer, ShopKeeper
from serving.metrics import Metrics
from serving.micro_batcher import Batcher

# What the log says at this moment, of users and of items: asked once for all the requests that wait.


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """A state as it was folded last, and what its user may choose from (None: nothing is to be chosen)."""

    state: UserState
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """The state as of now, None where the log cannot be read; what there is to choose from, where that was asked.

    ``is_long`` says that the log can be read, and that this state takes so long to fold that it is asked for alone.
    """

    current: Current | None
    offer: Offer | None
    is_long: bool = False


class Lookout:
    """Looks into the log for many requests at once: one statement for users, one for items."""

    def __init__(self, event_log: EventLog, keeper: ShopKeeper) -> None:
        self._log = event_log
        self._keeper = keeper

    def look(self, looks: Sequence[Look]) -> list[Sight]:
        """What each sees; nothing that was acknowledged before the call is missing. Blocks.

        Raises UnreadableEvent where a user among several has an event that this version cannot read: alone, the others
        see all of theirs.
        """
        choices = [one.choice for one in looks if one.choice is not None]
        try:
            states, is_read = currents(self._log, [one.state for one in looks]), True
        except UnreadableEvent:
            if len(looks) > 1:
                raise
            states, is_read = [None], False
        except EventLogError as error:
            log.warning("the event log cannot be read; snapshots answer alone: %s", error)
            states, is_read = [None] * len(looks), False
        offers = iter(self._keeper.offers(choices) if is_read else map(Offer.without_log, choices))
        return [
            Sight(state, next(offers) if one.choice is not None else None, is_long=is_read and state is None)
            for one, state in zip(looks, states, strict=True)
        ]


STATS_SECONDS = 60.0
"""How long a user's statistics are used before they are read again; they change once an hour."""

REOPEN_SECONDS = 5.0
"""How long a feature store that failed is left alone before it is opened anew."""


FEATURES, EVENT_LOG, PROCESS = "features", "event_log", "process"
"""Who a state comes from, or who could not be asked for it."""

NOBODY = ""
"""A user id that the door lets nobody have."""

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
    degraded: list[str] = field(default_factory=list)
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

    def read(self, user_ids: Sequence[str]) -> Sequence[Snapshot | None]:
        """(state as last pushed or None, user_stats) of each; None for all while the store cannot be read. Blocks.

        Damage shows as anything: Feast's errors, SQLite's, a broken row. A store that answers for somebody whom nobody
        knows is sound, and who cannot be read there is the only one without a snapshot.
        """
        if self.at_rest:
            return [None] * len(user_ids)
        try:
            store = self._store = self._store or self._open_store()
            try:
                return store.online_many(user_ids)
            except Exception:
                store.online_many([NOBODY])
                return [self._alone(store, user_id) for user_id in user_ids]
        except Exception as error:
            log.warning("the feature store cannot be read; states come from the event log alone: %s", error)
            self.rest()
            return [None] * len(user_ids)

    def _alone(self, store: FeatureStore, user_id: str) -> Snapshot | None:
        try:
            return store.online(user_id)
        except Exception as error:
            log.warning("the snapshot of %r cannot be read; the event log alone answers: %s", user_id, error)
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
    """Reads users' states: ``features`` asks for the snapshots of many, ``tails`` looks into the log for many.

    Who has a long tail is folded alone, on the lane ``reads`` by ``folding``, so that it holds nobody else up.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        recent: RecentStates,
        metrics: Metrics,
        features: Batcher[str, Snapshot | None],
        tails: Batcher[Look, Sight],
        folding: Callable[[UserState], Current],
        reads: Lane,
    ) -> None:
        self._snapshots = snapshots
        self._recent = recent
        self._metrics = metrics
        self._features = features
        self._tails = tails
        self._folding = folding
        self._reads = reads

    async def read(self, user_id: str, seconds: float) -> Known:
        """The user's state as of now, within so many seconds.

        A failing or slow feature store leaves the log alone to answer (``degraded`` says ``features``). A failing or
        slow log leaves the snapshot, which may lack the latest events (``degraded`` says ``event_log``).
        """
        known, _ = await self._read(user_id, None, seconds)
        return known

    async def read_and_offer(self, user_id: str, choice: Choice, seconds: float) -> tuple[Known, Offer]:
        """``read``, and what there is to choose from; without the log what there was, and ``degraded`` says so."""
        known, offer = await self._read(user_id, choice, seconds)
        offer = offer or Offer.without_log(choice)
        if offer.stale and EVENT_LOG not in known.degraded:
            self._degrade(known.degraded, EVENT_LOG)
        return known, offer

    async def _read(self, user_id: str, choice: Choice | None, seconds: float) -> tuple[Known, Offer | None]:
        started = time.monotonic()
        recent = self._recent.get(user_id)
        read = recent or await self._snapshot(user_id, seconds / 2)
        snapshot, user_stats = read or (None, UNKNOWN_USER_STATS)
        known = Known(snapshot or empty(user_id), user_stats)
        if read is None:
            self._degrade(known.degraded, FEATURES)
        left = max(seconds - (time.monotonic() - started), 0.0)
        sight = await self._sight(Look(known.state, choice), left)
        if sight.is_long:
            sight = replace(sight, current=await self._folded(known, started + seconds, keep=read is not None))
        if sight.current is None:
            self._degrade(known.degraded, EVENT_LOG)
            position, tail = known.state.position, 0
        else:
            self._count(sight.current)
            position, tail = 0 if sight.current.astray else known.state.position, sight.current.folded
            known = replace(known, state=sight.current.state)
            if read:
                self._recent.put(known.state, user_stats, fresh=recent is None)
        folded_by = (PROCESS if recent else FEATURES) if position else None
        return replace(known, snapshot_position=position, snapshot_from=folded_by, tail=tail), sight.offer

    async def _snapshot(self, user_id: str, seconds: float) -> Snapshot | None:
        if self._snapshots.at_rest:
            return None
        try:
            return await self._features.ask(user_id, seconds)
        except Overloaded as error:
            log.warning("the feature store is too slow; states come from the event log alone: %s", error)
            self._snapshots.rest()
            return None

    async def _sight(self, look: Look, seconds: float) -> Sight:
        try:
            return await self._tails.ask(look, seconds)
        except Overloaded as error:
            log.warning("the event log is too slow; the snapshot answers alone: %s", error)
            return Sight(None, None)

    async def _folded(self, known: Known, until: float, keep: bool) -> Current | None:
        """The long way; what was folded is kept though the time is over by then, so that the next one is short."""

        def fold() -> Current:
            found = self._folding(known.state)
            if keep:
                self._recent.put(found.state, known.user_stats, fresh=False)
            return found

        try:
            return await self._reads.run(fold, seconds=max(until - time.monotonic(), 0.0))
        except (EventLogError, Overloaded) as error:
            log.warning("the tail of %r takes too long; the snapshot answers alone: %s", known.state.user_id, error)
            return None

    def _degrade(self, degraded: list[str], source: str) -> None:
        degraded.append(source)
        self._metrics.fallbacks.labels(source).inc()

    def _count(self, found: Current) -> None:
        self._metrics.tail.observe(found.folded)
        if found.folded > PAGE:
            self._metrics.refolds.inc()
        if found.astray:
            log.warning("the snapshot of %r is not of this event log; folded from the start", found.state.user_id)
            self._metrics.fallbacks.labels("snapshot_astray").inc()
