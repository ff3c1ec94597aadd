"""Reads tables out of files: CSV of any usual form, JSON lines, Parquet or Arrow, plain or compressed, one or many."""

import ast
import bz2
import fnmatch
import glob
import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from attune.errors import DataContractError
from attune.row_rules import ATTRIBUTES_LIMIT, Rejection
from features.sources import delimited
from features.sources.delimited import Layout, refuse_doubles, unreadable
from features.sources.frames import ids

UNPACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
}
"""How a compressed file is known by its first bytes."""

ZIP, PARQUET, ARROW, FEATHER_1, EXCEL = b"PK\x03\x04", b"PAR1", b"ARROW1", b"FEA1", "xl/workbook.xml"
ENDINGS = (
    *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".feather", ".arrow", ".dat", ".data"),
    *(".gz", ".bz2", ".xz", ".zip"),
)
"""How tables are called: where a folder has some, its other files are passed over."""

MEMBER = "::"
"""Between the path of a zip archive and the name, or pattern, of tables in it."""

UNNAMED_INDEX = r"__index_level_\d+__"
ARRAY = "["
IN_MEMORY = Path("the frame")
"""What messages call a table that lies in no file."""

Paths: TypeAlias = Path | str | Sequence[Path | str] | pd.DataFrame
"""A table: in files, or in memory."""


@dataclass
class Table:
    """Rows of one or several files.

    ``rejected`` are the records that could not be split into the columns; ``typed`` says that the format knows numbers
    from text (CSV does not: its cells are text or None). ``notes`` say how the files were understood.
    """

    frame: pd.DataFrame
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    typed: bool = True

    def ids(self, name: str) -> pd.Series:
        """A column as ids."""
        return ids(self.frame[name])


def read_tables(paths: Paths, layout: Layout = Layout(), explode: str | None = None) -> Table:  # noqa: B008 (it is frozen)
    """All rows of a file, or of several with the same columns: a folder, a glob, a list, in the order of their names;
    or those of a frame.

    ``ARCHIVE.zip::NAME`` is a table in an archive, NAME may be a pattern.
    A column without a name is left out (an index written by pandas, a separator at the end of each line); a named
    index of a Parquet file is a column. Mappings within a cell become columns: ``{"size": {"cm": 3}}`` is ``size.cm``.
    ``explode`` is a column of lists (or of text that blanks or ``,;|`` divide), of which each part makes a row; of
    mappings ``items.item_id`` is called ``item_id`` then, where no other column is.
    Of several files, those without rows count for nothing, and folders such as ``day=1`` are a column.
    Raises DataContractError when a file is missing, empty, or holds no table, or when the columns differ.
    """
    if isinstance(paths, pd.DataFrame):
        if not len(paths):
            raise DataContractError("the frame has no rows")
        frame = _with_plain_names(IN_MEMORY, paths)
        return Table(_flat(frame) if explode is None else _exploded(IN_MEMORY, frame, explode))
    files, passed_over = _files(paths)
    if len(files) > 1:
        files = [path for path in files if _inside(path)[0].stat().st_size] or files
    tables = [_read(path, layout, explode) for path in files]
    if not any(len(table.frame) or table.rejected for table in tables):
        raise DataContractError(f"{files[0]}: the table has no rows")
    first = tables[0]
    for path, table in zip(files, tables, strict=True):
        if differing := set(first.frame.columns) ^ set(table.frame.columns):
            names = ", ".join(sorted(map(str, differing)))
            raise DataContractError(f"{path}: its columns are not those of {files[0]} ({names}); import it on its own")
    first.notes += [f"passed over, as no tables by their names: {', '.join(passed_over)}"] if passed_over else []
    if len(tables) == 1:
        return first
    frame = pd.concat([table.frame.astype(object) for table in tables], ignore_index=True)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    rejected = [row for table in tables for row in table.rejected]
    return Table(frame, rejected, [f"{len(files):,} files", *notes], all(table.typed for table in tables))


def _files(paths: Paths) -> tuple[list[Path], list[str]]:
    """What the paths name: files, folders (the visible tables in them) and globs, sorted by name; what is left out."""
    files: list[Path] = []
    passed_over: list[str] = []
    for path in [paths] if isinstance(paths, Path | str) else paths:
        path = Path(path)
        if path.is_dir():
            below = (file for file in sorted(path.rglob("*")) if file.is_file())
            named = [file for file in below if not file.relative_to(path).as_posix().startswith((".", "_"))]
        else:
            outer, member = _inside(path)
            matches = [outer] if outer.exists() else map(Path, sorted(glob.glob(str(outer), recursive=True)))
            named = [file for file in matches if file.is_file()]
            if member:
                named = [Path(f"{file}{MEMBER}{name}") for file in named for name in _members(file, member)]
        if path.is_dir() and (tables := [file for file in named if file.suffix.lower() in ENDINGS]):
            passed_over += [file.name for file in named if file not in tables]
            named = tables
        if not named:
            raise DataContractError(f"{path}: no such file; check the path")
        files += named
    return files, passed_over


