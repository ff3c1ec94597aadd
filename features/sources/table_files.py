"""Reads one table out of a file: CSV (plain or gzipped, any usual separator) or Parquet.

CSV is taken to be UTF-8. Bytes that are not become lone surrogates (PEP 383), so that ``undecoded`` finds the records
that hold them; a file that is plainly of an older encoding is read as Windows-1252. Quoted cells may span lines, and a
broken line costs only itself.
"""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attune.errors import DataContractError
from features.sources.frames import Unreadable

SEPARATORS = ",;\t|"
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
BLOCK = 500
"""Records turned into columns at a time."""

LINE_LIMIT = 10_000
"""Characters of an unreadable record that quarantine keeps."""

BAD_LINES = 0.01
"""Up to this share of all lines (or a tenth of those with letters beyond ASCII) bad bytes are damage in UTF-8."""

_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
_UNDECODED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")


def read_text(path: Path, gzipped: bool) -> str:
    """The whole text; raises DataContractError for what cannot be unpacked or is no text (NUL near the start)."""
    try:
        content = gzip.decompress(path.read_bytes()) if gzipped else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataContractError(f"{path}: not a readable {'gzip ' if gzipped else ''}file ({error})") from error
    if b"\0" in content[:4096]:
        raise DataContractError(
            f"{path}: binary content; a CSV, CSV.gz or Parquet file is expected (save text of 16 bits as UTF-8)"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "surrogateescape")
    lines = text.splitlines()
    bad = sum(map(undecoded, lines))
    beyond = sum(_BEYOND_ASCII.search(line) is not None for line in lines if not line.isascii())
    if bad <= BAD_LINES * len(lines) or bad <= (beyond - bad) / 10:
        return text
    return content.decode("latin-1").translate(_WINDOWS)  # the five bytes that Windows-1252 lacks stay as in Latin-1


def undecoded(words: str) -> bool:
    """Whether the text holds bytes that are not UTF-8."""
    return not words.isascii() and _UNDECODED.search(words) is not None


def records(lines: Sequence[str], separator: str) -> Iterator[tuple[list[str], str] | Unreadable]:
    """Record by record (the cells, the record as it stands in the file), blank lines left out.

    Where a record breaks the rules of quoting, reading goes on at the next line, which an open quote cannot swallow.
    """
    place = 0
    while place < len(lines):
        rest, first = map(lines.__getitem__, range(place, len(lines))), place
        reader = csv.reader(rest, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                start, place = place, first + reader.line_num
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield cells, lines[start] if place - start == 1 else "".join(lines[start:place])
        except csv.Error as error:
            line = lines[place]
            place += 1
            if line.count('"') % 2:
                yield unreadable(line, "row: a quote is opened and never closed")
                continue
            try:  # text after a closed quote is taken as part of the cell
                yield next(csv.reader([line], delimiter=separator, skipinitialspace=True)), line
            except csv.Error:
                yield unreadable(line, f"row: {error}")


def unreadable(record: str, reason: str, rule: str | None = None) -> Unreadable:
    """The record as quarantine keeps it, with bytes that are not UTF-8 as escapes."""
    line = record[:LINE_LIMIT].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Unreadable(line.rstrip("\r\n"), reason, rule or reason)


def flaw(record: str) -> str | None:
    """What makes a record's text unfit, whatever its cells are; None when nothing does."""
    if "\0" in record:
        return "row: it holds a NUL character"
    if undecoded(record):
        return "row: it holds bytes that are not UTF-8; save the file as UTF-8"
    return None


def read_table(path: Path) -> tuple[pd.DataFrame, list[Unreadable]]:
    """The file's rows as a frame, and the records that could not be split into its columns.

    CSV cells stay text ('007' is not 7; only an empty cell is absent). A column without a name is left out (an index
    written by pandas, a separator at the end of each line); a named index of a Parquet file is a column.
    Raises DataContractError when the file is missing, empty, or holds no table.
    """
    if not path.is_file():
        raise DataContractError(f"{path}: no such file; check the path")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise DataContractError(f"{path}: cannot be read ({error}); check its permissions") from error
    if not start:
        raise DataContractError(f"{path}: the file is empty; a table with a header line is expected")
    table, broken = (_parquet(path), []) if start == PARQUET_MAGIC else _csv(path, start[:2] == GZIP_MAGIC)
    if not len(table) and not broken:
        raise DataContractError(f"{path}: the table has no rows")
    return table, broken


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
    lines = list(io.StringIO(text, newline=""))  # with their ends: line feed, carriage return, or both
    header = next((line for line in lines if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)
    rest = records(lines, separator)
    first = next(rest, None)
    reason = first.reason if isinstance(first, Unreadable) else flaw(first[1]) if first else None
    if reason is not None:
        raise DataContractError(f"{path}: the header line cannot be read ({reason.removeprefix('row: ')})")
    names = [name.strip() for name in first[0]] if isinstance(first, tuple) else []
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataContractError(f"{path}: no header line found; the first line must name the columns")
    _refuse_doubles(path, [name for name in names if name])
    sound = flaw(text) is None
    columns: list[list[str | None]] = [[] for _ in names]
    broken: list[Unreadable] = []
    while block := list(islice(rest, BLOCK)):
        rows = _whole_rows(block, names, sound, broken)
        for column, cells in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
            column.extend([cell or None for cell in cells])
    named = {name: column for name, column in zip(names, columns, strict=True) if name}
    return pd.DataFrame(named, dtype=object), broken


def _whole_rows(
    block: list[tuple[list[str], str] | Unreadable], names: list[str], sound: bool, broken: list[Unreadable]
) -> list[list[str]]:
    """The rows that have a cell for each name; empty cells at the end may be too many. The others go to ``broken``."""
    rows = []
    for record in block:
        if isinstance(record, Unreadable):
            broken.append(record)
            continue
        cells, text = record
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if not sound and (reason := flaw(text)) is not None:
            broken.append(unreadable(text, reason))
        elif len(cells) != len(names):
            reason = f"row: {len(cells)} cells where the header names {len(names)} columns"
            broken.append(unreadable(text, reason, "row: ragged"))
        else:
            rows.append(cells)
    return rows


def _refuse_doubles(path: Path, names: list[str]) -> None:
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise DataContractError(f"{path}: a column name stands twice in the header: {', '.join(double)}")
