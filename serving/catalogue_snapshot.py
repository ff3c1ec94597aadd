"""What holds for everybody at one moment: which items there are, which of them may be shown, what is said of each.

A ``Shop`` never changes: what becomes known later makes another one of it, and requests that took the old one go on
with it. Items that the model did not learn are put behind those that it did, in the order in which the log first named
them, so that every process has them in the same places.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol, Self

import numpy as np
from cachetools import LRUCache

from attune.columns import ITEM_STATS, Columns
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.log_queries import KnownItem
from models.catalogue import Catalogue
from models.recommender import Served

AVAILABLE, RETIRED = Columns.AVAILABLE, Columns.RETIRED
"""Attributes that decide whether an item is shown: one is false while it is out of stock, the other true for good."""

MASKS_BYTES = 32 * 1_048_576
"""How much of what filters found is kept: 320 values in a shop of 100,000 items."""

NUMBERED_ATTRIBUTES = 16
"""Of how many attributes the values are kept as numbers: 0.8 MB each in a shop of 100,000 items, and the values."""

Attributes = Mapping[str, Any]
Where = Mapping[str, Any]
"""For each attribute the value that an item must hold, or several of which it must hold one."""

_Asked = tuple[str, bool, Any]
"""An attribute and a value; whether it is a truth value stands apart, since Python takes true for 1."""


class Extendable(Served, Protocol):
    """What a model needs to take in items that it did not learn."""

    def extended(self, more: Catalogue) -> Self:
        """Another object that has the items of ``more`` behind its own."""
        ...


@dataclass(frozen=True, slots=True)
class LiveItem:
    """What the log says of an item: the latest attributes, and the positions of the first and the latest event."""

    item_id: str
    attributes: Attributes
    first: int
    position: int

    @property
    def is_hidden(self) -> bool:
        """Whether it is shown to nobody."""
        return is_hidden(self.attributes)


class Shop:
    """A model's items as the log had them at ``position``: ``served`` answers, ``hidden`` are places never shown.

    ``learned`` is the model as it was trained, which ``served`` extends.
    """

    def __init__(
        self,
        learned: Extendable,
        served: Extendable,
        position: int,
        live: Sequence[LiveItem | None],
        hidden_N: np.ndarray,
        masks: "Masks",
        numbers: "Numbers",
    ) -> None:
        self._learned = learned
        self.served = served
        self.position = position
        self.hidden = np.flatnonzero(hidden_N)
        self._live = live
        self._hidden_N = hidden_N
        self._masks = masks
        self._numbers = numbers

    @staticmethod
    def bare(served: Extendable) -> "Shop":
        """Of the model alone, before anything was read from the log."""
        count = len(served.catalogue)
        return Shop(served, served, 0, [None] * count, np.zeros(count, bool), Masks({}), Numbers({}))

    def advanced(self, changed: Sequence[LiveItem], position: int) -> "Shop":
        """The shop as of ``position``, when ``changed`` is all that was said of items since. Leaves this one alone."""
        index = self.served.catalogue.index
        more = sorted((one for one in changed if one.item_id not in index), key=lambda one: one.first)
        live: list[LiveItem | None] = [*self._live, *more]
        hidden_N = np.concatenate([self._hidden_N, np.zeros(len(more), bool)])
        again = [(index[one.item_id], one) for one in changed if one.item_id in index]
        for place, one in again:
            live[place] = one
        for place, one in [*again, *enumerate(more, start=len(self._live))]:
            hidden_N[place] = one.is_hidden
        served = self._extended(more, [place for place, _ in again], live)
        places = served.catalogue.places([one.item_id for one in changed])
        numbers = self._numbers.advanced(len(live), places)
        found = Shop(self._learned, served, position, live, hidden_N, Masks({}), numbers)
        found._masks = self._masks.advanced(found, places)
        return found

    def _extended(self, more: Sequence[LiveItem], again: Sequence[int], live: Sequence[LiveItem | None]) -> Extendable:
        """The model over ``more`` too. Where one that it did not learn is said to be another, it is extended anew.

        So what is answered follows from the log, not from when a process read it.
        """
        count = len(self._learned.catalogue)
        if any(place >= count and _seen(self._live[place]) != _seen(live[place]) for place in again):
            return self._learned.extended(_catalogue([one for one in live[count:] if one is not None]))
        return self.served.extended(_catalogue(more)) if more else self.served

    def title(self, item_id: str) -> str | None:
        """The item's title, None when none is known."""
        place = self.served.catalogue.index[item_id]
        live = self._live[place]
        title = self.served.catalogue.titles[place] if live is None else live.attributes.get(Columns.TITLE)
        return None if title is None or title == "" else str(title)

    def removed(self, where: Where) -> np.ndarray:
        """The places, int64, that nobody who asks so gets: what is hidden, and what ``where`` does not let through."""
        if not where:
            return self.hidden
        closed_N = self._hidden_N.copy()
        for attribute, wanted in where.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            closed_N |= ~self._masks.holding(self, attribute, values)
        return np.flatnonzero(closed_N)

    def numbered(self, places: Sequence[int], attribute: str) -> tuple[list[tuple[int, ...]], int]:
        """What each of the items at these places holds under a name, as numbers below the second that is returned.

        Equal values have equal numbers, true is not 1, and each stands once; an item that holds nothing has none.
        """
        return self._numbers.of(self, places, attribute)

    def values(self, place: int, attribute: str) -> Sequence[Any]:
        """What the item at that place holds under a name: live where the log describes it, else as the model has it."""
        live, catalogue = self._live[place], self.served.catalogue
        if live is not None:
            held = live.attributes.get(attribute)
            return held if isinstance(held, list) else (held,)
        if attribute == Columns.GENRES:
            return catalogue.genres[place]
        return (catalogue.years[place],) if attribute == Columns.YEAR else ()