def _inside(path: Path) -> tuple[Path, str]:
    """The file that a path names, and what it names inside of it."""
    file, _, member = ("" if path.exists() else str(path)).partition(MEMBER)
    return Path(file or path), member


def _members(file: Path, pattern: str) -> list[str]:
    """The files in a zip archive whose names fit the pattern; raises DataContractError where there are none."""
    names = _names(file, file.read_bytes())
    if not (fitting := fnmatch.filter(names, pattern)):
        raise DataContractError(f"{file}: it holds no {pattern}; there are {', '.join(names[:10])}")
    return fitting


def _read(path: Path, layout: Layout, explode: str | None) -> Table:
    try:
        content = _inside(path)[0].read_bytes()
    except OSError as error:
        raise DataContractError(f"{path}: cannot be read ({error}); check its permissions") from error
    if not content:
        raise DataContractError(f"{path}: the file is empty; a table with a header line is expected")
    table = _decoded(path, content, layout)
    if not table.typed:
        table.frame = table.frame.apply(_unwritten)
    table.frame = _flat(table.frame) if explode is None else _exploded(path, table.frame, explode)
    folders = dict(part.split("=", 1) for part in path.parent.parts if "=" in part)
    table.frame = table.frame.assign(**{name: value for name, value in folders.items() if name not in table.frame})
    return table


def _decoded(path: Path, content: bytes, layout: Layout) -> Table:
    for start, unpack in UNPACKED.items():
        if content.startswith(start):
            try:
                return _decoded(path, unpack(content), layout)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                name = unpack.__module__
                raise DataContractError(f"{path}: not a readable {name.lstrip('_')} file ({error})") from error
    if content.startswith(ZIP):
        return _decoded(path, _unzipped(path, content), layout)
    if content.startswith((PARQUET, ARROW, FEATHER_1)):
        _refuse_columns(path, layout)
        return Table(_arrow(path, content))
    text, notes = delimited.decode(path, content, layout.encoding)
    if text.lstrip().startswith((ARRAY, "{")):
        _refuse_columns(path, layout)
        table = _json(path, text)
    else:
        frame, rejected, more = delimited.read(path, text, layout)
        table = Table(frame, rejected, more, typed=False)
    table.notes[:0] = notes
    return table


def _refuse_columns(path: Path, layout: Layout) -> None:
    if layout.columns:
        raise DataContractError(f"{path}: its columns have names already, so --columns names none; use --map")


def _unzipped(path: Path, content: bytes) -> bytes:
    """The file in a zip archive that the path names, or the only one."""
    names, member = _names(path, content), _inside(path)[1]
    if not member and len(names) != 1:
        inside = ", ".join(names[:5])
        raise DataContractError(
            f"{path}: {len(names)} files in one archive ({inside}); name one, or several alike by a pattern: "
            f"{path.name}{MEMBER}{next(iter(names), 'NAME')}"
        )
    with _refusing_broken_archives(path), zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(member or names[0])


def _names(path: Path, content: bytes) -> list[str]:
    """The files in a zip archive, sorted; raises DataContractError for an Excel workbook, which is one, too."""
    with _refusing_broken_archives(path), zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name)
    if EXCEL in names:
        raise DataContractError(f"{path}: an Excel workbook; save its sheet as CSV (UTF-8)")
    return names


@contextmanager
def _refusing_broken_archives(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, OSError) as error:
        raise DataContractError(f"{path}: not a readable zip file ({error})") from error


def _arrow(path: Path, content: bytes) -> pd.DataFrame:
    is_parquet = content.startswith(PARQUET)
    try:
        source = pa.BufferReader(content)
        read = pq.read_table(source) if is_parquet else pyarrow.feather.read_table(source)
        table = read.to_pandas(integer_object_nulls=True, date_as_object=True, maps_as_pydicts="lossy")
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, NotImplementedError) as error:
        name = "Parquet" if is_parquet else "Arrow"
        raise DataContractError(f"{path}: not a readable {name} file ({error})") from error
    return _with_plain_names(path, table)


