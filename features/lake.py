"""The log's events as Parquet: a partition a logged day, a file a run of positions, idempotent by watermark.

``day=YYYY-MM-DD/FIRST-LAST.parquet`` holds the events at positions FIRST to LAST, and the files themselves say how
far the lake reaches. A chunk of the log is cut into runs of one day each, written in the order of positions, each
under a temporary name, synced, then renamed: a kill at any step leaves whole files that end at some position, and
the next ingest goes on from there.

A file is replaced by a file that holds at least its positions: from the rename on, readers leave out whatever lies
inside another file, so that they find every event once while the old files are being removed.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attune.clock import DAY, from_datetime, to_datetime
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.event_types import RETRACT
from attune.files import locked, sync, whole_file
from features.stats import take_backs

SCHEMA = pa.schema([
    *((name, pa.int64()) for name in (Columns.POSITION, Columns.LOGGED_AT)),
    *((name, pa.string()) for name in (Columns.TYPE, Columns.EVENT_ID)),
    (Columns.EVENT_TIMESTAMP, pa.int64()),
    *((name, pa.string()) for name in (Columns.USER_ID, Columns.ITEM_ID, Columns.KIND)),
    (Columns.VALUE, pa.float64()),
    *((name, pa.string()) for name in (Columns.SLATE_ID, Columns.RETRACTS, Columns.PAYLOAD)),
])  # fmt: skip
"""``payload`` is the whole event as JSON for slates, items and users. Behaviour has all of it in the columns; an
interaction's ``payload`` is ``attune.events.LIVE`` if it came in over HTTP."""

BEHAVIOUR = ("interaction", "feedback")

REPEATING = [name for name in SCHEMA.names if name not in (Columns.POSITION, Columns.EVENT_ID, Columns.PAYLOAD)]
"""The columns that a dictionary of their values makes smaller."""

_ITEM_COLUMNS = [Columns.ITEM_ID, Columns.TITLE, Columns.YEAR, Columns.GENRES, Columns.TEXT, Columns.ATTRIBUTES]

CHUNK = 50_000
"""Events read from the log, and written to a file, at once."""


@dataclass(frozen=True)
class IngestReport:
    """What one ingest added: positions ``first`` to ``last`` (both 0 when nothing was new)."""

    first: int
    last: int
    rows: int
    files: int


@dataclass(frozen=True)
class _File:
    first: int
    last: int
    path: Path

    @property
    def day(self) -> str:
        return self.path.parent.name.removeprefix("day=")


@dataclass(frozen=True)
class _Span:
    """Positions ``first`` to ``last``, and the files that hold exactly these; none: the lake lacks them."""

    first: int
    last: int
    files: tuple[_File, ...] = ()


