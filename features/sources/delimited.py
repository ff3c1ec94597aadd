"""Reads delimited text (CSV of any usual form): its encoding, separator, quotes and header.

Text is taken to be UTF-8. Bytes that are not become lone surrogates (PEP 383), so that ``undecoded`` finds the records
that hold them; a file that is plainly of an older encoding is read as Windows-1252. Quoted cells may span lines, and a
broken line costs only itself.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_types import KINDS
from attune.row_rules import Rejection

SEPARATORS = ("::", "\t", ";", "|", ",", " ")
"""Of those that divide the first lines equally well the first wins; blanks only where nothing else divides them."""

SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "space": " "}
ABSENT = {"", "\\N", "NULL", "nan", "NaN", "None"}
"""Cells without a value, as MySQL and Hive, SQL, pandas and Python write it."""

SAMPLE, READ_AHEAD = 20, 100
"""Lines by which the separator is told, and how many are looked at for them."""

USUAL_KINDS = {
    **dict.fromkeys(("pv", "pageview", "page_view", "detail"), "view"),
    **dict.fromkeys(("addtocart", "add_to_cart", "add-to-cart", "basket"), "cart"),
    **dict.fromkeys(("buy", "order", "transaction", "bought"), "purchase"),
    **dict.fromkeys(("fav", "favorite", "collect", "wishlist"), "favourite"),
}
"""Other people's words for kinds, in small letters."""

COMMENTS = "%#"
"""How lines begin that stand above a table and are none of it."""

EXCEL_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)
HEADING = re.compile(r"[^\s,;|]+:\s*")
"""A line with the first cell of those below it, as Netflix wrote its ratings: '1:', then '1488844,3,2005-09-06'."""

BLOCK = 500
"""Records turned into columns at a time."""

LINE_LIMIT = 10_000
"""Characters of an unreadable record that quarantine keeps."""

BAD_LINES = 0.01
"""Up to this share of all lines (or a tenth of those with letters beyond ASCII) bad bytes are damage in UTF-8."""

LIKELY = (
    (
        "event_timestamp",
        re.compile(
            r"[89]\d{8}|1\d{9}(\d{3})?(\.\d+)?"
            r"|\d{4}-\d\d?-\d\d?.*|\d\d?[/.]\d\d?[/.]\d{4}.*|[A-Z][a-z]{2},? .*\d:\d\d.*"
        ),
        0,
    ),
    ("kind", re.compile("|".join((*KINDS, *USUAL_KINDS)), re.IGNORECASE), 0),
    ("rating", re.compile(r"\d(\.\d)?|10"), 2),
    ("user_id", re.compile(r"[^.]+"), 0),
    ("item_id", re.compile(r"[^.]+"), 0),
)
"""What a cell without a name may be: the form, and from which place on."""

WORD = 8
"""From so many characters on, two words of digits and letters are of the same form when they are as long."""

WINDOWS = "read as Windows-1252, since it is not UTF-8; --encoding names another"
_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
_UNDECODED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')

