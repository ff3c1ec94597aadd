"""Reads one table out of a file: CSV (plain or gzipped, any usual separator) or Parquet."""

import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attune.errors import DataContractError
from features.sources.frames import Unreadable

SEPARATORS = ",;\t|"
PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"
LINE_LIMIT = 10_000
"""Characters of an unreadable line that quarantine keeps."""


def read_table(path: Path) -> tuple[pd.DataFrame, list[Unreadable]]:
    """The file's rows as a frame, and the lines that could not be split into its columns.

    CSV cells stay text ('007' is not 7; only an empty cell is absent). Raises DataContractError when the file
    is missing, empty, or holds no table.
    """
    if not path.is_file():
        raise DataContractError(f"{path}: no such file; check the path")
    with path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise DataContractError(f"{path}: the file is empty; a table with a header line is expected")
    table, unreadable = (_parquet(path), []) if start == PARQUET_MAGIC else _csv(path, start[:2] == GZIP_MAGIC)
    if not len(table) and not unreadable:
        raise DataContractError(f"{path}: the table has no rows")
    table.columns = [str(name) for name in table.columns]
    return table, unreadable


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pq.read_table(path).to_pandas(integer_object_nulls=True, date_as_object=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise DataContractError(f"{path}: not a readable Parquet file ({error})") from error


def _csv(path: Path, gzipped: bool) -> tuple[pd.DataFrame, list[Unreadable]]:
    text = _text(path, gzipped)
    header = next(_lines(text), "")
    separator = max(SEPARATORS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    if not any(names):
        raise DataContractError(f"{path}: no header line found; the first line must name the columns")
    if len(set(names)) != len(names):
        raise DataContractError(f"{path}: a column name stands twice in the header: {', '.join(names)}")
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = _fast(text, separator)
    except (ValueError, pd.errors.ParserWarning):
        return _line_by_line(text, separator, names)
    table.columns = names
    return table, []


def _fast(text: str, separator: str) -> pd.DataFrame:
    """Raises (ParserError, a ValueError, or ParserWarning) when a line has more cells than the header."""
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        index_col=False,
        skipinitialspace=True,
    )


def _text(path: Path, gzipped: bool) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if gzipped else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataContractError(f"{path}: not a readable gzip file ({error})") from error
    if b"\0" in content[:4096]:
        raise DataContractError(f"{path}: binary content; a CSV, CSV.gz or Parquet file is expected")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _line_by_line(text: str, separator: str, names: list[str]) -> tuple[pd.DataFrame, list[Unreadable]]:
    """The slow way for a file with broken lines: what has the header's number of cells is kept, the rest named."""
    rows: list[list[str | None]] = []
    unreadable: list[Unreadable] = []
    for line in islice(_lines(text), 1, None):
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except csv.Error as error:
            unreadable.append(Unreadable(line[:LINE_LIMIT], f"row: {error}"))
            continue
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) > len(names):
            told = f"row: {len(cells)} cells where the header names {len(names)} columns"
            unreadable.append(Unreadable(line[:LINE_LIMIT], told))
        else:
            rows.append([cell or None for cell in cells] + [None] * (len(names) - len(cells)))
    return pd.DataFrame(rows, columns=names, dtype=object), unreadable


def _lines(text: str) -> Iterator[str]:
    """The lines with something on them (cut at line feeds alone, as the CSV reader cuts them)."""
    return (line.rstrip("\r") for line in text.split("\n") if line.strip())
