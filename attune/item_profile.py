"""What people say of items at this moment: pure, a function of the log's events and of nothing else.

Only people with a history count, each once an item, by the rule of ``attune.influence``. For each item three decayed
sums are kept, halved every ``HALF_LIFE``:

- impressions: the people whom a slate or an ``impression`` showed it, each when it was last shown;
- reactions: the centred rewards ``2 r - 1`` of the reactions that stand, so likes count up and dislikes down;
- strength: their absolute values.

An item's score is (reactions, less ``QUORUM`` towards 0) / (impressions + strength + ``PRIOR``), in (-1, 1): the share
of people who say yes, less those who say no, drawn towards 0 as long as few were asked, and 0 until more than
``QUORUM`` people agree. Without the quorum it is the mean of a sample to which ``PRIOR`` people were added who say
nothing (Agresti and Coull 1998 add four for a proportion; here more, see ``PRIOR``).

What N accounts can do, whatever they send: nothing without a history; with one they move any item's score by at most
``2 N / (N + PRIOR)`` from what it is without them, and an item of which nobody else says anything by at
most ``(N - QUORUM) / (N + PRIOR)``.

An event's age goes by its own time, so a year of history that is imported today is no hit of today. An event dated
after it was logged counts from when it was logged.

Decay is one exponent for all: an event adds 2 to the power of its time in half-lives since an epoch, and the prior
grows by the same power instead of the sums falling. The epoch moves by whole half-lives, which scales the sums by a
power of two: no rounding. So the sums are the same to the bit however the events were batched, and a batch costs as
much as it holds. At each move what weighs nothing any more is dropped.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np

from attune.clock import HOUR
from attune.event_types import RETRACT
from attune.events import Behaviour, Feedback, LoggedEvent, Slate
from attune.influence import PAIRS_LIMIT, Change, History, StandingReactions, no_history

HALF_LIFE = 6 * HOUR
"""Microseconds. A hit must last until a model has learned of it, which is hours; what was so yesterday hardly counts.
Not tuned yet."""

PRIOR = 20.0
"""So many silent people are added to those who were asked. One more who agrees then moves an item by 1/21 at most:
mixed in at 0.2 and drawn at temperature 0.05, it changes nobody else's odds by more than about a fifth. Not tuned
yet."""

QUORUM = 3.0
"""So many people who agree move nothing yet."""

TINY = 0.01
"""What an item with less of impressions and reactions says is forgotten: a hundredth of an event."""

ITEMS_LIMIT = 500_000
"""Items kept at most: at the limit, the half with the most of both stays."""

SHOWN_LIMIT = 200_000
"""Of so many pairs of a user and an item it is known when it was last shown; who comes again later counts again."""

IMPRESSIONS, REACTIONS, STRENGTH = range(3)
SUMS = 3


class ItemProfile:
    """Everything up to ``position``; ``fold`` changes it in place, so it is for one thread."""

    def __init__(
        self,
        position: int = 0,
        half_life: int = HALF_LIFE,
        prior: float = PRIOR,
        items_limit: int = ITEMS_LIMIT,
        pairs_limit: int = PAIRS_LIMIT,
        history: History = no_history,
    ) -> None:
        """Nothing is known of what lies up to ``position`` but what ``history`` says; ``half_life`` in microseconds."""
        self.position = position
        self._half_life = half_life
        self._prior = prior
        self._items_limit = items_limit
        self._places: dict[str, int] = {}
        self._standing = StandingReactions(history, 0.0, pairs_limit)
        self._shown: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._sums_MS = np.zeros((0, SUMS))
        self._epoch = 0
        """The half-life, counted from 1970, at whose beginning an event weighs 1."""
        self._entries: list[int] = []
        self._amounts: list[float] = []

    @property
    def set_aside(self) -> int:
        """Events that were a burst."""
        return self._standing.set_aside

    @property
    def item_ids(self) -> list[str]:
        """The items of which anything is known."""
        return list(self._places)

    def fold(self, logged: Iterable[LoggedEvent], upto: int = 0) -> set[str]:
        """Take in the events, and say of which items something changed.

        Events at or below ``position`` are passed over, so a batch may overlap with what was folded before; it must
        not leave out an event between two that it holds. ``upto`` says that there are no others up to there.
        """
        news = {entry.position: entry for entry in logged if entry.position > self.position}
        users = (entry.event.user_id for entry in news.values() if isinstance(entry.event, Slate | Behaviour))
        self._standing.meet(users, self.position)
        changed: set[str] = set()
        for position in sorted(news):
            changed.update(self._take(news[position]))
            self.position = position
        self._settle()
        self.position = max(self.position, upto)
        return changed

    def sums(self, item_ids: Sequence[str], now: int) -> np.ndarray:
        """sums_NS, float64: impressions, reactions and strength of each item as of ``now`` (microseconds)."""
        return self._raw(item_ids) / self._scale(now)

    def scores(self, item_ids: Sequence[str], now: int) -> np.ndarray:
        """scores_N, float32 in (-1, 1); 0 for an item of which nothing is known."""
        sums_NS, scale = self._raw(item_ids), self._scale(now)
        people_N = sums_NS[:, IMPRESSIONS] + sums_NS[:, STRENGTH] + self._prior * scale
        agreed_N = np.maximum(np.abs(sums_NS[:, REACTIONS]) - QUORUM * scale, 0.0)
        scores_N: np.ndarray = (np.copysign(agreed_N, sums_NS[:, REACTIONS]) / people_N).astype(np.float32)
        return scores_N

    def _raw(self, item_ids: Sequence[str]) -> np.ndarray:
        """The sums in units of the epoch."""
        places_N = np.fromiter(map(self._places.get, item_ids, repeat(-1)), np.int64, len(item_ids))
        sums_NS = np.zeros((len(places_N), SUMS))
        sums_NS[places_N >= 0] = self._sums_MS[places_N[places_N >= 0]]
        return sums_NS

    def _scale(self, now: int) -> float:
        """What an event of ``now`` would weigh; a clock that is far off gives no overflow."""
        return math.exp2(min(max(now / self._half_life - self._epoch, -100.0), 900.0))

    def _weight(self, time: int) -> float:
        return math.exp2(max(time / self._half_life - self._epoch, -1_000.0))

    def _take(self, entry: LoggedEvent) -> Iterable[str]:
        """The items that an event says something of."""
        event = entry.event
        if not isinstance(event, Slate | Behaviour):
            return ()
        time = min(event.event_timestamp, entry.logged_at)
        if time // self._half_life > self._epoch:
            self._move(time // self._half_life)
        if isinstance(event, Slate):
            return self._show(entry, event.user_id, [shown.item_id for shown in event.shown], time)
        if event.kind == "impression":
            return () if isinstance(event, Feedback) else self._show(entry, event.user_id, [event.item_id], time)
        if event.kind == RETRACT:
            return self._count(self._standing.take_back(event))
        return self._count(self._standing.take(entry, event, 2.0 * event.reward - 1.0))

    def _show(self, entry: LoggedEvent, user_id: str, item_ids: Sequence[str], time: int) -> Sequence[str]:
        weigh = [name for name in item_ids if self._standing.weight(user_id, name, entry.happened_at, entry.position)]
        for item_id in weigh:
            before = self._shown.pop((user_id, item_id), None)
            self._shown[user_id, item_id] = latest = time if before is None else max(time, before)
            if before is not None and latest > before:
                self._add(item_id, IMPRESSIONS, -self._weight(before))
            if latest != before:
                self._add(item_id, IMPRESSIONS, self._weight(latest))
            if len(self._shown) > SHOWN_LIMIT:
                self._shown.popitem(last=False)
        return weigh

    def _count(self, changes: Sequence[Change]) -> Iterable[str]:
        for sign, reaction in changes:
            amount = sign * reaction.said * self._weight(reaction.time)
            self._add(reaction.item_id, REACTIONS, amount)
            self._add(reaction.item_id, STRENGTH, math.copysign(amount, sign))
        return [reaction.item_id for _, reaction in changes]

    def _add(self, item_id: str, column: int, amount: float) -> None:
        """Note it down; ``_settle`` adds it up."""
        place = self._places.get(item_id)
        if place is None:
            if len(self._places) >= self._items_limit:
                self._settle()
                heaviest_first = np.argsort(-self._masses(), kind="stable")
                self._keep(np.sort(heaviest_first[: self._items_limit // 2]), item_id)
            place = self._places[item_id] = len(self._places)
        self._entries.append(SUMS * place + column)
        self._amounts.append(amount)

    def _settle(self) -> None:
        """Add up what was noted down, one after another as it came: sums of floats depend on their order."""
        if len(self._places) > len(self._sums_MS):
            more = max(len(self._places), 2 * len(self._sums_MS)) - len(self._sums_MS)
            self._sums_MS = np.concatenate([self._sums_MS, np.zeros((more, SUMS))])
        if self._entries:
            np.add.at(self._sums_MS.reshape(-1), self._entries, self._amounts)
            self._entries, self._amounts = [], []

    def _move(self, epoch: int) -> None:
        """Move the epoch on, and drop what weighs nothing any more."""
        self._settle()
        self._sums_MS = np.ldexp(self._sums_MS, max(self._epoch - epoch, -2_000))
        self._epoch = epoch
        masses_M = self._masses()
        if (masses_M < TINY).any():
            self._keep(np.flatnonzero(masses_M >= TINY))

    def _masses(self) -> np.ndarray:
        sums_MS = self._sums_MS[: len(self._places)]
        masses_M: np.ndarray = sums_MS[:, IMPRESSIONS] + sums_MS[:, STRENGTH]
        return masses_M

    def _keep(self, kept: np.ndarray, arriving: str = "") -> None:
        """Forget every item but those at these places, and with it who reacted to it and whom it was shown."""
        item_ids = self.item_ids
        self._places = {item_ids[place]: new for new, place in enumerate(kept.tolist())}
        self._sums_MS = self._sums_MS[kept]
        known = {*self._places, arriving}
        self._standing.forget_items(known)
        self._shown = OrderedDict((pair, time) for pair, time in self._shown.items() if pair[1] in known)