Record = tuple[list[str], str] | Rejection
"""The cells and the record as it stands in the file, or why it has no cells."""


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out; by default that is told from the file.

    ``columns`` ('user_id,item_id,,kind') are the names of a file without a header, empty for columns to leave out. The
    last may be repeated: of 'user_id,item_id*' each further cell makes a row, of 'user_id,value*' each is a column,
    named by its number from 1. ``option`` is how they are named; ``quote`` is ``none`` where quotes are letters like
    others. ``mapped`` are the names that a map expects in the header, ``known`` those that headers usually have
    (``plain_name``): by them a header is told from a row.
    """

    columns: str | None = None
    encoding: str | None = None
    separator: str | None = None
    quote: str | None = None
    mapped: Collection[str] = ()
    known: Collection[str] = ()
    option: str = "--columns user_id,item_id,category,kind,event_timestamp"

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in (self.columns or "").removesuffix("*").split(",")]

    @property
    def is_list(self) -> bool:
        """Whether the lines differ in length, since the last column is repeated."""
        return self.columns is not None and self.columns.endswith("*")

    @property
    def is_wide(self) -> bool:
        """Whether the repeated cells are columns, and not rows."""
        return self.is_list and self.names[-1] == Columns.VALUE


def decode(path: Path, content: bytes, encoding: str | None) -> tuple[str, list[str]]:
    """The whole text, and what is worth saying of its encoding; raises DataContractError for what is no text.

    ``encoding`` is that of text that is not UTF-8 or UTF-16, by default Windows-1252.
    """
    wide = _utf_16(content)
    if wide is None and b"\0" in content[:4096]:
        raise DataContractError(
            f"{path}: binary content; CSV, JSON lines, Parquet or Arrow is expected, plain or as .gz, .bz2, .xz or .zip"
        )
    try:
        if wide is not None:
            return content.decode(wide).removeprefix("\ufeff"), ["read as UTF-16"]
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if wide is not None:
            raise DataContractError(f"{path}: not readable as UTF-16 ({error}); save it as UTF-8") from error
    if encoding is not None:
        try:
            return content.decode(encoding), [f"read as {encoding}"]
        except (UnicodeDecodeError, LookupError) as error:
            raise DataContractError(f"{path}: not readable as {encoding} ({error}); name another encoding") from error
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = text.splitlines()
    bad = sum(map(undecoded, lines))
    beyond = sum(_BEYOND_ASCII.search(line) is not None for line in lines if not line.isascii())
    if bad <= BAD_LINES * len(lines) or bad <= (beyond - bad) / 10:
        return text, []
    # the five bytes that Windows-1252 lacks stay as in Latin-1
    return content.decode("latin-1").translate(_WINDOWS), [WINDOWS]


def _utf_16(content: bytes) -> str | None:
    """The encoding, by its byte order mark or by NUL as every second byte of ASCII."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = content[:256]
    even, odd = start[::2], start[1::2]
    if len(odd) > 1 and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if len(odd) > 1 and not any(even) and all(odd) else None


def undecoded(words: str) -> bool:
    """Whether the text holds bytes that are not UTF-8."""
    return not words.isascii() and _UNDECODED.search(words) is not None


def read(path: Path, text: str, layout: Layout) -> tuple[pd.DataFrame, list[Rejection], list[str]]:
    """The rows as a frame of texts (None where a cell is absent), the records that have none, and remarks.

    Raises DataContractError where no header is found, or a first line that looks like data is not named by a header.
    """
    if layout.quote not in (None, "none", '"'):
        raise DataContractError(f"quote: {layout.quote!r} is unknown; 'none' takes quotes as letters")
    lines, separator, notes = _table_lines(text, layout)
    rest: Iterator[Record] = _split(lines, separator, layout.quote)
    first = next(rest, None)
    if layout.columns is None:
        names = _names(path, first)
        first = next(rest, None)
        _refuse_data(path, names, first, layout)
    else:
        names = _given_names(path, layout, first)
    rest = chain([] if first is None else [first], rest)
    if layout.is_list and not layout.is_wide:
        rest = _repeated(rest, len(names) - 1)
    refuse_doubles(path, [name for name in names if name])
    sound = flaw(text) is None
    columns: list[list[str | None]] = [[] for _ in names]
    rejected: list[Rejection] = []
    while block := list(islice(rest, BLOCK)):
        rows = _whole_rows(block, names, sound, rejected)
        for column, cells in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
            column.extend([None if cell in ABSENT else cell for cell in cells])
    table = {name: column for name, column in zip(names, columns, strict=True) if name}
    return pd.DataFrame(table, dtype=object), rejected, notes


def _table_lines(text: str, layout: Layout) -> tuple[list[str], str, list[str]]:
    """The lines from the header on (or the first row, without one), what separates their cells, and remarks."""
    lines = list(io.StringIO(text, newline=""))  # with their ends: line feed, carriage return, or both
    start = next((place for place, line in enumerate(lines) if line.strip() and line[0] not in COMMENTS), 0)
    told = EXCEL_SEPARATOR.fullmatch(lines[start]) if lines else None
    start += told is not None
    body = [line for line in lines[start:][:READ_AHEAD] if not HEADING.fullmatch(line)]
    named = SEPARATOR_NAMES.get(layout.separator or "", layout.separator)
    separator = named or (told[1] if told else _separator(body, layout.is_list))
    if start and layout.columns is None and lines[start - 1].startswith("#"):
        start -= lines[start - 1].count(separator) == lines[start].count(separator)  # then it is the header
    above, lines = lines[:start], lines[start:]
    notes = [] if separator == "," else [f"columns are separated by {separator!r}"]
    notes += [f"{start:,} lines above the table are left out"] if any(map(str.strip, above)) else []
    if layout.columns is not None and lines and HEADING.fullmatch(lines[0]):
        notes.append(f"lines such as {lines[0].strip()!r} are the first cell of those below them")
        lines = list(_under_headings(lines, separator))
    return lines, separator, notes


