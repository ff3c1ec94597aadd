"""The log as files for other tools: Parquet, CSV or JSON lines, a file a type of event, however long the log is.

The columns bear attune's own names and times are moments (ISO 8601 in text). ``exported`` is the inverse of ``export``:
it gives the rows of all files in the order of their positions, from which ``features.importer`` makes equal events.
"""

import heapq
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from attune.clock import from_datetime
from attune.columns import Columns
from attune.errors import ConfigError, DataContractError
from attune.event_log import EventLog
from attune.events import TYPES
from attune.files import whole_folder
from features.lake import CHUNK, SCHEMA, to_table

Format = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[str, ...] = get_args(Format)

MOMENT = pa.timestamp("us", "UTC")
TIMES = (Columns.EVENT_TIMESTAMP, Columns.LOGGED_AT)

_ABOUT = (Columns.EVENT_TIMESTAMP, Columns.EVENT_ID, Columns.POSITION, Columns.LOGGED_AT)
_DONE = (Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.RETRACTS)
COLUMNS_OF = {
    "interaction": (*_DONE, *_ABOUT),
    "feedback": (*_DONE, Columns.SLATE_ID, *_ABOUT),
    "slate": (Columns.USER_ID, *_ABOUT, Columns.PAYLOAD),
    "item": (Columns.ITEM_ID, *_ABOUT, Columns.PAYLOAD),
    "user": (Columns.USER_ID, *_ABOUT, Columns.PAYLOAD),
}
"""The columns of each type's file; ``payload`` is the whole event as JSON."""

READ_ROWS = 10_000
CSV_BLOCK = 1 << 24
"""Bytes of CSV read at once; no row may be longer."""

Write = Callable[[pa.Table], None]


def export(
    log: EventLog,
    target: Path,
    format: Format = "parquet",
    after: int = 0,
    upto: int | None = None,
    types: Collection[str] | None = None,
) -> dict[str, int]:
    """Write the events at positions (after, upto] as ``target/<type>.<format>``; how many there were of each type.

    ``target`` is a folder that does not exist yet; it appears whole or not at all. Types without events get no file.
    Raises ConfigError for a format or a type that is not known or a target that exists, DataContractError when it
    cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format: {format!r} is not one of {', '.join(FORMATS)}")
    if unknown := sorted(set(types or ()) - set(TYPES.values())):
        raise ConfigError(f"types: {unknown[0]!r} is not one of {', '.join(TYPES.values())}")
    if target.exists():
        raise ConfigError(f"{target} exists already; name a folder that does not")
    head = log.head()
    stop = head if upto is None else min(upto, head)
    counts: dict[str, int] = {}
    writers: dict[str, Write] = {}
    try:
        with whole_folder(target) as folder, ExitStack() as files:
            while len(table := to_table(log.read_columns(after, stop, CHUNK, types))):
                for name in table[Columns.TYPE].unique().to_pylist():
                    if name not in writers:
                        writers[name] = files.enter_context(_writer(folder / f"{name}.{format}", _schema(name)))
                    rows = table.filter(pc.field(Columns.TYPE) == name)
                    writers[name](rows.select(COLUMNS_OF[name]).cast(_schema(name)))
                    counts[name] = counts.get(name, 0) + len(rows)
                after = table[Columns.POSITION][-1].as_py()
    except OSError as error:
        raise DataContractError(f"{target} cannot be written ({error.strerror or error}); nothing was kept") from error
    return dict(sorted(counts.items()))


ExportedRow = tuple[int, str, dict[str, Any]]
"""The position of an exported event, its type, and its fields (times in microseconds)."""


def exported(folder: Path) -> Iterator[ExportedRow]:
    """The events that ``export`` wrote to ``folder``, in the order of their positions.

    Raises DataContractError when there are none, or a file cannot be read.
    """
    paths = [path for name in TYPES.values() for format in FORMATS if (path := folder / f"{name}.{format}").is_file()]
    if not paths:
        names = ", ".join(f"{name}.{FORMATS[0]}" for name in COLUMNS_OF)
        raise DataContractError(f"{folder} is no folder that `attune export` wrote: it holds none of {names}")
    yield from heapq.merge(*map(_rows, paths), key=itemgetter(0))


def _rows(path: Path) -> Iterator[ExportedRow]:
    lines = _lines(path) if path.suffix == ".jsonl" else _table_rows(path)
    try:
        for row in lines:
            position = row.pop(Columns.POSITION)
            del row[Columns.LOGGED_AT]
            yield position, path.stem, row
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataContractError(f"{path} is not as `attune export` wrote it ({error}); export again") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for line in stream:
            row = msgspec.json.decode(line)
            yield row | {Columns.EVENT_TIMESTAMP: from_datetime(datetime.fromisoformat(row[Columns.EVENT_TIMESTAMP]))}


def _table_rows(path: Path) -> Iterator[dict[str, Any]]:
    schema = _schema(path.stem)
    for batch in _csv_batches(path, schema) if path.suffix == ".csv" else pq.ParquetFile(path).iter_batches(READ_ROWS):
        table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        for row in table.cast(pa.schema([SCHEMA.field(name) for name in schema.names])).to_pylist():
            payload = row.pop(Columns.PAYLOAD, None)
            yield row if payload is None else row | msgspec.json.decode(payload)


def _csv_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    types = csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    yield from csv.open_csv(path, csv.ReadOptions(block_size=CSV_BLOCK), convert_options=types)


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Writes tables in the format that the path's suffix names."""
    if path.suffix == ".jsonl":
        with path.open("wb") as stream:
            yield lambda rows: stream.writelines(_json_line(path.stem, row) for row in rows.to_pylist())
        return
    is_csv = path.suffix == ".csv"
    with csv.CSVWriter(path, schema) if is_csv else pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer.write_table


def _json_line(type_name: str, row: dict[str, Any]) -> bytes:
    """An event as the HTTP API names its fields; what a payload holds stands in the line itself."""
    payload = row.pop(Columns.PAYLOAD, None)
    known = {name: value for name, value in row.items() if value is not None}
    event = msgspec.json.decode(payload) if payload else {"type": type_name}
    return msgspec.json.encode({**event, **known}) + b"\n"


def _schema(type_name: str) -> pa.Schema:
    """The columns of the type's file, with times as moments."""
    fields = [SCHEMA.field(name) for name in COLUMNS_OF[type_name]]
    return pa.schema([field.with_type(MOMENT) if field.name in TIMES else field for field in fields])
