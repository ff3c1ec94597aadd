"""How much an account may say to others: the one rule by which reactions count for anybody but their own user.

Popularity (trained, and the fallback before the first promotion), the items' statistics, item-kNN and the live item
profile all count by it:

- **Once.** A user counts once for an item: the latest reaction that stands, at its own time. A take-back lets the one
  before it stand again.
- **So much an hour.** Of a user's reactions that carry the same hour the first ``MOST_AN_HOUR`` count (where events are
  counted as they come, those over HTTP and those of imports apart: a history takes nobody's place of today).
- **History.** A reaction of somebody who had used fewer than ``HISTORY_ITEMS`` other items before it counts
  ``NEWCOMER``. Where events are counted as they come (the fallback, the live item profile), what was used in the same
  hour is no history yet; in the live item profile, which moves before any gate, a newcomer counts nothing.

So N accounts weigh at most as much on an item as N people, N * ``NEWCOMER`` as long as they have no history, and on all
items together N * ``MOST_AN_HOUR`` for each hour that their reactions carry. By how much they move an item in the live
profile: ``attune.item_profile``.
"""

from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from time import monotonic
from typing import NamedTuple

import numpy as np

from attune.clock import HOUR, MINUTE
from attune.event_log import EventLog
from attune.event_types import RETRACT, SEEN_KINDS, VERDICTS
from attune.events import Behaviour, LoggedEvent

MOST_A_MINUTE = 60
"""Of the feedback, and of the interactions, that a user sends over HTTP (``LoggedEvent.is_live``) so many that carry
the same minute count, here and wherever events teach anything (``features.labels``); the others are a script's."""

MOST_AN_HOUR = 200
"""A person who rates films one after another gets to 150 in an hour (MovieLens); the rest is a script's."""

HISTORY_ITEMS = 5

NEWCOMER = 0.25


def influence(users_E: np.ndarray, items_E: np.ndarray, times_E: np.ndarray) -> np.ndarray:
    """What each reaction may count, float64 in [0, 1] (E,): a verdict on what the user had done before it.

    ``users_E`` and ``items_E`` are codes (int64), ``times_E`` in microseconds and in the order in which events count.
    """
    by_user, by_pair = np.argsort(users_E, kind="stable"), np.lexsort((items_E, users_E))
    begins_E = _begins(users_E[by_pair], items_E[by_pair])
    is_first_E = np.zeros(len(users_E), bool)
    is_first_E[by_pair[begins_E]] = True
    before_E = np.cumsum(is_first_E[by_user]) - is_first_E[by_user]  # items that anybody before had used, by user
    starts_E = _starts(users_E[by_user])
    others_E = np.empty(len(users_E), np.int64)
    others_E[by_user] = before_E - before_E[starts_E] - ~is_first_E[by_user]
    weights_E = np.where(others_E >= HISTORY_ITEMS, 1.0, NEWCOMER)
    hours_E = times_E // HOUR
    by_hour = np.lexsort((hours_E, users_E))  # stable, as all of these
    turns_E = np.arange(len(by_hour)) - _starts(users_E[by_hour], hours_E[by_hour])
    weights_E[by_hour[turns_E >= MOST_AN_HOUR]] = 0.0
    return weights_E


def standing(users_E: np.ndarray, items_E: np.ndarray, weights_E: np.ndarray) -> np.ndarray:
    """The places (ascending, int64) of each user's last reaction to each item, of those that weigh anything."""
    places = np.flatnonzero(weights_E)
    by_pair = places[np.lexsort((items_E[places], users_E[places]))]
    ends = np.append(_begins(users_E[by_pair], items_E[by_pair]), True)[1:]
    return np.sort(by_pair[ends[: len(by_pair)]])


def _begins(*keys: np.ndarray) -> np.ndarray:
    """Where a run of equal keys begins, in arrays that are sorted by them."""
    changes = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.append([True], changes) if len(keys[0]) else np.zeros(0, bool)


def _starts(*keys: np.ndarray) -> np.ndarray:
    """The place at which each element's run of equal keys begins."""
    return np.maximum.accumulate(np.where(_begins(*keys), np.arange(len(keys[0])), 0))


PAIRS_LIMIT = 200_000
"""Users' reactions to items that are kept, some 100 MB: the one touched longest ago is forgotten with what it said."""