def _under_headings(lines: Sequence[str], separator: str) -> Iterator[str]:
    heading = ""
    for line in lines:
        if HEADING.fullmatch(line):
            heading = line.strip()[:-1]
        elif line.strip():
            yield f"{heading}{separator}{line}"


def _repeated(records: Iterator[Record], width: int) -> Iterator[Record]:
    """A record for each cell after the first ``width``."""
    for record in records:
        if isinstance(record, Rejection):
            yield record
        else:
            cells, text = record
            yield from (([*cells[:width], cell], text) for cell in cells[width:] if cell)


def _separator(lines: Sequence[str], is_list: bool) -> str:
    """The separator that divides most of the first lines into as many cells as the first, the more cells the better.

    Where the lines are lists, their lengths differ: then it is the most frequent one.
    """
    sample = list(islice((line for line in lines if line.strip()), SAMPLE))
    if is_list:
        return max(SEPARATORS, key="".join(sample).count)

    def fit(separator: str) -> tuple[float, int]:
        bare = [_QUOTED.sub('""', line) for line in sample]
        counts = [len(line.split()) - 1 if separator == " " else line.count(separator) for line in bare]
        if not sample or not counts[0]:
            return 0.0, 0
        return sum(count == counts[0] for count in counts) / len(counts), counts[0]

    best = max(SEPARATORS[:-1], key=fit)
    blanks = SEPARATORS[-1]
    if fit(best)[1]:
        return best
    return blanks if len(sample) > 1 and fit(blanks)[0] == 1.0 else ","


def _split(lines: Sequence[str], separator: str, quote: str | None) -> Iterator[Record]:
    """The records of a file, blank lines left out.

    Where tabs or several characters separate, quotes are seldom meant: when every line with a quote has as many cells
    as the first without regard to quotes, a cell is quoted only where the quotes enclose the whole of it.
    """
    if quote == "none" or len(separator) > 1:
        return _literal(lines, separator, unquoted=quote is None)
    if quote is None and separator == "\t":
        width = next((line.count(separator) for line in lines if line.strip()), 0)
        if all(line.count(separator) == width for line in lines if '"' in line):
            return _literal(lines, separator, unquoted=True)
    return records(lines, separator)


def _literal(lines: Sequence[str], separator: str, unquoted: bool) -> Iterator[Record]:
    for line in lines:
        if line.strip(" \r\n"):
            cells = [cell.strip(" ") for cell in line.rstrip("\r\n").split(separator)]
            if unquoted and '"' in line:
                cells = [
                    cell[1:-1].replace('""', '"') if len(cell) > 1 and _QUOTED.fullmatch(cell) else cell
                    for cell in cells
                ]
            yield cells, line


def records(lines: Sequence[str], separator: str) -> Iterator[Record]:
    """Record by record, blank lines left out.

    Where a record breaks the rules of quoting, reading goes on at the next line: an open quote does not
    swallow what follows it.
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
            yield _misquoted(lines[place], separator, error)
            place += 1


def _misquoted(line: str, separator: str, error: csv.Error) -> Record:
    """A line that the strict rules refuse; text after a closed quote is taken as part of the cell."""
    if '\\"' in line:
        try:
            reader = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True, escapechar="\\")
            return next(reader), line
        except csv.Error:
            pass
    if line.count('"') % 2:
        return unreadable(line, "row: a quote is opened and never closed; if quotes are letters here: --quote none")
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True)), line
    except csv.Error:
        return unreadable(line, f"row: {error}")


def unreadable(record: str, reason: str, rule: str | None = None) -> Rejection:
    """The record as quarantine keeps it, with bytes that are not UTF-8 as escapes."""
    line = record[:LINE_LIMIT].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Rejection(0, {"line": line.rstrip("\r\n")}, None, reason, rule or reason)


def flaw(record: str) -> str | None:
    """What makes a record's text unfit, whatever its cells are; None when nothing does."""
    if "\0" in record:
        return "row: it holds a NUL character"
    if undecoded(record):
        return "row: it holds bytes that are not UTF-8; save the file as UTF-8"
    return None


