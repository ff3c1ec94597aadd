"""The log as files for other tools: Parquet, CSV or JSON lines, a file a type of event, however long the log is.

The columns bear attune's own names and times are moments (ISO 8601 in text), so that `attune import tabular` reads the
interactions back without a map and gives the same rows.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

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
