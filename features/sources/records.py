"""The records of a CSV text: quoted cells may span lines, and a line that is broken costs itself alone."""

import csv
import io
from collections.abc import Iterator, Sequence

from features.sources.frames import Unreadable
from features.sources.texts import shown, undecoded

LINE_LIMIT = 10_000
"""Characters of an unreadable record that quarantine keeps."""

OPEN_QUOTE = "row: a quote is opened and never closed"


def split_lines(text: str) -> list[str]:
    """The lines with their ends: line feed, carriage return, or both."""
    return list(io.StringIO(text, newline=""))


def records(lines: Sequence[str], separator: str) -> Iterator[tuple[list[str], str] | Unreadable]:
    """Record by record (the cells, the record as it stands in the file), blank lines left out.

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
            yield from _misquoted(lines[place], separator, error)
            place += 1


def _misquoted(line: str, separator: str, error: csv.Error) -> Iterator[tuple[list[str], str] | Unreadable]:
    """A line that the strict rules refuse; text after a closed quote is taken as part of the cell."""
    if line.count('"') % 2:
        yield unreadable(line, OPEN_QUOTE)
        return
    try:
        yield next(csv.reader([line], delimiter=separator, skipinitialspace=True)), line
    except csv.Error:
        yield unreadable(line, f"row: {error}")


def unreadable(record: str, reason: str, rule: str | None = None) -> Unreadable:
    """The record as quarantine keeps it."""
    return Unreadable(shown(record[:LINE_LIMIT]).rstrip("\r\n"), reason, rule or reason)


def flaw(record: str) -> str | None:
    """What makes a record's text unfit, whatever its cells are; None when nothing does."""
    if "\0" in record:
        return "row: it holds a NUL character"
    if undecoded(record):
        return "row: it holds bytes that are not UTF-8; save the file as UTF-8"
    return None
