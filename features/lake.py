"""The log's events as Parquet: a partition a logged day, a file a run of positions, idempotent by watermark.

``day=YYYY-MM-DD/FIRST-LAST.parquet`` holds the events at positions FIRST to LAST, and the files themselves say how
far the lake reaches. A chunk of the log is cut into runs of one day each, written in the order of positions, each
under a temporary name, synced, then renamed: a kill at any step leaves whole files that end at some position, and
the next ingest goes on from there.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attune.clock import DAY, to_datetime
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog

SCHEMA = pa.schema(
    [
        (Columns.POSITION, pa.int64()),
        (Columns.LOGGED_AT, pa.int64()),
        (Columns.TYPE, pa.string()),
        (Columns.EVENT_ID, pa.string()),
        (Columns.EVENT_TIMESTAMP, pa.int64()),
        (Columns.USER_ID, pa.string()),
        (Columns.ITEM_ID, pa.string()),
        (Columns.KIND, pa.string()),
        (Columns.VALUE, pa.float64()),
        (Columns.SLATE_ID, pa.string()),
        (Columns.RETRACTS, pa.string()),
        (Columns.PAYLOAD, pa.string()),
    ]
)
"""``payload`` is the whole event as JSON for slates, items and users; behaviour has all of it in the columns."""

BEHAVIOUR = ("interaction", "feedback")


@dataclass(frozen=True)
class IngestReport:
    """What one ingest added: positions ``first`` to ``last`` (both 0 when nothing was new)."""

    first: int
    last: int
    rows: int
    files: int


@dataclass(frozen=True, order=True)
class _File:
    first: int
    last: int
    path: Path


class Lake:
    """The lake in one folder; readers may read while one ingest at a time (across processes) writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def ingest(self, log: EventLog, chunk: int = 50_000) -> IngestReport:
        """Append the log's events after the watermark; a repeat, or a retry after a kill, adds only what is missing."""
        head, first, rows, files = log.head(), 0, 0, 0
        with self._one_writer():
            last = self.watermark()
            while len(table := _table(log.read_columns(last, head, chunk))):
                for day, run in _runs(table):
                    files += 1
                    self._write(day, run)
                positions = table[Columns.POSITION]
                first, last, rows = first or positions[0].as_py(), positions[-1].as_py(), rows + len(table)
        return IngestReport(first, last if rows else 0, rows, files)

    def watermark(self) -> int:
        """The last position that the lake holds, 0 when it is empty."""
        return max((file.last for file in self._files()), default=0)

    def events(
        self,
        after: int = 0,
        upto: int | None = None,
        types: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Events at positions (after, upto], in the order of positions, with the columns of ``SCHEMA`` asked for."""
        wanted = list(columns or SCHEMA.names)
        reading = list(dict.fromkeys([*wanted, Columns.POSITION, Columns.TYPE]))
        tables = [
            pq.read_table(file.path, columns=reading, partitioning=None)
            for file in self._files()
            if file.last > after and (upto is None or file.first <= upto)
        ]
        table = pa.concat_tables([_empty(reading), *tables])
        keep = pc.greater(table[Columns.POSITION], after)
        if upto is not None:
            keep = pc.and_(keep, pc.less_equal(table[Columns.POSITION], upto))
        if types is not None:
            keep = pc.and_(keep, pc.is_in(table[Columns.TYPE], pa.array(list(types), pa.string())))
        return table.filter(keep).sort_by(Columns.POSITION).select(wanted)

    def behaviour(self, after: int = 0, upto: int | None = None) -> pa.Table:
        """Interactions and feedback at positions (after, upto], all columns."""
        return self.events(after, upto, BEHAVIOUR)

    def items(self, upto: int | None = None) -> pd.DataFrame:
        """Every item known at ``upto``, sorted by id: its latest attributes, or none if it occurs only in behaviour.

        Columns item_id, title, year (float, NaN unknown), genres (list), text, attributes (JSON of all of them).
        """
        known = self.events(0, upto, ("item",), (Columns.ITEM_ID, Columns.PAYLOAD))
        latest = dict(zip(known[Columns.ITEM_ID].to_pylist(), known[Columns.PAYLOAD].to_pylist(), strict=True))
        seen = self.events(0, upto, BEHAVIOUR, (Columns.ITEM_ID,))[Columns.ITEM_ID].unique().to_pylist()
        ids = sorted(latest.keys() | set(seen))
        return pd.DataFrame([_item_row(item_id, latest.get(item_id)) for item_id in ids], columns=_ITEM_COLUMNS)

    def _files(self) -> list[_File]:
        files = sorted(_file(path) for path in self.folder.glob("day=*/[0-9]*.parquet"))
        for earlier, later in pairwise(files):
            if later.first <= earlier.last:
                raise DataContractError(
                    f"lake: {later.path} and {earlier.path} hold the same positions; empty the folder and ingest again"
                )
        return files

    def _write(self, day: str, events: pa.Table) -> None:
        folder = self.folder / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{os.getpid()}.draft"
        with draft.open("wb") as stream:
            pq.write_table(events, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        first, last = (events[Columns.POSITION][place].as_py() for place in (0, -1))
        draft.rename(folder / f"{first:012d}-{last:012d}.parquet")
        for directory in (folder, self.folder):
            _sync(directory)

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for draft in self.folder.glob("day=*/.*.draft"):
                draft.unlink()
            yield


_ITEM_COLUMNS = [Columns.ITEM_ID, Columns.TITLE, Columns.YEAR, Columns.GENRES, Columns.TEXT, Columns.ATTRIBUTES]


def _file(path: Path) -> _File:
    first, last = path.stem.split("-")
    return _File(int(first), int(last), path)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _empty(columns: Sequence[str]) -> pa.Table:
    return pa.schema([SCHEMA.field(name) for name in columns]).empty_table()


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _runs(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The table cut wherever the day on which events were logged changes: (YYYY-MM-DD, the events)."""
    days = table[Columns.LOGGED_AT].to_numpy() // DAY
    edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for start, stop in pairwise(edges):
        yield to_datetime(int(days[start]) * DAY).strftime("%Y-%m-%d"), table.slice(start, stop - start)


def _item_row(item_id: str, payload: str | None) -> tuple[Any, ...]:
    attributes = json.loads(payload)["attributes"] if payload else {}
    year = attributes.get(Columns.YEAR)
    genres = attributes.get(Columns.GENRES)
    return (
        item_id,
        _text(attributes.get(Columns.TITLE)),
        float(year) if isinstance(year, int | float) else float("nan"),
        [str(genre) for genre in genres] if isinstance(genres, list) else [],
        _text(attributes.get(Columns.TEXT)),
        msgspec.json.encode(attributes, order="deterministic").decode(),
    )


def _text(raw: Any) -> str:
    return "" if raw is None else str(raw)