class Masks:
    """Which items hold a value: a mask (N,) for each value that was asked for lately; threads may share one."""

    def __init__(self, known: Mapping[_Asked, np.ndarray]) -> None:
        self._kept: LRUCache[_Asked, np.ndarray] = LRUCache(MASKS_BYTES, getsizeof=len)
        self._kept.update(known)
        self._turn = threading.Lock()

    def holding(self, shop: Shop, attribute: str, values: Sequence[Any]) -> np.ndarray:
        """The mask (N,) of items that hold one of the values; one walk over the items, whatever is not known yet."""
        asked = {(attribute, isinstance(value, bool), value) for value in values}
        with self._turn:
            found = {one: mask_N for one in asked if (mask_N := self._kept.get(one)) is not None}
        missing = asked - found.keys()
        if missing:
            fresh = _masks(shop, attribute, missing)
            with self._turn:
                self._kept.update(fresh)
            found |= fresh
        either_N: np.ndarray = np.logical_or.reduce(list(found.values()))
        return either_N

    def advanced(self, shop: Shop, changed: np.ndarray) -> "Masks":
        """The masks for a later shop, in which the items at these places are others or new."""
        with self._turn:
            kept = dict(self._kept.items())
        count, fresh = len(shop.served.catalogue), {}
        for asked, before_N in kept.items():
            mask_N = np.zeros(count, bool)
            mask_N[: len(before_N)] = before_N
            mask_N[changed] = [_holds(shop, place, asked) for place in changed.tolist()]
            fresh[asked] = mask_N
        return Masks(fresh)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The values of one attribute as numbers, and for each place those of its item; None where nobody asked yet."""

    numbers: dict[tuple[bool, Any], int]
    rows: list[tuple[int, ...] | None]

    def look(self, shop: Shop, place: int, attribute: str) -> None:
        """At the item at a place."""
        held = {(isinstance(one, bool), one) for one in shop.values(place, attribute) if one is not None}
        self.rows[place] = tuple(self.numbers.setdefault(value, len(self.numbers)) for value in held)


class Numbers:
    """What items hold, as numbers, of the attributes that were asked for lately; threads may share one.

    A place is looked at when somebody first asks for it, so that a question about a hundred items costs no walk over
    all, and a walk over all is made once.
    """

    def __init__(self, known: Mapping[str, _Numbered], turn: "threading.Lock | None" = None) -> None:
        self._kept: LRUCache[str, _Numbered] = LRUCache(NUMBERED_ATTRIBUTES)
        self._kept.update(known)
        self._turn = turn or threading.Lock()

    def of(self, shop: Shop, places: Sequence[int], attribute: str) -> tuple[list[tuple[int, ...]], int]:
        """See ``Shop.numbered``; of this shop, and of no other."""
        with self._turn:
            one = self._kept.get(attribute)
            if one is None:
                one = self._kept[attribute] = _Numbered({}, [None] * len(shop.served.catalogue))
            for place in places:
                if one.rows[place] is None:
                    one.look(shop, place, attribute)
            return [one.rows[place] or () for place in places], len(one.numbers)

    def advanced(self, count: int, changed: np.ndarray) -> "Numbers":
        """For a later shop of ``count`` items, in which those at these places are others or new.

        The numbers go on being used, until most of them are of values that were.
        """
        fresh = {}
        with self._turn:
            for attribute, one in self._kept.items():
                if len(one.numbers) <= 2 * count:
                    rows = one.rows + [None] * (count - len(one.rows))
                    for place in changed.tolist():
                        rows[place] = None
                    fresh[attribute] = _Numbered(one.numbers, rows)
        return Numbers(fresh, self._turn)


class Shelf:
    """A model and the shop that was last made of it; whoever keeps the shop puts another in its place.

    ``live_1N`` is what everybody says of its items at this moment, read-only; None as long as nobody has looked. It may
    be of an earlier or a later shop than the one that lies here: items never change their places on a shelf.
    """

    def __init__(self, served: Extendable) -> None:
        self.shop = Shop.bare(served)
        self.live_1N: np.ndarray | None = None


def is_hidden(attributes: Attributes) -> bool:
    """Whether an item of which this is said is out of stock or retired."""
    return attributes.get(AVAILABLE) is False or attributes.get(RETIRED) is True


def _masks(shop: Shop, attribute: str, missing: set[_Asked]) -> dict[_Asked, np.ndarray]:
    count = len(shop.served.catalogue)
    found = {asked: np.zeros(count, bool) for asked in missing}
    for place in range(count):
        for value in shop.values(place, attribute):
            mask_N = found.get((attribute, isinstance(value, bool), value))
            if mask_N is not None:
                mask_N[place] = True
    return found


def _holds(shop: Shop, place: int, asked: _Asked) -> bool:
    attribute, *wanted = asked
    return any([isinstance(value, bool), value] == wanted for value in shop.values(place, attribute))


def _seen(item: LiveItem | None) -> tuple[Any, Any]:
    """What a model sees of an item that it did not learn."""
    return (None, None) if item is None else (item.attributes.get(Columns.GENRES), item.attributes.get(Columns.YEAR))


def _catalogue(items: Sequence[LiveItem]) -> Catalogue:
    """Items that the model did not learn, by what the log says of them: read as the lake reads it for a training."""
    genres = [one.attributes.get(Columns.GENRES) for one in items]
    years = [one.attributes.get(Columns.YEAR) for one in items]
    return Catalogue(
        item_ids=tuple(one.item_id for one in items),
        titles=tuple(str(one.attributes.get(Columns.TITLE) or "") for one in items),
        genres=tuple(tuple(map(str, names)) if isinstance(names, list) else () for names in genres),
        years=tuple(float(year) if isinstance(year, int | float) else None for year in years),
        stats_NF=np.full((len(items), len(ITEM_STATS)), np.nan, np.float32),
    )


# Keeps the shops as the log has them: whatever was acknowledged of an item holds for the next request.
#
# Each request asks the log for the position of the last event about an item, which is one look-up in an index. Where
# the
# shop is behind it, whoever comes first brings it up to date, and the others wait for that. A process reads every
# event
# about an item once; what it keeps of the items is shared by all the models that come and go.


log = logging.getLogger(__name__)

PAGE = 5_000
VALUE_LIMIT = 256
"""Longer texts are not kept (a title is): no filter can ask for one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request may choose from: the items of a shelf, and what they must hold."""

    shelf: Shelf
    where: Where


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request chooses from: the shop, the places of it that are closed to it, whether the log was unreadable."""

    shop: Shop
    removed: np.ndarray
    stale: bool

    @staticmethod
    def of(choice: Choice, stale: bool = False) -> "Offer":
        """From the shop that lies on the shelf."""
        shop = choice.shelf.shop
        return Offer(shop, shop.removed(choice.where), stale)

    @staticmethod
    def without_log(choice: Choice) -> "Offer":
        """What there was when the log could be read."""
        return Offer.of(choice, stale=True)