def _whole_rows(block: list[Record], names: list[str], sound: bool, rejected: list[Rejection]) -> list[list[str]]:
    """The rows that have a cell for each name; empty cells at the end may be too many. Others go to ``rejected``."""
    rows = []
    for record in block:
        if isinstance(record, Rejection):
            rejected.append(record)
            continue
        cells, text = record
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        reason = None if sound else flaw(text)
        if reason is not None:
            rejected.append(unreadable(text, reason))
        elif cells == names:
            rejected.append(unreadable(text, "row: the header again"))
        elif len(cells) != len(names):
            reason = f"row: {len(cells)} cells where the header names {len(names)} columns"
            rejected.append(unreadable(text, reason, "row: ragged"))
        else:
            rows.append(cells)
    return rows


def _names(path: Path, header: Record | None) -> list[str]:
    """The columns' names, '' for those without; those at the end are left out."""
    reason = header.reason if isinstance(header, Rejection) else flaw(header[1]) if header else None
    if reason is not None:
        raise DataContractError(f"{path}: the header line cannot be read ({reason.removeprefix('row: ')})")
    names = [name.strip().lstrip("#").strip() for name in header[0]] if isinstance(header, tuple) else []
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataContractError(f"{path}: no header line found; the first line must name the columns")
    return names


def _given_names(path: Path, layout: Layout, first: Record | None) -> list[str]:
    """The names that the layout gives, of which the first line must not have more or fewer cells, or names."""
    names = layout.names
    if not isinstance(first, tuple):
        return names
    cells, line = first
    if layout.is_wide:
        names = [*names[:-1], *map(str, range(1, len(cells) - len(names) + 2))]
    if (layout.is_wide or not layout.is_list) and (len(cells) < len(names) or any(cells[len(names) :])):
        surplus = "," * (len(cells) - len(names))
        raise DataContractError(
            f"{path}: the first line has {len(cells)} cells, {layout.option.split()[0]} names {len(names)}: "
            f"{line.strip()!r}" + (f"; without the rest: {layout.columns}{surplus}" if surplus else "")
        )
    if all(plain_name(cell) in layout.known for cell in cells if cell):
        raise DataContractError(
            f"{path}: its first line names the columns ({line.strip()}); leave --columns out, and use --map"
        )
    return names


def _refuse_data(path: Path, names: list[str], second: Record | None, layout: Layout) -> None:
    """Raise DataContractError where the first line looks like the second, and not like names."""
    numbered = [name for name in names if name]
    if not isinstance(second, tuple) or numbered == [str(number) for number in range(len(numbered))]:
        return  # pandas numbers columns that have no names
    alike = {name for name, cell in zip(names, second[0], strict=False) if _same_form(name, cell.strip())}
    mapped = set(layout.mapped) & set(names)
    named = not mapped & alike if mapped else any(plain_name(name) in layout.known for name in names)
    if alike and not named:
        option, more = layout.option, ""
        if option == Layout.option and (likely := _likely_columns(second[0])):
            option, more = f"--columns {likely}", " (or item_id first, where the first ids are the items')"
        raise DataContractError(
            f"{path}: the first line looks like data, not like names ({', '.join(names[:8])}); "
            f"name its columns in their order: {option}, say{more}"
        )


def _likely_columns(cells: Sequence[str]) -> str | None:
    """Names for the cells of a line: its time, kind or rating, and the first two others as ids; None without these."""
    names = [""] * len(cells)
    for name, form, first in LIKELY:
        place = next((n for n in range(first, len(cells)) if not names[n] and form.fullmatch(cells[n].strip())), None)
        if place is not None and not (name == "rating" and "kind" in names):
            names[place] = name
    return ",".join(names) if "item_id" in names else None


def plain_name(name: str) -> str:
    """A column's name in small letters and digits alone, so that userId, User_ID and user-id are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def _same_form(cell: str, below: str) -> bool:
    """Whether two cells with digits are the same but for these: numbers, times, ids of the same making."""
    if not _DIGITS.search(cell) or not below:
        return False
    if _DIGITS.sub("0", cell) == _DIGITS.sub("0", below) or (_NUMBER.fullmatch(cell) and _NUMBER.fullmatch(below)):
        return True
    digits_below = _DIGITS.search(below) is not None
    return len(cell) == len(below) >= WORD and cell.replace("-", "").isalnum() and digits_below


def refuse_doubles(path: Path, names: list[str]) -> None:
    """Raise DataContractError for a column name that stands there twice."""
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise DataContractError(f"{path}: a column name stands twice in the header: {', '.join(double)}")
