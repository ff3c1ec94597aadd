"""The imports: which events came in by which, so that an import can be listed, withdrawn and replaced.

An import's events are runs of positions. Each of its transactions takes its positions in one piece and notes them
itself, so an import that was killed knows what it brought, and no event is looked up.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from attune.clock import Clock
from attune.database import Database
from attune.errors import DataContractError, EventLogError
from attune.tables import import_runs, imports, log_head, quarantine

RUNNING, DONE, WITHDRAWING, WITHDRAWN = "running", "done", "withdrawing", "withdrawn"
"""A killed import stays ``running``: the same import again goes on with it."""

GONE = (WITHDRAWING, WITHDRAWN)


@dataclass(frozen=True)
class Import:
    """One import: of which source, by which options, what became of its rows, and how many ``events`` it brought.

    Times are in microseconds; ``ended_at`` is None while it runs. ``counts`` are the last run's, or the withdrawal's.
    """

    import_id: int
    source: str
    options: dict[str, Any]
    state: str
    started_at: int
    ended_at: int | None
    counts: dict[str, Any]
    events: int


@dataclass(frozen=True)
class Runs:
    """The positions that imports brought: runs (first, last) in ascending order, with the import of each."""

    first: Sequence[int]
    last: Sequence[int]
    import_ids: Sequence[int]
    gone: frozenset[int]
    """The imports that were withdrawn, or are being."""

    def owner(self, position: int) -> int | None:
        """The import that brought the event at a position; None: it came otherwise."""
        place = bisect_right(self.first, position) - 1
        return self.import_ids[place] if place >= 0 and position <= self.last[place] else None

    def of(self, import_id: int) -> list[tuple[int, int]]:
        """The runs of one import."""
        rows = zip(self.first, self.last, self.import_ids, strict=True)
        return [(first, last) for first, last, owner in rows if owner == import_id]


class Imports:
    """The table of imports beside the events in ``database``; every method may raise EventLogError."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, source: str, options: Mapping[str, Any]) -> int:
        """A new import's id, or that of the same import (source and options) that was begun and never ended."""
        words = json.dumps(options, sort_keys=True)
        same = (imports.c.source == source, imports.c.options == words, imports.c.state == RUNNING)
        with self._database.writing() as connection:
            begun = connection.scalar(select(func.max(imports.c.id)).where(*same))
            if begun is not None:
                return int(begun)
            row = {"source": source, "options": words, "state": RUNNING, "started_at": self._clock(), "counts": "{}"}
            return int(connection.execute(imports.insert(), row).inserted_primary_key[0])  # type: ignore[index]

    def end(self, import_id: int, counts: Mapping[str, Any]) -> None:
        """It brought all that it had; nothing changes where it was withdrawn meanwhile."""
        self._move(import_id, (RUNNING,), DONE, counts)

    def begin_withdrawal(self, import_id: int) -> bool:
        """From now on nothing is added to it; False when it was withdrawn before. Raises DataContractError."""
        if self.find(import_id).state == WITHDRAWN:
            return False
        self._move(import_id, (RUNNING, DONE), WITHDRAWING)
        return True

    def end_withdrawal(self, import_id: int, counts: Mapping[str, Any]) -> None:
        """All that can be taken back is; its rows in quarantine are no longer open."""
        with self._database.writing() as connection:
            mine = (quarantine.c.import_id == import_id, quarantine.c.settled.is_(None))
            connection.execute(update(quarantine).where(*mine).values(settled=WITHDRAWN))
        self._move(import_id, (WITHDRAWING,), WITHDRAWN, counts)

    def find(self, import_id: int) -> Import:
        """The import of that id; raises DataContractError where there is none."""
        query = _described().where(imports.c.id == import_id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise DataContractError(f"there is no import {import_id}; `attune import list` shows those that there are")
        return _import(row)

    def orders_in_doubt(self) -> list[str]:
        """The sources imported in the order of their rows that no import with ``order_is_real`` vouched for."""
        query = select(imports.c.source, imports.c.options).where(imports.c.state.not_in(GONE))
        with self._database.reading() as connection:
            rows = [(row.source, json.loads(row.options)) for row in connection.execute(query)]
        vouched = {source for source, options in rows if options.get("order_is_real")}
        return sorted({source for source, options in rows if options.get("order") == "row"} - vouched)

    def latest(self, limit: int) -> list[Import]:
        """The latest imports, the last one first."""
        query = _described().order_by(imports.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_import(row) for row in connection.execute(query)]

    def last_of(self, source: str) -> Import | None:
        """The last import of that source that was not withdrawn."""
        query = _described().where(imports.c.source == source, imports.c.state.not_in(GONE))
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(imports.c.id.desc()).limit(1)).first()
        return None if row is None else _import(row)

    def runs(self) -> Runs:
        """What every import brought: a few runs an import."""
        query = select(import_runs).order_by(import_runs.c.first)
        with self._database.reading() as connection:
            gone = connection.scalars(select(imports.c.id).where(imports.c.state.in_(GONE))).all()
            rows = connection.execute(query).all()
        return Runs(
            [row.first for row in rows], [row.last for row in rows], [row.import_id for row in rows], frozenset(gone)
        )

    def _move(
        self, import_id: int, sources: tuple[str, ...], state: str, counts: Mapping[str, Any] | None = None
    ) -> None:
        values: dict[str, Any] = {"state": state, "ended_at": self._clock()}
        if counts is not None:
            values["counts"] = json.dumps(counts)
        with self._database.writing() as connection:
            connection.execute(select(log_head.c.position).with_for_update())  # no append is under way
            mine = (imports.c.id == import_id, imports.c.state.in_(sources))
            connection.execute(update(imports).where(*mine).values(values))


def content_id(content: str, number: int) -> str:
    """The id of the event with that content and number among equal ones: the same in every import."""
    return blake2b(f"{content}\x1f{number}".encode(), digest_size=16).hexdigest()


def withdrawal_id(event_id: str) -> str:
    """The id of the take-back by which a withdrawal takes an event back."""
    return content_id(f"withdrawal\x1f{event_id}", 0)


def again_id(event_id: str) -> str:
    """The id under which an event comes back that a withdrawal took back."""
    return content_id(f"again\x1f{event_id}", 0)


def note_run(connection: Connection, import_id: int, first: int, last: int) -> None:
    """Note in an append's own transaction that an import brought these positions.

    Raises EventLogError when it was withdrawn meanwhile.
    """
    state = connection.scalar(select(imports.c.state).where(imports.c.id == import_id))
    if state is None or state in GONE:
        raise EventLogError(f"import {import_id} was withdrawn meanwhile; nothing more of it was written")
    mine = import_runs.c.import_id == import_id
    longer = update(import_runs).where(mine, import_runs.c.last == first - 1).values(last=last)
    if not connection.execute(longer).rowcount:
        connection.execute(import_runs.insert(), {"import_id": import_id, "first": first, "last": last})


def _described() -> Any:
    brought = select(func.sum(import_runs.c.last - import_runs.c.first + 1))
    brought = brought.where(import_runs.c.import_id == imports.c.id)
    return select(imports, func.coalesce(brought.scalar_subquery(), 0).label("events"))


def _import(row: Row[Any]) -> Import:
    return Import(
        row.id,
        row.source,
        json.loads(row.options),
        row.state,
        row.started_at,
        row.ended_at,
        json.loads(row.counts),
        int(row.events),
    )