USERS_LIMIT = 200_000
"""Users that are kept; of one that comes back the log says the history again."""

STACK_LIMIT = 4
"""Reactions of one user to one item that a take-back can bring back."""

History = Callable[[Collection[str], int], Mapping[str, Mapping[str, int]]]
"""The items that users had used up to a log position, with the moment of each first use: ``EventLog.first_uses``."""


def no_history(user_ids: Collection[str], upto: int) -> Mapping[str, Mapping[str, int]]:
    """Everybody is new."""
    return {}


class Reaction(NamedTuple):
    """What a user's event says of an item: ``said`` is what it says times what it may count."""

    event_id: str
    item_id: str
    said: float
    time: int


Change = tuple[float, Reaction]
"""A reaction that stands from now on (1.0), or no longer (-1.0)."""


@dataclass(slots=True)
class _User:
    uses: dict[str, int]
    """The first items used, one more than make a history, with the hour of each first use."""
    spent: dict[bool, tuple[int, int]] = field(default_factory=dict)
    """Of live and of imported reactions: the hour of the latest, and how many carried it."""
    sent: dict[type, tuple[int, int]] = field(default_factory=dict)
    """By type of event over HTTP: the latest minute and how many carried it."""


@dataclass
class StandingReactions:
    """The reaction of each user to each item that stands, event by event: a fold of the log, for one thread.

    The sum of all changes is what the pairs say that are kept, so nobody ever counts twice. ``newcomer`` is what
    somebody without history counts.
    """

    history: History
    newcomer: float
    pairs_limit: int = PAIRS_LIMIT
    users_limit: int = USERS_LIMIT
    set_aside: int = 0
    """Events that were a burst."""
    _users: dict[str, _User] = field(default_factory=dict)
    _pairs: OrderedDict[tuple[str, str], list[Reaction]] = field(default_factory=OrderedDict)
    _known: dict[str, tuple[str, str]] = field(default_factory=dict)

    def meet(self, user_ids: Iterable[str], upto: int) -> None:
        """Look up the history, up to a position, of the users that are not known, all at once."""
        strangers = [user_id for user_id in dict.fromkeys(user_ids) if user_id not in self._users]
        histories = self.history(strangers, upto) if strangers else {}
        for user_id in strangers:
            first = sorted(histories.get(user_id, {}).items(), key=lambda use: use[1])[: HISTORY_ITEMS + 1]
            self._users[user_id] = _User({item_id: moment // HOUR for item_id, moment in first})

    def weight(self, user_id: str, item_id: str, moment: int, position: int) -> float:
        """What the user may say of that item at a moment."""
        uses, hour = self._user(user_id, position).uses, moment // HOUR
        others = sum(first < hour for name, first in uses.items() if name != item_id)
        return 1.0 if others >= HISTORY_ITEMS else self.newcomer

    def take(self, entry: LoggedEvent, event: Behaviour, said: float) -> list[Change]:
        """A use of an item, which says so much."""
        user, moment = self._user(event.user_id, entry.position), entry.happened_at
        if self._is_burst(user, entry, event):
            self.set_aside += 1
            return []
        weight = self.weight(event.user_id, event.item_id, moment, entry.position)
        if len(user.uses) <= HISTORY_ITEMS:
            user.uses.setdefault(event.item_id, moment // HOUR)
        hour, spent = user.spent.get(entry.is_live, (-1, 0))
        spent = spent + 1 if moment // HOUR == hour else 1
        user.spent[entry.is_live] = moment // HOUR, spent
        if spent > MOST_AN_HOUR or not weight:
            return []
        key, time = (event.user_id, event.item_id), min(event.event_timestamp, entry.logged_at)
        stack = self._pairs.setdefault(key, [])
        self._pairs.move_to_end(key)
        reaction = Reaction(event.event_id, event.item_id, weight * said, time)
        place = bisect_right(stack, time, key=attrgetter("time"))
        is_latest = place == len(stack)
        changes = [*((-1.0, before) for before in stack[-1:]), (1.0, reaction)] if is_latest else []
        stack.insert(place, reaction)
        self._known[event.event_id] = key
        if len(stack) > STACK_LIMIT:
            del self._known[stack.pop(0).event_id]
        if len(self._pairs) > self.pairs_limit:
            changes.append((-1.0, self._forget(next(iter(self._pairs)))))
        return changes

    def take_back(self, event: Behaviour) -> list[Change]:
        """A ``retract``: the reaction before it stands again; another user's, or an unknown one, changes nothing."""
        key = self._known.get(event.retracts or "")
        if key is None or key[0] != event.user_id:
            return []
        stack = self._pairs[key]
        place = next(place for place, reaction in enumerate(stack) if reaction.event_id == event.retracts)
        reaction = stack.pop(place)
        del self._known[reaction.event_id]
        if place < len(stack):
            return []
        if stack:
            return [(-1.0, reaction), (1.0, stack[-1])]
        del self._pairs[key]
        return [(-1.0, reaction)]

    def forget_items(self, kept: Collection[str]) -> None:
        """Forget the reactions to all items but these, without a word."""
        for key in [key for key in self._pairs if key[1] not in kept]:
            self._forget(key)

    def _is_burst(self, user: _User, entry: LoggedEvent, event: Behaviour) -> bool:
        if not entry.is_live:
            return False
        latest, sent = user.sent.get(type(event), (-1, 0))
        minute = event.event_timestamp // MINUTE
        user.sent[type(event)] = (minute, 1) if minute > latest else (latest, sent + 1)
        return minute <= latest and sent >= MOST_A_MINUTE

    def _forget(self, key: tuple[str, str]) -> Reaction:
        stack = self._pairs.pop(key)
        for reaction in stack:
            del self._known[reaction.event_id]
        return stack[-1]

    def _user(self, user_id: str, position: int) -> _User:
        if user_id not in self._users:
            self.meet([user_id], position - 1)
        user = self._users[user_id]
        if len(self._users) > self.users_limit:
            del self._users[next(iter(self._users))]
        return user


WINDOW_POSITIONS = 200_000
"""How far back popularity starts to count when the process does; later it forgets the reactions that are older than
the latest 200,000 too (``PAIRS_LIMIT``)."""

PAGE = 5_000
SECONDS_AT_ONCE = 0.5
BEHAVIOUR = ("interaction", "feedback")


class PopularityCounts:
    """How many people like each item, less those who say no, by the rule above: for one thread.

    A use counts its reward, a verdict its centred reward, as in trained popularity; impressions count nothing. Each
    step reads what was logged since the last one.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._begin(0)

    def _begin(self, head: int) -> None:
        self._position = max(head - WINDOW_POSITIONS, 0)
        self._standing = StandingReactions(self._log.first_uses, NEWCOMER)
        self._counts: dict[str, float] = defaultdict(float)

    def advance(self) -> tuple[bool, bool]:
        """Count for half a second at most: whether anything was new, and whether more waits. Raises EventLogError."""
        head, until = self._log.head(), monotonic() + SECONDS_AT_ONCE
        if not self._position or head < self._position:  # the latter: an older log was put in its place
            self._begin(head)
        start = self._position
        while self._position < head and monotonic() < until:
            page = self._log.read(self._position, PAGE, head, BEHAVIOUR)
            told = [(entry, entry.event) for entry in page if isinstance(entry.event, Behaviour)]
            self._standing.meet((event.user_id for _, event in told), self._position)
            for entry, event in told:
                self._take(entry, event)
            self._position = page[-1].position if len(page) == PAGE else head
        return self._position > start, self._position < head

    def _take(self, entry: LoggedEvent, event: Behaviour) -> None:
        if event.kind == RETRACT:
            changes = self._standing.take_back(event)
        elif event.kind in SEEN_KINDS:
            said = 2.0 * event.reward - 1.0 if event.kind in VERDICTS else event.reward
            changes = self._standing.take(entry, event, said)
        else:
            return
        for sign, reaction in changes:
            self._counts[reaction.item_id] += sign * reaction.said

    def most(self, limit: int) -> list[tuple[str, float]]:
        """The items with most, then as many of those that are disliked most, each with its number."""
        ordered = sorted(self._counts.items(), key=lambda count: (-count[1], count[0]))
        disliked = [count for count in ordered[limit:] if count[1] < 0]
        return ordered[:limit] + disliked[-limit:]