class Lake:
    """The lake in one folder; readers may read while one ingest at a time (across processes) writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def ingest(self, log: EventLog, chunk: int = CHUNK) -> IngestReport:
        """Append the log's events after the watermark; a repeat, or a retry after a kill, adds only what is missing.

        Raises DataContractError when the lake reaches further than the log: it was made from another one.
        """
        first, rows, files = 0, 0, 0
        with self._one_writer():
            last, head = self.watermark(), log.head()
            if last > head:
                raise self._of_another_log(f"it reaches to {last}, the log ends at {head}")
            while len(table := to_table(log.read_columns(last, head, chunk))):
                for day, run in _runs(table):
                    files += 1
                    self._write(day, run)
                positions = table[Columns.POSITION]
                first, last, rows = first or positions[0].as_py(), positions[-1].as_py(), rows + len(table)
        return IngestReport(first, last if rows else 0, rows, files)

    def rebuild(self, log: EventLog, first_day: date, last_day: date, chunk: int = CHUNK) -> tuple[int, int]:
        """Write again, from the log, what was logged from the first to the last day (UTC); (after, upto] were written.

        Damaged, removed and missing files come back, small ones are joined. Readers find every event once
        throughout; killed at any step and called again, it gives the same. Nothing beyond the watermark is added.
        (0, 0) when the lake and the log have nothing of those days. Raises DataContractError for days in the wrong
        order, and for a lake that was made from another log.
        """
        if last_day < first_day:
            raise DataContractError(f"days: {last_day} lies before {first_day}; name the earlier one first")
        with self._one_writer():
            after, upto = self._positions_of(log, first_day, last_day)
            for span in self._spans(after, upto, chunk):
                self._rewrite(log, span)
        return after, upto

    def watermark(self) -> int:
        """The last position that the lake holds, 0 when it is empty."""
        return max((file.last for file in self._listed()[0]), default=0)

    def events(
        self,
        after: int = 0,
        upto: int | None = None,
        types: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Events at positions (after, upto], in the order of positions, with the columns of ``SCHEMA`` asked for."""
        schema = pa.schema([SCHEMA.field(name) for name in columns or SCHEMA.names])
        return pa.concat_tables([schema.empty_table(), *self.pieces(after, upto, types, columns)])

    def pieces(
        self,
        after: int = 0,
        upto: int | None = None,
        types: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """As ``events``, file after file, holding one at a time; those that hold none are passed over unread.

        Raises DataContractError for a file that cannot be read.
        """
        wanted, reached, files = list(columns or SCHEMA.names), after, self._listed()[0]
        while files:
            file = files.pop(0)
            if file.last <= reached or (upto is not None and file.first > upto):
                continue
            keep = pc.field(Columns.POSITION) > reached
            if upto is not None:
                keep &= pc.field(Columns.POSITION) <= upto
            if types is not None:
                keep &= pc.field(Columns.TYPE).isin(list(types))
            try:
                piece = pq.read_table(file.path, columns=wanted, filters=keep, partitioning=None)
            except FileNotFoundError:  # joined with others since it was listed
                files = self._listed()[0]
                continue
            except (pa.ArrowException, OSError) as error:
                cure = f"write its day again: `attune backfill {file.day} {file.day}`"
                raise DataContractError(f"lake: {file.path} cannot be read ({error}); {cure}") from error
            reached = file.last
            if len(piece):
                yield piece

    def items(self, upto: int | None = None) -> pd.DataFrame:
        """Every item known at ``upto``, sorted by id: its latest attributes, or none if it occurs only in behaviour.

        Behaviour that was taken back names no item.

        Columns item_id, title, year (float, NaN unknown), genres (list), text, attributes (JSON of all of them).
        """
        latest = self._latest("item", Columns.ITEM_ID, upto)
        attributes = {item_id: json.loads(payload)["attributes"] for item_id, payload in latest.items()}
        return item_table(self._used_items(upto), attributes)

    def users(self, upto: int | None = None) -> pd.DataFrame:
        """Every user of whom attributes are known at ``upto``, sorted by id: user_id, attributes (JSON of all)."""
        latest = self._latest("user", Columns.USER_ID, upto)
        return user_table({user_id: json.loads(payload)["attributes"] for user_id, payload in latest.items()})

    def _latest(self, type_name: str, id_column: str, upto: int | None) -> dict[str, str]:
        """The payload of each id's latest event of that type."""
        latest: dict[str, str] = {}
        for piece in self.pieces(0, upto, (type_name,), (id_column, Columns.PAYLOAD)):
            columns = (piece[name].to_pylist() for name in (id_column, Columns.PAYLOAD))
            latest.update(zip(*columns, strict=True))
        return latest

    def item_ids(self, types: Collection[str], upto: int | None = None) -> set[str]:
        """The items that events of those types name, at positions up to ``upto``."""
        pieces = self.pieces(0, upto, types, (Columns.ITEM_ID,))
        return {item for piece in pieces for item in piece[Columns.ITEM_ID].unique().drop_null().to_pylist()}

    def _used_items(self, upto: int | None) -> set[str]:
        """The items of behaviour that stands."""
        facts = (Columns.EVENT_ID, Columns.USER_ID, Columns.POSITION, Columns.EVENT_TIMESTAMP, Columns.KIND)
        is_retract = pc.field(Columns.KIND) == RETRACT
        pieces = self.pieces(0, upto, BEHAVIOUR, (*facts, Columns.RETRACTS))
        backs = [back for piece in pieces if len(back := piece.filter(is_retract))]
        if not backs:
            return self.item_ids(BEHAVIOUR, upto)
        retracts, used = pa.concat_tables(backs).to_pandas(), set[str]()
        for piece in self.pieces(0, upto, BEHAVIOUR, (*facts, Columns.ITEM_ID)):
            done = piece.filter(~is_retract).to_pandas()
            gone = take_backs(retracts, done)[Columns.EVENT_ID]
            used.update(done.loc[~done[Columns.EVENT_ID].isin(gone), Columns.ITEM_ID])
        return used

    def _listed(self) -> tuple[list[_File], list[_File]]:
        """The files that count, by position, and those inside another one: what was joined and not removed yet.

        The folder is listed until it stands still: a listing may miss both a file and what takes its place.
        """
        before: set[_File] | None = None
        present: set[_File] = set()
        while present != before:
            stems = ((path, path.stem.partition("-")) for path in self.folder.glob("day=*/[0-9]*.parquet"))
            before, present = present, {_File(int(first), int(last), path) for path, (first, _, last) in stems}
        counting: list[_File] = []
        inside: list[_File] = []
        for file in sorted(present, key=lambda file: (file.first, -file.last, file.path)):
            reached = counting[-1].last if counting else 0
            if file.first > reached:
                counting.append(file)
            elif file.last <= reached:
                inside.append(file)
            else:
                both = f"{file.path} and {counting[-1].path}"
                raise DataContractError(f"lake: {both} hold the same positions; empty the folder and ingest again")
        return counting, inside

    def _positions_of(self, log: EventLog, first_day: date, last_day: date) -> tuple[int, int]:
        """(after, upto] with all that log and lake have of those days, as far as the lake reaches, in whole files."""
        start, end = (from_datetime(datetime.combine(day, time.min, UTC)) for day in (first_day, last_day))
        files, watermark = self._listed()[0], self.watermark()
        first, last = log.logged_between(start, end + DAY)
        known = [file for file in files if first_day.isoformat() <= file.day <= last_day.isoformat()]
        edges = [(first, min(last, watermark))] if 0 < first <= watermark else []
        edges += [(file.first, file.last) for file in known]
        if not edges:
            return 0, 0
        first, last = min(edges)[0], max(last for _, last in edges)
        touched = [file for file in files if file.last >= first and file.first <= last]
        return min([first, *(file.first for file in touched)]) - 1, max([last, *(file.last for file in touched)])

    def _spans(self, after: int, upto: int, chunk: int) -> Iterator[_Span]:
        """(after, upto] cut into neighbouring files of one day, together at most ``chunk`` positions, and gaps."""
        reached, held = after, _Span(after + 1, after)
        for file in [file for file in self._listed()[0] if after < file.first <= upto]:
            fits = file.last - held.first < chunk and file.first == reached + 1
            if held.files and not (fits and file.day == held.files[0].day):
                yield held
                held = _Span(file.first, file.first - 1)
            yield from _gaps(reached, file.first - 1, chunk)
            held = _Span(held.first if held.files else file.first, file.last, (*held.files, file))
            reached = file.last
        if held.files:
            yield held
        yield from _gaps(reached, upto, chunk)

    def _rewrite(self, log: EventLog, span: _Span) -> None:
        """Put a span's events in place of its files, or write those that the lake lacks."""
        events = to_table(log.read_columns(span.first - 1, span.last, span.last - span.first + 1))
        if not span.files:
            for day, run in _runs(events):
                self._write(day, run)
            return
        edges = [events[Columns.POSITION][place].as_py() for place in (0, -1)] if len(events) else []
        if edges != [span.first, span.last]:
            raise self._of_another_log(f"the log has not all of the positions {span.first} to {span.last}")
        written = self._write(span.files[0].day, events)
        for file in span.files:
            if file.path != written:
                file.path.unlink()

    def _of_another_log(self, fault: str) -> DataContractError:
        cure = "empty the folder and ingest again"
        return DataContractError(f"lake: {self.folder} was not made from this log ({fault}); {cure}")

    def _write(self, day: str, events: pa.Table) -> Path:
        folder = self.folder / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        first, last = (events[Columns.POSITION][place].as_py() for place in (0, -1))
        path = folder / f"{first:012d}-{last:012d}.parquet"
        with whole_file(path, durable=True) as draft, draft.open("wb") as stream:
            pq.write_table(events, stream, compression="zstd", use_dictionary=REPEATING)
        sync(self.folder)
        return path

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        with locked(self.folder / ".lock"):
            for left_over in (*self.folder.glob("day=*/.*.draft"), *(file.path for file in self._listed()[1])):
                left_over.unlink()
            yield


def _gaps(after: int, upto: int, chunk: int) -> Iterator[_Span]:
    for first in range(after + 1, upto + 1, chunk):
        yield _Span(first, min(first + chunk - 1, upto))


def item_table(used: Collection[str], attributes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The items that were used or have attributes, as ``Lake.items`` gives them."""
    rows = []
    for item_id in sorted(attributes.keys() | set(used)):
        known = attributes.get(item_id, {})
        title, year, genres, text = (known.get(name) for name in _ITEM_COLUMNS[1:-1])
        title, text = ("" if words is None else str(words) for words in (title, text))
        year = float(year) if isinstance(year, int | float) else float("nan")
        genres = [str(genre) for genre in genres] if isinstance(genres, list) else []
        rows.append((item_id, title, year, genres, text, _json(known)))
    return pd.DataFrame(rows, columns=_ITEM_COLUMNS)


def user_table(attributes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The users who have attributes, as ``Lake.users`` gives them."""
    rows = [(user_id, _json(attributes[user_id])) for user_id in sorted(attributes)]
    return pd.DataFrame(rows, columns=[Columns.USER_ID, Columns.ATTRIBUTES])


def to_table(columns: dict[str, list[Any]]) -> pa.Table:
    """What ``EventLog.read_columns`` gives, as a table of the lake."""
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _runs(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The table cut wherever the day on which events were logged changes: (YYYY-MM-DD, the events)."""
    days = table[Columns.LOGGED_AT].to_numpy() // DAY
    edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for start, stop in pairwise(edges):
        yield to_datetime(int(days[start]) * DAY).strftime("%Y-%m-%d"), table.slice(start, stop - start)


def _json(attributes: Mapping[str, Any]) -> str:
    return msgspec.json.encode(attributes, order="deterministic").decode()
