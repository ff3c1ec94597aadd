"""Reads and changes what is known of items: each change is an event in the log, acknowledged once it is durable.

A change starts from the latest version of the item, and the log takes it only while that is the latest: two changes at
once, in one process or in several, both hold in the end.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from attune.clock import Clock
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog, KnownItem
from attune.events import Item, is_hidden
from attune.group_commit import GroupCommit
from attune.row_rules import Rejection, admit, new_event_id
from attune.schemas import ItemAnswer, ItemBody, ItemKnown, ItemRequest, RetireRequest
from serving.champion import ChampionWatcher
from serving.error_responses import Refused
from serving.ingestion import conflict, durable, known_position, quarantine
from serving.metrics import Metrics
from serving.micro_batcher import BoundedExecutor

SOURCE = "http:/v1/items"
TRIES = 20
"""How often a change is tried again because another came between; those of one process wait for each other."""


@dataclass(frozen=True)
class ItemService:
    """Reads and changes what is known of items; the executors ``reads`` and ``writes`` run what blocks."""

    event_log: EventLog
    commit: GroupCommit
    watcher: ChampionWatcher
    metrics: Metrics
    clock: Clock
    reads: BoundedExecutor
    writes: BoundedExecutor
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def item(self, address: ItemRequest) -> ItemKnown:
        """The latest version; raises Refused (404) for an item that the log does not describe."""
        item = await self._latest(address.item_id)
        champion = self.watcher.champion
        return ItemKnown(
            item_id=item.item_id,
            attributes=item.attributes,
            position=item.position,
            shown=not is_hidden(item.attributes),
            learned=champion is not None and item.item_id in champion.bundle.catalogue.index,
        )

    async def replace_item(self, address: ItemRequest, body: ItemBody) -> ItemAnswer:
        """Replace what is known; raises DataContractError (422), Refused (409), EventLogError or Overloaded (503)."""
        event = await self._admitted(address.item_id, body.attributes, body.attributes, body.event_id or new_event_id())
        appended = await durable(self.commit, self.writes, [event])
        position = appended.positions[0] or await self.reads.run(known_position, self.event_log, {}, event)
        if not position:
            raise self._conflict(event)
        return self._answer(event, position, repeated=not appended.accepted)

    async def change_item(self, address: ItemRequest, body: ItemBody) -> ItemAnswer:
        """Set some attributes and remove those that are None; raises as ``replace_item``, and Refused (404)."""
        item_id = address.item_id
        lock = self.locks.setdefault(item_id, asyncio.Lock())
        event_id = body.event_id or new_event_id()
        await self._admitted(item_id, body.attributes, body.attributes, event_id)
        async with lock:
            for _ in range(TRIES):
                before = await self._latest(item_id)
                merged = {**before.attributes, **body.attributes}
                attributes = {
                    name: value for name, value in merged.items() if body.attributes.get(name, "") is not None
                }
                event = await self._admitted(item_id, attributes, body.attributes, event_id)
                appended = await durable(self.commit, self.writes, [event], before.position)
                if appended.positions[0]:
                    return self._answer(event, appended.positions[0], repeated=not appended.accepted)
                if logged := await self.reads.run(self.event_log.find, event_id):
                    return self._repeated(logged.position, logged.event, event, body.attributes)
        raise Refused(503, f"item {item_id!r} is being changed by many at once; repeat the request with its event id")

    async def retire_item(self, address: RetireRequest) -> ItemAnswer:
        """Never to be shown again; what was known is kept. Raises as ``change_item``."""
        body = ItemBody(attributes={Columns.RETIRED: True}, event_id=address.event_id)
        return await self.change_item(ItemRequest(item_id=address.item_id), body)

    async def _latest(self, item_id: str) -> KnownItem:
        item = await self.reads.run(self.event_log.item, item_id)
        if item is None:
            message = f"item_id: nothing is known of {item_id!r}; describe it with PUT"
            raise Refused(404, message, Columns.ITEM_ID)
        return item

    async def _admitted(
        self, item_id: str, attributes: Mapping[str, Any], given: Mapping[str, Any], event_id: str
    ) -> Item:
        """The event, if the row rules admit it and what was ``given`` fits the attributes that are known by name."""
        row = {Columns.ITEM_ID: item_id, Columns.ATTRIBUTES: attributes, Columns.EVENT_ID: event_id}
        try:
            event = admit("item", row | {Columns.EVENT_TIMESTAMP: self.clock()}, self.clock, given)
        except DataContractError as error:
            rejected = [Rejection(0, row, error.field, str(error))]
            await self.writes.run(quarantine, self.event_log, self.metrics, "item", SOURCE, rejected)
            raise
        assert isinstance(event, Item)
        return event

    def _repeated(self, position: int, logged: object, event: Item, given: Mapping[str, Any]) -> ItemAnswer:
        """The answer to a change whose id the log has: it is this one if it left the item as this one says."""
        if not isinstance(logged, Item) or logged.item_id != event.item_id:
            raise self._conflict(event)
        if any(logged.attributes.get(name) != value for name, value in given.items()):
            raise self._conflict(event)
        return self._answer(logged, position, repeated=True)

    def _answer(self, event: Item, position: int, repeated: bool) -> ItemAnswer:
        status = "repeated" if repeated else "accepted"
        self.metrics.events.labels("item", status).inc()
        return ItemAnswer(
            item_id=event.item_id,
            attributes=event.attributes,
            event_id=event.event_id,
            position=position,
            status=status,
        )

    def _conflict(self, event: Item) -> Refused:
        self.metrics.events.labels("item", "conflict").inc()
        return Refused(409, conflict(event), Columns.EVENT_ID)
