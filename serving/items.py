"""What is known of items, and its changes: each is an event in the log, acknowledged only once it is durable.

A change is made from the latest version of the item, and the log takes it only while that is the latest: two changes
at once, of one process or of several, both hold in the end.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from attune.clock import Clock
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Item
from attune.group_commit import GroupCommit
from attune.log_queries import KnownItem
from attune.row_rules import Rejected, admit, new_event_id
from serving.bounded_executor import Lane
from serving.catalogue_snapshot import AVAILABLE, RETIRED, is_hidden
from serving.champion import ChampionWatch
from serving.error_responses import Refused
from serving.ingestion import conflict, durable, keep_rejected, known_position
from serving.metrics import Metrics
from serving.schemas import ItemAnswer, ItemBody, ItemKnown

log = logging.getLogger(__name__)

SOURCE = "http:/v1/items"
YEARS = 2**53
TRIES = 20
"""How often a change is made anew because another came between; those of one process wait for each other."""


class Items:
    """Reads and changes what is known of items; ``reads`` and ``writes`` are the lanes of what blocks."""

    def __init__(
        self,
        event_log: EventLog,
        commit: GroupCommit,
        watch: ChampionWatch,
        metrics: Metrics,
        clock: Clock,
        reads: Lane,
        writes: Lane,
    ) -> None:
        self._log = event_log
        self._commit = commit
        self._watch = watch
        self._metrics = metrics
        self._clock = clock
        self._reads = reads
        self._writes = writes
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def known(self, item_id: str) -> ItemKnown:
        """The latest version; raises Refused (404) for an item that the log does not describe."""
        item = await self._latest(item_id)
        champion = self._watch.champion
        return ItemKnown(
            item_id=item.item_id,
            attributes=item.attributes,
            position=item.position,
            shown=not is_hidden(item.attributes),
            learned=champion is not None and item_id in champion.bundle.catalogue.index,
        )

    async def replace(self, item_id: str, body: ItemBody) -> ItemAnswer:
        """All that is known of the item from now on.

        Raises DataContractError (422), Refused (409), EventLogError or Overloaded (503).
        """
        event = await self._admitted(item_id, body.attributes, body.attributes, body.event_id or new_event_id())
        appended = await durable(self._commit, self._writes, [event])
        position = appended.positions[0] or await self._reads.run(known_position, self._log, {}, event)
        if not position:
            raise self._conflict(event)
        return self._answer(event, position, repeated=not appended.accepted)

    async def change(self, item_id: str, body: ItemBody) -> ItemAnswer:
        """Other values for some attributes, None for those that are to go; raises as ``replace``, and Refused (404)."""
        turn = self._turns.setdefault(item_id, asyncio.Lock())
        event_id = body.event_id or new_event_id()
        await self._admitted(item_id, body.attributes, body.attributes, event_id)
        async with turn:
            for _ in range(TRIES):
                before = await self._latest(item_id)
                event = await self._admitted(item_id, _merged(before, body.attributes), body.attributes, event_id)
                appended = await durable(self._commit, self._writes, [event], before.position)
                if appended.positions[0]:
                    return self._answer(event, appended.positions[0], repeated=not appended.accepted)
                if logged := await self._reads.run(self._log.find, event_id):
                    return self._repeated(logged.position, logged.event, event, body.attributes)
        raise Refused(503, f"item {item_id!r} is being changed by many at once; repeat the request with its event id")

    async def retire(self, item_id: str, event_id: str | None) -> ItemAnswer:
        """Never to be shown again; what was known is kept. Raises as ``change``."""
        return await self.change(item_id, ItemBody(attributes={RETIRED: True}, event_id=event_id))

    async def _latest(self, item_id: str) -> KnownItem:
        item = await self._reads.run(self._log.item, item_id)
        if item is None:
            message = f"item_id: nothing is known of {item_id!r}; describe it with PUT"
            raise Refused(404, message, Columns.ITEM_ID)
        return item

    async def _admitted(
        self, item_id: str, attributes: Mapping[str, Any], said: Mapping[str, Any], event_id: str
    ) -> Item:
        """The event, where the door lets it in and what was ``said`` fits the attributes that are known by name."""
        row = {Columns.ITEM_ID: item_id, Columns.ATTRIBUTES: attributes, Columns.EVENT_ID: event_id}
        try:
            event = admit("item", row | {Columns.EVENT_TIMESTAMP: self._clock()}, self._clock)
            _check_known_names(said)
        except DataContractError as error:
            rejected = [Rejected(0, row, error.field, str(error))]
            await self._writes.run(keep_rejected, self._log, self._metrics, "item", SOURCE, rejected)
            raise
        assert isinstance(event, Item)
        return event

    def _repeated(self, position: int, logged: object, event: Item, said: Mapping[str, Any]) -> ItemAnswer:
        """The answer to a change whose id the log has: it is this one if it left the item as this one says."""
        if not isinstance(logged, Item) or logged.item_id != event.item_id:
            raise self._conflict(event)
        if any(logged.attributes.get(name) != value for name, value in said.items()):
            raise self._conflict(event)
        return self._answer(logged, position, repeated=True)

    def _answer(self, event: Item, position: int, repeated: bool) -> ItemAnswer:
        status = "repeated" if repeated else "accepted"
        self._metrics.events.labels("item", status).inc()
        return ItemAnswer(
            item_id=event.item_id,
            attributes=event.attributes,
            event_id=event.event_id,
            position=position,
            status=status,
        )

    def _conflict(self, event: Item) -> Refused:
        self._metrics.events.labels("item", "conflict").inc()
        return Refused(409, conflict(event), Columns.EVENT_ID)


def _merged(before: KnownItem, said: Mapping[str, Any]) -> dict[str, Any]:
    gone = {name for name, value in said.items() if value is None}
    return {name: value for name, value in {**before.attributes, **said}.items() if name not in gone}


def _check_known_names(said: Mapping[str, Any]) -> None:
    """Raise DataContractError where an attribute that is known by name holds what nobody could make sense of."""
    wanted = {
        AVAILABLE: ("true or false", lambda value: isinstance(value, bool)),
        RETIRED: ("true or false", lambda value: isinstance(value, bool)),
        Columns.TITLE: ("text", lambda value: isinstance(value, str)),
        Columns.YEAR: ("a number between -2^53 and 2^53", _is_year),
        Columns.GENRES: ("a list of texts", _is_texts),
    }
    for name, (what, fits) in wanted.items():
        value = said.get(name)
        if value is not None and not fits(value):
            field = f"{Columns.ATTRIBUTES}.{name}"
            raise DataContractError(f"{field}: expected {what}", field)


def _is_year(value: Any) -> bool:
    """Whether every reader understands it as the same number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -YEARS <= value <= YEARS


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
