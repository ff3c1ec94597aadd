"""The event log: append-only, exactly once by ``event_id``, durable when acknowledged, in order.

Positions are whole numbers from 1 upwards. A batch takes its range from a one-row head inside its own transaction
(row lock on PostgreSQL, the write lock on SQLite), so a batch becomes visible only after all before it: **once a
reader saw position p, nothing at or below p appears later.** A reader follows the log by asking for what lies after
the last position that it saw. Gaps may exist.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, case, desc, func, or_, select, update

from attune.clock import DAY, Clock, system_clock
from attune.columns import Columns
from attune.compiled_statements import COLUMNS, HotStatements
from attune.database import Tables
from attune.database import prepare as prepare
from attune.event_types import SEEN_KINDS
from attune.events import IMPORTED, LIVE, AnyEvent, Item, LoggedEvent, Slate, User, to_logged, to_row
from attune.imports import WITHDRAWN, Imports, again_id, note_run, withdrawal_id
from attune.row_rules import Rejection, rejected_rows
from attune.tables import IN_TAIL, OF_ITEMS, events, log_head, quarantine

LOOK_UP = 1_000
"""Digests a statement when looking for what the quarantine has already."""

FETCHED = 300
"""Rows taken from the driver at once: few enough to be gone before Python's garbage collection looks at them."""

CLOCK_SLACK = DAY
"""How far the clock may ever have been put back for ``logged_between`` to find everything."""

MENDED = "mended"
"""What settles a quarantined row that came into the log in the end."""

FIRST_LOOK, LONGEST_LOOK = 1_000, 50_000
"""Positions that are looked through at once for active users, from the head backwards; each look doubles the last."""

FIRST_USES = 50
"""Uses of a user that are read to see whether there is a history."""

BASE = "base"
"""Beside the columns of a row: the position of the version of an item that the row's was made from."""

_VERSION = (events.c.item_id, events.c.payload, events.c.position)
_ITEM = msgspec.json.Decoder(Item)


@dataclass(frozen=True)
class AppendResult:
    """What became of the events of one call; lists are aligned with, or name places in, the given sequence.

    ``positions`` one an event: a repeat has the position of the original, a refused event has 0.
    ``conflicts`` places of the events whose id the log (or the batch) has with other content: refused.
    """

    positions: list[int]
    accepted: int
    repeated: int
    conflicts: list[int]


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


@dataclass(frozen=True)
class QuarantinedRow:
    """An open row of the quarantine; ``event_id`` is for its event where the row names none."""

    id: int
    source: str
    type: str
    field: str | None
    reason: str
    row: Any
    stored_at: int
    event_id: str


