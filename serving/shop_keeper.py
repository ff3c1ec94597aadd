"""Keeps the shops as the log has them: whatever was acknowledged of an item holds for the next request.

Each request asks the log for the position of the last event about an item, which is one look-up in an index. Where the
shop is behind it, whoever comes first brings it up to date, and the others wait for that. A process reads every event
about an item once; what it keeps of the items is shared by all the models that come and go.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from attune.browsing import KnownItem
from attune.columns import Columns
from attune.errors import EventLogError
from attune.event_log import EventLog
from serving.shop import LiveItem, Shelf, Shop, Where

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
