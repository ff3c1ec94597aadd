"""Look-ups in the event log that people ask for: who was active last, which items there are, what is said of one.

They read back from the head only as far as they must, or the items alone, which are few beside the events and stand in
indexes of their own. Only ``item_versions`` and ``known_item`` are for the path of a request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, desc, func, select

from attune.columns import Columns
from attune.events import Item, User
from attune.tables import IN_TAIL, OF_ITEMS, events

FIRST_LOOK, LONGEST_LOOK = 1_000, 50_000
"""Positions that are looked through at once, from the head backwards; each look is twice as long as the last."""

_TAIL_TYPES = ("interaction", "feedback", "user")
_VERSION = (events.c.item_id, events.c.payload, events.c.position)
LAST_ITEM = select(func.max(events.c.position)).where(OF_ITEMS)
"""The position of the last event about an item."""

_ITEM, _USER = msgspec.json.Decoder(Item), msgspec.json.Decoder(User)


@dataclass(frozen=True)
class ActiveUser:
    """A user and the last event of theirs that is no slate: its ``position``, and when it was logged (microseconds)."""

    user_id: str
    position: int
    logged_at: int


@dataclass(frozen=True)
class KnownItem:
    """What the latest event about an item says, and at which ``position`` it says so."""

    item_id: str
    attributes: dict[str, Any]
    position: int

    @property
    def title(self) -> str:
        """The title, or '' where none is known."""
        title = self.attributes.get(Columns.TITLE)
        return "" if title is None else str(title)


def active_users(connection: Connection, head: int, limit: int) -> list[ActiveUser]:
    """The ``limit`` users who were active last, the latest first."""
    found: dict[str, ActiveUser] = {}
    upto, look = head, FIRST_LOOK
    query = select(events.c.user_id, events.c.position, events.c.logged_at).where(events.c.type.in_(_TAIL_TYPES))
    while upto > 0 and len(found) < limit:
        stretch = query.where(events.c.position > upto - look, events.c.position <= upto)
        for row in connection.execute(stretch.order_by(desc(events.c.position))):
            if row.user_id not in found and len(found) < limit:
                found[row.user_id] = ActiveUser(*row)
        upto, look = upto - look, min(2 * look, LONGEST_LOOK)
    return list(found.values())


def known_items(connection: Connection, limit: int, search: str) -> list[KnownItem]:
    """Items by title, then id; with ``search``, those whose title holds all of its words, in any case and order."""
    query = select(*_VERSION).where(OF_ITEMS)
    latest = {row.item_id: row for row in connection.execute(query.order_by(events.c.position))}
    words = search.casefold().split()
    items = (_known(row) for row in latest.values())
    kept = [item for item in items if all(word in item.title.casefold() for word in words)]
    return sorted(kept, key=lambda item: (item.title.casefold(), item.item_id))[:limit]


def known_item(connection: Connection, item_id: str) -> KnownItem | None:
    """The latest event about that item, or None."""
    position = latest_versions(connection, [item_id]).get(item_id)
    row = connection.execute(select(*_VERSION).where(events.c.position == position)).first() if position else None
    return None if row is None else _known(row)


def item_versions(connection: Connection, after: int, limit: int) -> list[KnownItem]:
    """What was said of items after a position, in the order of positions; of one item maybe several times."""
    query = select(*_VERSION).where(OF_ITEMS, events.c.position > after)
    return [_known(row) for row in connection.execute(query.order_by(events.c.position).limit(limit))]


def latest_versions(connection: Connection, item_ids: Sequence[str]) -> dict[str, int]:
    """The position of the latest event about each of these items that has one.

    The grouping keeps PostgreSQL from walking back through all items, which it would where the item is a popular one.
    """
    query = select(events.c.item_id, func.max(events.c.position)).where(OF_ITEMS, events.c.item_id.in_(item_ids))
    return {row[0]: row[1] for row in connection.execute(query.group_by(events.c.item_id))}


def kinds_with(connection: Connection, item_id: str) -> dict[str, int]:
    """How often each kind of behaviour met that item, the commonest first; reads the whole log."""
    number = func.count().label("number")
    query = select(events.c.kind, number).where(events.c.item_id == item_id, events.c.kind.is_not(None))
    rows = connection.execute(query.group_by(events.c.kind).order_by(desc(number), events.c.kind))
    return {row.kind: row.number for row in rows}


def user_attributes(connection: Connection, user_id: str) -> dict[str, Any]:
    """What the latest event about that user says."""
    query = select(events.c.payload).where(events.c.user_id == user_id, IN_TAIL, events.c.type == "user")
    payload = connection.scalar(query.order_by(desc(events.c.position)).limit(1))
    return {} if payload is None else _USER.decode(payload).attributes


def _known(row: Any) -> KnownItem:
    return KnownItem(row.item_id, _ITEM.decode(row.payload).attributes, row.position)