class EventLog(Tables):
    """The log at ``url``; threads may share one, and processes may open as many as they like.

    Every method may raise EventLogError. After any error of ``append`` the same call may be repeated: events
    carry ids, so that nothing counts twice.
    """

    def __init__(self, url: str, clock: Clock = system_clock, lock_seconds: float = 10.0) -> None:
        """As ``Tables``; ``clock`` says when events are logged."""
        super().__init__(url, clock, lock_seconds)
        self._hot = HotStatements(self._database.engine.dialect)
        self.imports = Imports(self._database, clock)

    def append(self, given: Sequence[AnyEvent], import_id: int | None = None) -> AppendResult:
        """Log the events in their order, in one transaction: on return they are durable and visible.

        Those that are new belong to the import of that id, if one is given.
        Raises LogBusy when another writer held the log for ``lock_seconds`` (nothing was written),
        DataContractError when an event cannot be stored (nothing was written).
        """
        return self.append_rows([[to_row(event) for event in given]], import_id)[0]

    def append_rows(self, groups: Sequence[list[dict[str, Any]]], import_id: int | None = None) -> list[AppendResult]:
        """``append`` for several callers in one transaction; rows as ``attune.events.to_row`` makes them.

        A row with ``BASE`` is a version of an item made from the one at that position (0: from nothing). Where the
        item has another one by now it is refused, as a conflict: of two changes at once neither is lost in silence.
        """
        rows = [row for group in groups for row in group]
        placed: list[_Placed] = []
        if rows:
            with self._database.writing() as connection:
                head = self._hot.locked_head(connection)
                known = self._hot.known(connection, [row["event_id"] for row in rows])
                based = sorted({row["item_id"] for row in rows if BASE in row})
                versions = dict.fromkeys(based, 0) | _latest_versions(connection, based) if based else {}
                fresh, placed = _place(rows, known, versions, head)
                if fresh:
                    logged_at = self._clock()
                    for row in fresh:
                        row["logged_at"] = logged_at
                        if import_id is not None and row["type"] == "feedback":
                            row["payload"] = IMPORTED
                    self._hot.insert(connection, fresh)
                    self._hot.move_head(connection, head + len(fresh))
                    if import_id is not None:
                        note_run(connection, import_id, head + 1, head + len(fresh))
        answers = iter(placed)
        return [_appended(list(islice(answers, len(group)))) for group in groups]

    def head(self) -> int:
        """The last visible position; 0 when the log is empty."""
        with self._database.reading() as connection:
            return connection.scalar(select(log_head.c.position)) or 0

    def log_id(self) -> str:
        """Which log this is: a random word, the same for its whole life and in its backups."""
        with self._database.reading() as connection:
            return connection.execute(select(log_head.c.log_id)).scalar_one()

    def read(
        self, after: int, limit: int, upto: int | None = None, types: Collection[str] | None = None
    ) -> list[LoggedEvent]:
        """At most ``limit`` events with ``after`` < position <= ``upto``, in the order of their positions."""
        query = _between(select(events), after, upto, types).limit(limit)
        with self._database.reading() as connection:
            return [to_logged(row) for row in connection.execute(query)]

    def read_columns(
        self, after: int, upto: int | None, limit: int, types: Collection[str] | None = None
    ) -> dict[str, list[Any]]:
        """As ``read``, as one list a column of the table: for frames, without building an object an event.

        ``digest`` is bytes, ``payload`` the whole event as JSON for slates, items and users, ``LIVE`` for interactions
        that came in over HTTP, ``IMPORTED`` for feedback that an import brought, and None for the others;
        columns that a type has not are None.
        """
        query = _between(select(events), after, upto, types).limit(limit)
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        with self._database.reading() as connection:
            cursor: Any = connection.execute(query).cursor
            while rows := cursor.fetchmany(FETCHED):
                for column, values in zip(columns.values(), zip(*rows, strict=True), strict=True):
                    column.extend(values)
        return columns

    def logged_between(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last position of what was logged from ``start`` until before ``end`` (microseconds).

        (0, 0) when that is nothing; events of other times may lie between where the clock was put back. The place is
        found by halving, so that this costs about as much as the days in question, not as the log.
        """
        with self._database.reading() as connection:
            low = _first_logged_at(connection, start - CLOCK_SLACK)
            high = _first_logged_at(connection, end + CLOCK_SLACK)
            query = select(func.min(events.c.position), func.max(events.c.position))
            query = query.where(events.c.position >= low, events.c.position < high)
            query = query.where(events.c.logged_at >= start, events.c.logged_at < end)
            first, last = connection.execute(query).one()
        return first or 0, last or 0

    def tail(self, user_id: str, after: int, limit: int | None = None) -> list[LoggedEvent]:
        """That user's interactions, feedback and attributes after a position, the first ``limit``; no slates."""
        return self.tails([(user_id, after)], limit)[0]

    def tails(self, keys: Sequence[tuple[str, int]], limit: int | None = None) -> list[list[LoggedEvent]]:
        """``tail`` of each (user, position) by one statement; ``limit`` is for all together: the last may lack some."""
        tails: list[list[LoggedEvent]] = [[] for _ in keys]
        with self._database.reading() as connection:
            for row in self._hot.tails(connection, keys, limit) if keys else ():
                tails[row.key].append(to_logged(row))
        return tails

    def explored(self, keys: Sequence[tuple[str, int]]) -> list[dict[str, int]]:
        """Of each (user, time): positions explored by slate id, in later slates under a budget for exploration."""
        explored: list[dict[str, int]] = [{} for _ in keys]
        with self._database.reading() as connection:
            for place, slate_id, value in self._hot.explored(connection, keys) if keys else ():
                explored[place][slate_id] = int(value)
        return explored

    def find(self, event_id: str) -> LoggedEvent | None:
        """The event of that id, or None when it was not logged (yet)."""
        query = select(events).where(events.c.event_id == event_id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return to_logged(row) if row else None

    def slate(self, slate_id: str) -> LoggedEvent | None:
        """The slate of that id, or None when it was not logged (yet)."""
        logged = self.find(slate_id)
        return logged if logged and isinstance(logged.event, Slate) else None

    def digests(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """The content digests (``Event.digest``) of those ids that were logged."""
        with self._database.reading() as connection:
            return {event_id: digest for event_id, (digest, _) in self._hot.known(connection, event_ids).items()}

    def current_ids(self, event_ids: Iterable[str], told: Collection[str] = ()) -> dict[str, str]:
        """The ids that events have now: one that a withdrawal took back is followed by a new one.

        A withdrawal whose take-back is among ``told`` is none to undo.
        """
        current = {name: name for name in event_ids}
        looked_at = list(current)
        while looked_at:
            backs = {name: withdrawal_id(current[name]) for name in looked_at}
            logged = self.digests([back for back in backs.values() if back not in told])
            looked_at = [name for name, back in backs.items() if back in logged]
            current |= {name: again_id(current[name]) for name in looked_at}
        return current

    def counts(self) -> dict[str, int]:
        """How many events of each type there are; reads the whole log."""
        query = select(events.c.type, func.count().label("number")).group_by(events.c.type).order_by(events.c.type)
        with self._database.reading() as connection:
            return {row.type: row.number for row in connection.execute(query)}

    def number_after(self, after: int, types: Collection[str]) -> int:
        """How many events of those types lie after a position; reads no more than what lies there."""
        query = select(func.count()).where(events.c.position > after, events.c.type.in_(sorted(types)))
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def last_time_before(self, moment: int, default: int) -> int:
        """The latest event_timestamp before ``moment`` of an interaction, or ``default``; reads the whole log."""
        query = select(func.max(events.c.event_timestamp))
        query = query.where(events.c.type == "interaction", events.c.event_timestamp < moment)
        with self._database.reading() as connection:
            last = connection.scalar(query)
        return default if last is None else int(last)

    def users(self, limit: int) -> list[ActiveUser]:
        """The ``limit`` users who were active last, the latest first; reads back only as far as these go."""
        users: dict[str, ActiveUser] = {}
        query = select(events.c.user_id, events.c.position, events.c.logged_at)
        query = query.where(events.c.type.in_(("interaction", "feedback", "user"))).order_by(desc(events.c.position))
        with self._database.reading() as connection:
            upto, look = connection.scalar(select(log_head.c.position)) or 0, FIRST_LOOK
            while upto > 0 and len(users) < limit:
                stretch = query.where(events.c.position > upto - look, events.c.position <= upto)
                for row in connection.execute(stretch):
                    if row.user_id not in users and len(users) < limit:
                        users[row.user_id] = ActiveUser(*row)
                upto, look = upto - look, min(2 * look, LONGEST_LOOK)
        return list(users.values())

    def items(self, limit: int, search: str = "") -> list[KnownItem]:
        """The latest version of items with all words of ``search`` in the title, by title, then id; reads every one."""
        query = select(*_VERSION).where(OF_ITEMS).order_by(events.c.position)
        with self._database.reading() as connection:
            latest = {row.item_id: row for row in connection.execute(query)}
        words = search.casefold().split()
        items = [item for item in map(_known, latest.values()) if all(word in item.title.casefold() for word in words)]
        return sorted(items, key=lambda item: (item.title.casefold(), item.item_id))[:limit]

    def item(self, item_id: str) -> KnownItem | None:
        """The latest version of that item, through an index; None when no event describes it."""
        with self._database.reading() as connection:
            position = _latest_versions(connection, [item_id]).get(item_id)
            query = select(*_VERSION).where(events.c.position == position)
            row = connection.execute(query).first() if position else None
        return _known(row) if row else None

    def last_item_position(self) -> int:
        """The position of the last event about an item, 0 when there is none; an index look-up."""
        with self._database.reading() as connection:
            return self._hot.last_item(connection)

    def item_versions(self, after: int, limit: int) -> list[KnownItem]:
        """The first ``limit`` versions of items after a position, in the order of positions, through an index."""
        query = select(*_VERSION).where(OF_ITEMS, events.c.position > after).order_by(events.c.position).limit(limit)
        with self._database.reading() as connection:
            return [_known(row) for row in connection.execute(query)]

    def versions(self, type_name: str, ids: Sequence[str]) -> dict[str, list[tuple[int, Item | User]]]:
        """All versions of those items or users with their positions, in that order, by id; through an index.

        ``type_name`` is item or user. Of users it reads all that they did.
        """
        column, kept = (events.c.item_id, OF_ITEMS) if type_name == "item" else (events.c.user_id, IN_TAIL)
        versions: dict[str, list[tuple[int, Item | User]]] = {}
        with self._database.reading() as connection:
            for start in range(0, len(ids), LOOK_UP):
                query = select(events).where(kept, events.c.type == type_name, column.in_(ids[start : start + LOOK_UP]))
                for row in connection.execute(query.order_by(events.c.position)):
                    event: Any = to_logged(row).event
                    versions.setdefault(getattr(row, column.name), []).append((row.position, event))
        return versions

    def first_uses(self, user_ids: Collection[str], upto: int) -> dict[str, dict[str, int]]:
        """The items of each user's first uses up to a position, with the moment of each; a look-up a user.

        ``FIRST_USES`` are read of a user at most. Of what came in over HTTP the moment is when it was logged, see
        ``LoggedEvent.happened_at``.
        """
        is_live = or_(events.c.type == "feedback", events.c.payload == LIVE)
        is_imported = events.c.payload == IMPORTED
        moment = case((is_imported, events.c.event_timestamp), (is_live, events.c.logged_at),
                      else_=events.c.event_timestamp)  # fmt: skip
        query = select(events.c.item_id, moment).where(IN_TAIL, events.c.user_id == bindparam("user_id"))
        query = query.where(events.c.position <= upto, events.c.kind.in_(sorted(SEEN_KINDS)))
        query = query.order_by(events.c.position).limit(FIRST_USES)
        uses: dict[str, dict[str, int]] = {}
        with self._database.reading() as connection:
            for user_id in user_ids:
                for item_id, first in connection.execute(query, {"user_id": user_id}):
                    of_user = uses.setdefault(user_id, {})
                    of_user[item_id] = min(first, of_user.get(item_id, first))
        return uses

    def kinds_with(self, item_id: str) -> dict[str, int]:
        """How many events of each kind name that item, the commonest first; reads the whole log."""
        number = func.count().label("number")
        query = select(events.c.kind, number).where(events.c.item_id == item_id, events.c.kind.is_not(None))
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(events.c.kind).order_by(desc(number), events.c.kind))
            return {row.kind: row.number for row in rows}

    def quarantine(
        self, type_name: str, source: str, rejected: Sequence[Rejection], import_id: int | None = None
    ) -> int:
        """Keep rows that were turned away, each once a (source, type, content, occurrence); how many were new.

        Rows that were withdrawn with their import are open again, and belong to the import of that id.

        Equal rows are numbered within the call, so hand over all the rows of one source in one call: then the
        same import again adds nothing, and two equal bad rows stay two. A request of its own is a source of its own.
        """
        rows = rejected_rows(source, type_name, rejected)
        if not rows:
            return 0
        digests = list(rows)
        with self._database.writing() as connection:
            self._hot.locked_head(connection)
            stored_at = self._clock()
            known: set[bytes] = set()
            for start in range(0, len(digests), LOOK_UP):
                query = select(quarantine.c.digest).where(quarantine.c.digest.in_(digests[start : start + LOOK_UP]))
                known.update(connection.scalars(query))
                again = update(quarantine).where(
                    quarantine.c.digest.in_(digests[start : start + LOOK_UP]), quarantine.c.settled == WITHDRAWN
                )
                connection.execute(again.values(settled=None, import_id=import_id))
            about = {"stored_at": stored_at, "import_id": import_id}
            fresh = [row | about for digest, row in rows.items() if digest not in known]
            if fresh:
                connection.execute(quarantine.insert(), fresh)
        return len(fresh)

    def quarantined(self) -> int:
        """How many open rows lie in quarantine."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).where(quarantine.c.settled.is_(None))) or 0

    def quarantined_rows(self, after: int, limit: int, source: str = "") -> list[QuarantinedRow]:
        """The first ``limit`` open rows after an id whose source begins with that, in the order of ids."""
        query = select(quarantine).where(quarantine.c.settled.is_(None), quarantine.c.id > after)
        query = query.where(quarantine.c.source.startswith(source, autoescape=True)).order_by(quarantine.c.id)
        with self._database.reading() as connection:
            return [
                QuarantinedRow(row.id, row.source, row.type, row.field, row.reason, json.loads(row.row), row.stored_at,
                               row.digest.hex())
                for row in connection.execute(query.limit(limit))
            ]  # fmt: skip

    def settle_quarantined(self, ids: Sequence[int]) -> None:
        """These rows are mended, and no longer open."""
        with self._database.writing() as connection:
            for start in range(0, len(ids), LOOK_UP):
                mended = update(quarantine).where(quarantine.c.id.in_(ids[start : start + LOOK_UP]))
                connection.execute(mended.values(settled=MENDED))


def _first_logged_at(connection: Connection, moment: int) -> int:
    """The first position logged at or after a moment, as if the clock had never been put back; else head + 1.

    Where it was, by ``CLOCK_SLACK`` at most, what was logged at ``moment + CLOCK_SLACK`` or later lies at that position
    or after it, and what was logged before ``moment - CLOCK_SLACK`` before it.
    """
    query = select(events.c.position, events.c.logged_at).where(events.c.position >= bindparam("position"))
    query = query.order_by(events.c.position).limit(1)
    low, high = 1, (connection.scalar(select(log_head.c.position)) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(query, {"position": middle}).first()
        if row is None or row.logged_at >= moment:
            high = middle
        else:
            low = row.position + 1
    return low


def _latest_versions(connection: Connection, item_ids: Sequence[str]) -> dict[str, int]:
    """The grouping keeps PostgreSQL from walking back through all items, as it would for a popular one."""
    query = select(events.c.item_id, func.max(events.c.position)).where(OF_ITEMS, events.c.item_id.in_(item_ids))
    return {row[0]: row[1] for row in connection.execute(query.group_by(events.c.item_id))}


def _known(row: Any) -> KnownItem:
    return KnownItem(row.item_id, _ITEM.decode(row.payload).attributes, row.position)


_Placed = tuple[int, bool]
"""Where an event lies in the log (0: refused), and whether it is new there."""


def _place(
    rows: list[dict[str, Any]], known: dict[str, tuple[bytes, int]], versions: dict[str, int], head: int
) -> tuple[list[dict[str, Any]], list[_Placed]]:
    """Give positions after ``head`` to the new rows, returned first; ``versions``: each base item's latest, 0: none."""
    fresh: list[dict[str, Any]] = []
    placed: list[_Placed] = []
    for row in rows:
        following = head + len(fresh) + 1
        if BASE in row and row["event_id"] not in known and row[BASE] != versions[row["item_id"]]:
            placed.append((0, False))
            continue
        digest, position = known.setdefault(row["event_id"], (row["digest"], following))
        if position == following:
            row["position"] = position
            fresh.append(row)
            if row["type"] == "item" and row["item_id"] in versions:
                versions[row["item_id"]] = position
        placed.append((position if digest == row["digest"] else 0, position == following))
    return fresh, placed


def _appended(placed: Sequence[_Placed]) -> AppendResult:
    conflicts = [place for place, (position, _) in enumerate(placed) if not position]
    accepted = sum(new for _, new in placed)
    positions = [position for position, _ in placed]
    return AppendResult(positions, accepted, len(placed) - accepted - len(conflicts), conflicts)


def _between(query: Select, after: int, upto: int | None, types: Collection[str] | None) -> Select:
    query = query.where(events.c.position > after).order_by(events.c.position)
    if upto is not None:
        query = query.where(events.c.position <= upto)
    return query if types is None else query.where(events.c.type.in_(sorted(types)))
