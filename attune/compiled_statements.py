"""The statements of every request and of every commit: compiled once, and handed to the driver as they are.

Core's own part of such a statement costs more than the database's: for thousands of rows a third, for one row most.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from attune.tables import EXPLORING, IN_TAIL, OF_ITEMS, WHOLE, WORDS, events, log_head

ROWS_LIMIT = 512
"""Ids looked up, or rows inserted into SQLite, by one statement: 13 values a row, of the 32,766 that it takes."""

NO_LIMIT = 2**62

COLUMNS = tuple(column.name for column in events.columns)

T = TypeVar("T")


class HotStatements:
    """For one dialect; threads may share them."""

    def __init__(self, dialect: sa.Dialect) -> None:
        def compiled(statement: Any) -> sa.Compiled:
            return cast(sa.Compiled, statement.compile(dialect=dialect))

        self._head = compiled(sa.select(log_head.c.position).with_for_update())
        self._move_head = compiled(sa.update(log_head).values(position=sa.bindparam("head")))
        self._look_up = cache(lambda ids: compiled(_look_up(ids)))
        self._tails = cache(lambda users: compiled(_tails(users)))
        self._explored = cache(lambda users: compiled(_explored(users)))
        self._last_item = compiled(sa.select(sa.func.max(events.c.position)).where(OF_ITEMS))
        self._insert = events.insert().compile(dialect=dialect, column_keys=COLUMNS)

    def locked_head(self, connection: sa.Connection) -> int:
        """The head, held until the transaction ends; on SQLite the transaction holds the write lock already."""
        return int(_directly(connection, self._head, {}).scalar_one())

    def move_head(self, connection: sa.Connection, position: int) -> None:
        """Make a position the last visible one."""
        _directly(connection, self._move_head, {"head": position})

    def known(self, connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[bytes, int]]:
        """Digest and position of those ids that the log has."""
        known: dict[str, tuple[bytes, int]] = {}
        for part in _parts(ids, ROWS_LIMIT):
            given = {f"id_{place}": event_id for place, event_id in enumerate(part)}
            for event_id, digest, position in _directly(connection, self._look_up(len(part)), given):
                known[event_id] = (digest, position)
        return known

    def insert(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Rows with a value for each column.

        SQLite takes many rows at a time: its driver lets go of Python's lock at each step of a statement, so that one
        row a step took 220 ms for 500 rows beside one busy thread, in place of 12.
        """
        given = _driver_values(self._insert, rows)
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(str(self._insert), given)
            return
        head, _, row = str(self._insert).rpartition("VALUES ")
        for part in _parts(given, ROWS_LIMIT):
            marks = ", ".join([row] * len(part))
            connection.exec_driver_sql(f"{head}VALUES {marks}", tuple(chain.from_iterable(part)))

    def tails(
        self, connection: sa.Connection, keys: Sequence[tuple[str, int]], limit: int | None = None
    ) -> sa.CursorResult[Any]:
        """Events of each (user, position) after that position, in order; a row's ``key`` is the place of its pair."""
        given: dict[str, Any] = {"most": NO_LIMIT if limit is None else limit}
        for place, (user_id, after) in enumerate(keys):
            given |= {f"user_{place}": user_id, f"after_{place}": after}
        return _directly(connection, self._tails(len(keys)), given)

    def explored(self, connection: sa.Connection, keys: Sequence[tuple[str, int]]) -> sa.CursorResult[Any]:
        """``event_id`` and ``value`` of the slates of each (user, time) after that time that spent of a budget."""
        given: dict[str, Any] = {}
        for place, (user_id, since) in enumerate(keys):
            given |= {f"user_{place}": user_id, f"after_{place}": since}
        return _directly(connection, self._explored(len(keys)), given)

    def last_item(self, connection: sa.Connection) -> int:
        """The position of the last event about an item, 0 when there is none."""
        return _directly(connection, self._last_item, {}).scalar() or 0


def _look_up(count: int) -> sa.Select:
    ids: list[Any] = [sa.bindparam(f"id_{place}") for place in range(count)]
    return sa.select(events.c.event_id, events.c.digest, events.c.position).where(events.c.event_id.in_(ids))


def _tails(users: int) -> sa.Select:
    keys = _keys(users)
    of_user = sa.and_(events.c.user_id == keys.c.user_id, events.c.position > keys.c.after, IN_TAIL)
    query = sa.select(keys.c.place.label("key"), events).select_from(keys.join(events, of_user))
    return query.order_by(keys.c.place, events.c.position).limit(sa.bindparam("most"))


def _explored(users: int) -> sa.Select:
    keys = _keys(users)
    of_user = sa.and_(events.c.user_id == keys.c.user_id, events.c.event_timestamp > keys.c.after, EXPLORING)
    columns = keys.c.place.label("key"), events.c.event_id, events.c.value
    return sa.select(*columns).select_from(keys.join(events, of_user))


def _keys(users: int) -> sa.CTE:
    """So many pairs of a user and the position or time after which that user's events are wanted, as a table."""
    rows: list[tuple[Any, ...]] = [
        (place, sa.bindparam(f"user_{place}"), sa.bindparam(f"after_{place}")) for place in range(users)
    ]
    columns = sa.column("place", sa.Integer), sa.column("user_id", WORDS), sa.column("after", WHOLE)
    return sa.values(*columns).data(rows).cte("keys")


def _parts(given: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """One part after the other, each of a power of two: few different statements, which the driver keeps."""
    start = 0
    while left := len(given) - start:
        size = min(most, 2 ** (left.bit_length() - 1))
        yield given[start : start + size]
        start += size


def _directly(connection: sa.Connection, statement: sa.Compiled, given: dict[str, Any]) -> sa.CursorResult[Any]:
    (row,) = _driver_values(statement, [{**statement.params, **given}])
    return connection.exec_driver_sql(str(statement), row)


def _driver_values(statement: sa.Compiled, rows: list[dict[str, Any]]) -> list[Any]:
    """Rows as the driver wants them: by name, or in the order of the statement's marks."""
    names = getattr(statement, "positiontup", None)
    return rows if names is None else [tuple(row[name] for name in names) for row in rows]