class ShopKeeper:
    """Follows the log's items; threads may share one."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._position = 0
        self._items: dict[str, LiveItem] = {}
        """The item that changed last stands last."""
        self._turn = threading.Lock()

    def offer(self, choice: Choice) -> Offer:
        """What there is at this moment for whoever asks so; where the log cannot be read, what there was."""
        return self.offers([choice])[0]

    def offers(self, choices: Sequence[Choice]) -> list[Offer]:
        """``offer`` to each, by one question to the log."""
        if not choices:
            return []
        try:
            position = self._log.last_item_position()
            for choice in choices:
                self._advance(choice.shelf, position)
        except EventLogError as error:
            log.warning("the event log cannot be read; items are as they were: %s", error)
            return list(map(Offer.without_log, choices))
        return list(map(Offer.of, choices))

    def current(self, shelf: Shelf) -> Shop:
        """The shop with everything in it that was logged of items before this call. Raises EventLogError."""
        self._advance(shelf, self._log.last_item_position())
        return shelf.shop

    def _advance(self, shelf: Shelf, position: int) -> None:
        """Bring what lies on a shelf to a position, at least."""
        if shelf.shop.position < position:
            with self._turn:
                if shelf.shop.position < position:
                    self._follow()
                    changed = list(self._since(shelf.shop.position))
                    shelf.shop = shelf.shop.advanced(changed, self._position)

    def _follow(self) -> None:
        versions = self._log.item_versions(self._position, PAGE)
        while versions:
            for one in versions:
                before = self._items.pop(one.item_id, None)
                first = one.position if before is None else before.first
                self._items[one.item_id] = LiveItem(one.item_id, _kept(one), first, one.position)
            self._position = versions[-1].position
            versions = self._log.item_versions(self._position, PAGE) if len(versions) == PAGE else []

    def _since(self, position: int) -> Iterator[LiveItem]:
        """The items that changed after a position, each once."""
        return takewhile(lambda one: one.position > position, reversed(self._items.values()))


def _kept(item: KnownItem) -> dict[str, object]:
    return {
        name: value
        for name, value in item.attributes.items()
        if name == Columns.TITLE or not isinstance(value, str) or len(value) <= VALUE_LIMIT
    }
