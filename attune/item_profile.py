"""What everybody says of items at this moment: pure, a function of the log's events and of nothing else.

For each item three decayed sums are kept, halved every ``HALF_LIFE``:

- impressions: each time a slate showed it, and interactions of the kind ``impression`` (feedback of that kind is on a
  slate that was counted);
- reactions: the centred rewards ``2 r - 1`` of interactions and feedback, so likes count up and dislikes down;
- strength: their absolute values.

An item's score is reactions / (impressions + strength + ``PRIOR``), in (-1, 1): the share of people who say yes, less
those who say no, drawn towards 0 as long as few were asked. It is the mean of a sample to which ``PRIOR`` people were
added who say nothing (Agresti and Coull 1998 add four for a proportion; here more, see ``PRIOR``).

An event's age goes by its own time, so a year of history that is imported today is no hit of today. An event dated
after it was logged counts from when it was logged. A ``retract`` takes its user's reaction back while that is known.

Decay is one exponent for all: an event adds 2 to the power of its time in half-lives since an epoch, and the prior
grows by the same power instead of the sums falling. The epoch moves by whole half-lives, which scales the sums by a
power of two: no rounding. So the sums are the same to the bit however the events were batched, and a batch costs as
much as it holds. At each move what weighs nothing any more is dropped.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from attune.clock import HOUR
from attune.event_types import RETRACT
from attune.events import Behaviour, Feedback, LoggedEvent, Slate

HALF_LIFE = 6 * HOUR
"""Microseconds. A hit must last until a model has learned of it, which is hours; what was so yesterday hardly counts.
Not tuned yet."""

PRIOR = 20.0
"""So many silent people are added to those who were asked. One reaction then moves an item by 1/21 at most: mixed in
at 0.2 and drawn at temperature 0.05, it changes nobody else's odds by more than about a fifth; twenty that agree move
the item half of the way. Not tuned yet."""

TINY = 0.01
"""What an item with less of impressions and reactions says is forgotten: a hundredth of an event."""

ITEMS_LIMIT = 500_000
"""Items kept at most: at the limit, the half with the most of both stays."""

KNOWN_LIMIT = 50_000
"""So many of the latest reactions can be taken back."""

IMPRESSIONS, REACTIONS, STRENGTH = range(3)
SUMS = 3


class _Reaction(NamedTuple):
    user_id: str
    item_id: str
    centred: float
    time: int


class ItemProfile:
    """Everything up to ``position``; ``fold`` changes it in place, so it is for one thread."""

    def __init__(
        self,
        position: int = 0,
        half_life: int = HALF_LIFE,
        prior: float = PRIOR,
        items_limit: int = ITEMS_LIMIT,
        known_limit: int = KNOWN_LIMIT,
    ) -> None:
        """Nothing is known of what lies up to ``position``; ``half_life`` in microseconds."""
        self.position = position
        self._half_life = half_life
        self._prior = prior
        self._items_limit, self._known_limit = items_limit, known_limit
        self._places: dict[str, int] = {}
        self._known: dict[str, _Reaction] = {}
        self._sums_MS = np.zeros((0, SUMS))
        self._epoch = 0
        """The half-life, counted from 1970, at whose beginning an event weighs 1."""
        self._entries: list[int] = []
        self._amounts: list[float] = []

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
        sums_NS = self._raw(item_ids)
        people_N = sums_NS[:, IMPRESSIONS] + sums_NS[:, STRENGTH] + self._prior * self._scale(now)
        scores_N: np.ndarray = (sums_NS[:, REACTIONS] / people_N).astype(np.float32)
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
            return self._show([shown.item_id for shown in event.shown], time)
        if event.kind == "impression":
            return () if isinstance(event, Feedback) else self._show([event.item_id], time)
        return self._take_back(event) if event.kind == RETRACT else self._react(event, time)

    def _show(self, item_ids: Sequence[str], time: int) -> Sequence[str]:
        weight = self._weight(time)
        for item_id in item_ids:
            self._add(item_id, IMPRESSIONS, weight)
        return item_ids

    def _react(self, event: Behaviour, time: int) -> Sequence[str]:
        reaction = _Reaction(event.user_id, event.item_id, 2.0 * event.reward - 1.0, time)
        if not reaction.centred:
            return ()
        self._count(reaction, 1.0)
        self._known[event.event_id] = reaction
        if len(self._known) > self._known_limit:
            del self._known[next(iter(self._known))]
        return (event.item_id,)

    def _take_back(self, event: Behaviour) -> Sequence[str]:
        reaction = self._known.get(event.retracts or "")
        if reaction is None or reaction.user_id != event.user_id:
            return ()
        del self._known[event.retracts or ""]
        self._count(reaction, -1.0)
        return (reaction.item_id,)

    def _count(self, reaction: _Reaction, sign: float) -> None:
        amount = sign * reaction.centred * self._weight(reaction.time)
        self._add(reaction.item_id, REACTIONS, amount)
        self._add(reaction.item_id, STRENGTH, math.copysign(amount, sign))

    def _add(self, item_id: str, column: int, amount: float) -> None:
        """Note it down; ``_settle`` adds it up."""
        place = self._places.get(item_id)
        if place is None:
            if len(self._places) >= self._items_limit:
                self._settle()
                heaviest_first = np.argsort(-self._masses(), kind="stable")
                self._keep(np.sort(heaviest_first[: self._items_limit // 2]))
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

    def _keep(self, kept: np.ndarray) -> None:
        """Forget every item but those at these places, and the reactions to it with it."""
        item_ids = self.item_ids
        self._places = {item_ids[place]: new for new, place in enumerate(kept.tolist())}
        self._sums_MS = self._sums_MS[kept]
        self._known = {name: reaction for name, reaction in self._known.items() if reaction.item_id in self._places}
