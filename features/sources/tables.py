"""Reads one table out of a file: CSV (plain or gzipped, any usual separator) or Parquet."""

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attune.errors import DataContractError
from features.sources.frames import Unreadable
from features.sources.records import flaw, records, split_lines, unreadable
from features.sources.texts import read_text

SEPARATORS = ",;\t|"
PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"
BLOCK = 500
"""Records turned into columns at a time."""

UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_table(path: Path) -> tuple[pd.DataFrame, list[Unreadable]]:
    """The file's rows as a frame, and the records that could not be split into its columns.

    CSV cells stay text ('007' is not 7; only an empty cell is absent). A column without a name is left out (an index
    written by pandas, a separator at the end of each line); a named index of a Parquet file is a column.
    Raises DataContractError when the file is missing, empty, or holds no table.
    """
    start = _start(path)
    if not start:
        raise DataContractError(f"{path}: the file is empty; a table with a header line is expected")
    table, broken = (_parquet(path), []) if start == PARQUET_MAGIC else _csv(path, start[:2] == GZIP_MAGIC)
    if not len(table) and not broken:
        raise DataContractError(f"{path}: the table has no rows")
    return table, broken


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise DataContractError(f"{path}: no such file; check the path")
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise DataContractError(f"{path}: cannot be read ({error}); check its permissions") from error


def _parquet(path: Path) -> pd.DataFrame:
    try:
        table = pq.read_table(path).to_pandas(integer_object_nulls=True, date_as_object=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, NotImplementedError) as error:
        raise DataContractError(f"{path}: not a readable Parquet file ({error})") from error
    named = {str(name): table.index.get_level_values(place) for place, name in enumerate(table.index.names) if name}
    _refuse_doubles(path, [*named, *map(str, table.columns)])
    table.columns = [str(name) for name in table.columns]
    indexed = pd.DataFrame({name: level.to_series().reset_index(drop=True) for name, level in named.items()})
    kept = [name for name in table.columns if name.strip() and not UNNAMED_INDEX.fullmatch(name)]
    return pd.concat([indexed, table[kept].reset_index(drop=True)], axis="columns")


def _csv(path: Path, gzipped: bool) -> tuple[pd.DataFrame, list[Unreadable]]:
    text = read_text(path, gzipped)
    lines = split_lines(text)
    header = next((line for line in lines if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)
    found = records(lines, separator)
    names = _names(path, next(found, None))
    sound = flaw(text) is None
    columns: list[list[str | None]] = [[] for _ in names]
    broken: list[Unreadable] = []
    while block := list(islice(found, BLOCK)):
        rows = _whole_rows(block, names, sound, broken)
        for column, cells in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
            column.extend([cell or None for cell in cells])
    named = {name: column for name, column in zip(names, columns, strict=True) if name}
    return pd.DataFrame(named, dtype=object), broken


def _whole_rows(
    block: list[tuple[list[str], str] | Unreadable], names: list[str], sound: bool, broken: list[Unreadable]
) -> list[list[str]]:
    """The rows that have a cell for each name; the others go to ``broken``. ``sound``: no text needs a look."""
    rows = []
    for record in block:
        if isinstance(record, Unreadable):
            broken.append(record)
            continue
        cells, told = _fitted(record[0], names), record[1]
        reason = None if sound else flaw(told)
        if cells is None or reason is not None:
            broken.append(unreadable(told, reason or _ragged(len(record[0]), names), reason or "row: ragged"))
        else:
            rows.append(cells)
    return rows


def _names(path: Path, header: tuple[list[str], str] | Unreadable | None) -> list[str]:
    """The columns' names, '' for those without; those at the end are left out."""
    reason = header.reason if isinstance(header, Unreadable) else flaw(header[1]) if header else None
    if reason is not None:
        raise DataContractError(f"{path}: the header line cannot be read ({reason.removeprefix('row: ')})")
    names = [name.strip() for name in header[0]] if isinstance(header, tuple) else []
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataContractError(f"{path}: no header line found; the first line must name the columns")
    _refuse_doubles(path, [name for name in names if name])
    return names


def _refuse_doubles(path: Path, names: list[str]) -> None:
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise DataContractError(f"{path}: a column name stands twice in the header: {', '.join(double)}")


def _fitted(cells: list[str], names: list[str]) -> list[str] | None:
    """The cells of the named columns, or None when there are too few or too many; empty ones at the end may go."""
    if len(cells) == len(names):
        return cells
    while len(cells) > len(names) and not cells[-1]:
        cells.pop()
    return cells if len(cells) == len(names) else None


def _ragged(count: int, names: list[str]) -> str:
    return f"row: {count} cells where the header names {len(names)} columns"
