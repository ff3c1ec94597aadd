"""Events as they go by: windows of a stream, and what of its users is remembered from one window to the next.

What is remembered grows with the users and not with the stream: the latest events of each, a bit for each item that
each has seen, and how many events each has had. The queries of a window are those of ``evaluation.replay`` over its
events and the remembered ones before them.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from attune.clock import DAY
from attune.columns import USER_STATS
from evaluation.replay import Queries, QueryBatch
from models.catalogue import Catalogue
from models.history import HISTORY_LIMIT, HistoryBatch
from models.learning.dataset import Groups, Ragged, TrainingSet, groups, histories, seen, targets

WINDOW = 2048
"""So many events are in a window, and a few more where a moment would be parted."""

SPAN = 60 * DAY
"""A window never lasts longer, however few events that leaves in it: decay inside it stays within what floats hold."""

_ALWAYS, _NEVER = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_BITS = np.left_shift(1, np.arange(7, -1, -1)).astype(np.uint8)


def windows(stream: TrainingSet, after: int, upto: int, size: int = WINDOW, span: int = SPAN) -> Iterator[TrainingSet]:
    """The events at moments in (after, upto], in the order of time, cut between moments."""
    rows = np.flatnonzero((stream.times > after) & (stream.times <= upto))
    times, start = stream.times[rows], 0
    while start < len(rows):
        stop = min(start + size, int(np.searchsorted(times, times[start] + span, side="right")))
        stop = int(np.searchsorted(times, times[stop - 1], side="right"))
        yield stream.select(rows[start:stop])
        start = stop


class StreamState:
    """What is remembered of U users over a catalogue of N items: the latest ``limit`` events of each, oldest first.

    The arrays of the events are as in ``HistoryBatch``. ``events_U`` counts all events that there were; ``latest`` is
    the moment of the last of them.
    """

    def __init__(self, users: int, catalogue: Catalogue, limit: int = HISTORY_LIMIT) -> None:
        self.catalogue, self.limit = catalogue, limit
        self.items_UL = np.zeros((users, limit), np.int32)
        self.kinds_UL = np.zeros((users, limit), np.int8)
        self.rewards_UL = np.full((users, limit), 0.5, np.float32)
        self.times_UL = np.zeros((users, limit), np.int64)
        self.user_stats_UF = np.full((users, len(USER_STATS)), np.nan, np.float32)
        self.events_U = np.zeros(users, np.int64)
        self._seen_UX = np.zeros((users, -(-len(catalogue) // 8)), np.uint8)
        self.latest = _NEVER

    def copy(self) -> "StreamState":
        """The same as of now, whatever is remembered later."""
        return copy.deepcopy(self, {id(self.catalogue): self.catalogue})

    def seen(self, users_B: np.ndarray) -> np.ndarray:
        """seen_BN, bool: the items that each of the users has seen."""
        bits_BN = np.unpackbits(self._seen_UX[users_B], axis=1, count=len(self.catalogue))
        return bits_BN.view(bool)

    def has_seen(self, users_T: np.ndarray, items_T: np.ndarray) -> np.ndarray:
        """Of each pair of a user and an item whether the one has seen the other."""
        found_T: np.ndarray = (self._seen_UX[users_T, items_T >> 3] & _BITS[items_T & 7]) > 0
        return found_T

    def histories(self, users_B: np.ndarray, moments_B: np.ndarray) -> HistoryBatch:
        """What is remembered of the users, asked at these moments."""
        length = max(int((self.items_UL[users_B] > 0).sum(axis=1).max(initial=0)), 1)
        items_BL = self.items_UL[users_B, -length:].astype(np.int64)
        stats_BLF = self.catalogue.stats_NF[np.maximum(items_BL - 1, 0)]
        return HistoryBatch(
            items_BL=items_BL,
            kinds_BL=self.kinds_UL[users_B, -length:].astype(np.int64),
            rewards_BL=self.rewards_UL[users_B, -length:],
            times_BL=self.times_UL[users_B, -length:],
            item_stats_BLF=np.where((items_BL > 0)[..., None], stats_BLF, np.float32(np.nan)),
            user_stats_BF=self.user_stats_UF[users_B],
            now_B=moments_B,
        )

    def known(self, window: TrainingSet) -> TrainingSet:
        """The window's events, and before them what is remembered of its users, at negative positions.

        Raises ValueError for a window over other items.
        """
        if window.catalogue.item_ids != self.catalogue.item_ids:
            raise ValueError("the window's events refer to another catalogue than what is remembered")
        users = np.unique(window.users)
        user_R, column_R = np.nonzero(self.items_UL[users])
        user_R = users[user_R]
        order = np.argsort(self.times_UL[user_R, column_R], kind="stable")
        user_R, place = user_R[order], (user_R[order], column_R[order])
        return replace(
            window,
            positions=np.concatenate([column_R[order] - self.limit, window.positions]),
            users=np.concatenate([user_R, window.users]),
            items=np.concatenate([self.items_UL[place] - 1, window.items]),
            kinds=np.concatenate([self.kinds_UL[place], window.kinds]),
            rewards=np.concatenate([self.rewards_UL[place], window.rewards]),
            times=np.concatenate([self.times_UL[place], window.times]),
            user_stats_EF=_below_unknown(len(user_R), window.user_stats_EF),
            item_stats_EF=_below_unknown(len(user_R), window.item_stats_EF),
            catalogue=self.catalogue,
        )

    def append(self, window: TrainingSet) -> None:
        """Take the events of a window in. Raises ValueError when it does not lie after all that is remembered."""
        if not len(window):
            return
        if window.times[0] <= self.latest:
            raise ValueError("windows must follow each other in the order of time, and part no moment")
        known, users = self.known(window), np.unique(window.users)
        asked = _at_the_end(users)
        latest = histories(known, asked, self.limit)
        columns = slice(-latest.items_BL.shape[1], None)
        self.items_UL[users, columns] = latest.items_BL
        self.kinds_UL[users, columns] = latest.kinds_BL
        self.rewards_UL[users, columns] = latest.rewards_BL
        self.times_UL[users, columns] = latest.times_BL
        had = seen(known, asked)
        bytes_of = (users[had.row_of_value()], had.values >> 3)
        np.bitwise_or.at(self._seen_UX, bytes_of, _BITS[had.values & 7])
        self.user_stats_UF[window.users] = window.user_stats_EF  # rows are in the order of time: the latest one stays
        self.events_U += np.bincount(window.users, minlength=len(self.events_U))
        self.latest = int(window.times[-1])


def _below_unknown(rows: int, stats_EF: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((rows, stats_EF.shape[1]), np.nan, np.float32), stats_EF])


def _at_the_end(users: np.ndarray) -> Groups:
    """Questions about users after everything, without any target."""
    none = Ragged(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int64))
    stats = np.full((len(users), len(USER_STATS)), np.nan, np.float32)
    return Groups(users, np.full(len(users), _ALWAYS), stats, none)


@dataclass(frozen=True)
class StreamQueryBatch(QueryBatch):
    """Queries that all have a target; ``seen_BN`` is what their users have seen, ``earlier_B`` their events before."""

    seen_BN: np.ndarray
    earlier_B: np.ndarray


class WindowQueries(Queries):
    """The queries of one window that have a target."""

    def __init__(self, state: StreamState, window: TrainingSet) -> None:
        known = state.known(window)
        every = groups(known, -1, _ALWAYS)
        candidates = targets(known, every)
        fresh_T = ~state.has_seen(every.users[candidates.row_T], known.items[candidates.event_T])
        super().__init__(known, every.select(np.unique(candidates.row_T[fresh_T])), limit=state.limit)
        self._state = state

    def batch(self, start: int, stop: int) -> StreamQueryBatch:
        """The queries at places [start, stop); what is no longer remembered but was seen is no target."""
        queries, state = super().batch(start, stop), self._state
        users_B = queries.users_B
        fresh_T = ~state.has_seen(users_B[queries.row_T], queries.item_T)
        seen_BN = state.seen(users_B)
        seen_BN[queries.row_S, queries.seen_S] = True
        remembered_B = (state.items_UL[users_B] > 0).sum(axis=1)
        fresh = {name: getattr(queries, name)[fresh_T] for name in ("row_T", "item_T", "event_T")}
        return StreamQueryBatch(
            **{**vars(queries), **fresh},
            seen_BN=seen_BN,
            earlier_B=state.events_U[users_B] - remembered_B + self.lengths[queries.query_B],
        )