def _with_plain_names(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts as column names, its named indices among the columns; columns without a name are left out.

    ``path`` is what messages call it. Raises DataContractError where two columns bear one name.
    """
    named = {str(name): table.index.get_level_values(place) for place, name in enumerate(table.index.names) if name}
    refuse_doubles(path, [*named, *map(str, table.columns)])
    table = table.set_axis(table.columns.map(str), axis="columns")
    indexed = pd.DataFrame({name: level.to_series().reset_index(drop=True) for name, level in named.items()})
    kept = table.columns[(table.columns.str.strip() != "") & ~table.columns.str.fullmatch(UNNAMED_INDEX)]
    return pd.concat([indexed, table[kept].reset_index(drop=True)], axis="columns")


def _json(path: Path, text: str) -> Table:
    """One JSON object a line (or one array of them), or a Python mapping a line, as ``print`` writes it."""
    rows: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    try:
        if text.lstrip().startswith(ARRAY):
            rows = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise DataContractError(f"{path}: not readable as a JSON array of objects ({error})") from error
    for line in text.split("\n") if not rows else ():
        try:
            rows.append(decode(line))
        except (msgspec.MsgspecError, UnicodeEncodeError):
            try:
                rows.append(_mapping(line))
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                if line.strip():
                    rejected.append(unreadable(line, "row: the line is no JSON object"))
    if not rows:
        raise DataContractError(f"{path}: it begins as JSON does, but no line is a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    return Table(pd.DataFrame(columns, dtype=object), rejected, ["read as JSON lines"])


def _mapping(line: str) -> dict[str, Any]:
    """A line that strict JSON refuses: with NaN, or a Python mapping. Raises ValueError or SyntaxError for others."""
    row = _literal(line)
    if not isinstance(row, dict) or delimited.flaw(line):
        raise ValueError
    return {str(name): value for name, value in row.items()}


def _unwritten(column: pd.Series) -> pd.Series:
    """Lists and mappings where every cell of a column writes one, as JSON or as Python does."""
    first = column.first_valid_index()
    if first is None or not column[first].lstrip().startswith(("[", "{")):
        return column
    try:
        return column.map(_literal, na_action="ignore")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return column


def _literal(text: str) -> Any:
    """The list or mapping that a cell writes; raises ValueError or SyntaxError where it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        value = ast.literal_eval(text.strip())
    if not isinstance(value, list | dict):
        raise ValueError
    return value


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Mappings within cells as columns ``name.key``, those within lists as columns of lists."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        nested = _nested(column) if pd.api.types.infer_dtype(column) == "mixed" else {}
        columns |= nested or {name: column}
    return pd.DataFrame(columns, index=frame.index) if list(columns) != list(frame.columns) else frame


def _exploded(path: Path, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row for each part of the lists in a column; rows with an empty list, or none, are left out."""
    if name not in frame:
        raise DataContractError(f"explode: {path} has no column {name!r} of lists; there are {', '.join(frame)}")
    parts = [re.split(r"[\s,;|]+", cell.strip(" ,;|")) if isinstance(cell, str) else cell for cell in frame[name]]
    rows = frame.assign(**{name: pd.Series(parts, frame.index, dtype=object)}).explode(name)
    flat = _flat(rows[rows[name].notna()].reset_index(drop=True))
    inner = {column: column.removeprefix(f"{name}.") for column in flat.columns if column.startswith(f"{name}.")}
    return flat.rename(columns={column: bare for column, bare in inner.items() if bare not in flat})


def _nested(column: pd.Series) -> dict[str, pd.Series]:
    cells = [cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in column]
    present = [cell for cell in cells if isinstance(cell, dict | list) or not pd.isna(cell)]
    parts = [part for cell in present for part in (cell if isinstance(cell, list) else [cell])]
    if not parts or not all(isinstance(part, dict) for part in parts):
        return {}
    flat: dict[str, pd.Series] = {}
    keys = dict.fromkeys(key for part in parts for key in part)
    for key in keys if len(keys) <= ATTRIBUTES_LIMIT else ():
        inner = [_inner(cell, key) for cell in cells]
        part = pd.Series(inner, index=column.index, dtype=object, name=f"{column.name}.{key}")
        flat |= _nested(part) or {str(part.name): part}
    return flat


def _inner(cell: Any, key: str) -> Any:
    if isinstance(cell, list):
        return [part.get(key) for part in cell if isinstance(part, dict)]
    return cell.get(key) if isinstance(cell, dict) else None
