"""Outside rows into the event log, exactly once: every row is accepted, a repeat, or quarantined with its reason."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pandas as pd

from attune.clock import Clock
from attune.columns import Columns
from attune.door import Rejected, admit_all
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import AnyEvent
from features.sources.frames import INTERACTION_COLUMNS, SourceFrames, Unreadable

CHUNK = 5_000
FIRST_MOMENT = 0
"""The time of imported item and user rows: it must not change from import to import, or nothing would repeat."""

_CONTENT = msgspec.json.Encoder(order="deterministic")


@dataclass
class Tally:
    """What became of some rows; ``rows_in`` is always ``accepted + repeated + quarantined``.

    ``reasons`` counts the quarantined rows by the field at fault and the start of the reason.
    """

    rows_in: int = 0
    accepted: int = 0
    repeated: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class ImportReport(Tally):
    """The tally of the interactions, and beside it those of the item and the user rows."""

    items: Tally = field(default_factory=Tally)
    users: Tally = field(default_factory=Tally)


def in_order(frames: SourceFrames) -> pd.DataFrame:
    """All interactions sorted by (event_timestamp, original order), each with its ``event_id``; index 0..n-1.

    A row's id hashes its content and its number among equal rows of the whole source, so a slice of this frame
    holds the ids that a whole import would give. Rows whose time is not understood stand last.
    """
    frame = frames.interactions.reset_index(drop=True)
    moments = pd.to_numeric(frame[Columns.EVENT_TIMESTAMP], errors="coerce")
    frame = frame.iloc[moments.argsort(kind="stable").to_numpy()] if moments.notna().all() else _sorted(frame, moments)
    contents = ["\x1f".join(map(repr, row)) for row in zip(*(frame[name] for name in INTERACTION_COLUMNS), strict=True)]
    return frame.reset_index(drop=True).assign(**{Columns.EVENT_ID: _numbered_ids("interaction", contents)})


def _sorted(frame: pd.DataFrame, moments: pd.Series) -> pd.DataFrame:
    return frame.loc[moments.sort_values(kind="stable", na_position="last").index]


def _numbered_ids(type_name: str, contents: Sequence[str]) -> list[str]:
    column = pd.Series(contents, dtype=object)
    numbers = column.groupby(column, sort=False).cumcount()
    return [
        hashlib.blake2b(f"{type_name}\x1f{content}\x1f{number}".encode(), digest_size=16).hexdigest()
        for content, number in zip(contents, numbers, strict=True)
    ]


def import_source(
    log: EventLog, frames: SourceFrames, clock: Clock, source: str, upto: int | None = None, after: int | None = None
) -> ImportReport:
    """Append a source's items, users and interactions to the log.

    ``after`` and ``upto`` count rows of ``in_order(frames)``: rows [after, upto) are imported, all by default
    (lines that could not be read come with the first slice). Importing the same rows again adds nothing.
    ``source`` names the origin in quarantine. Raises EventLogError when the log cannot take the events.
    """
    report = ImportReport()
    first = not after
    _take(log, "item", _entity_rows(frames.items, Columns.ITEM_ID), frames, clock, source, report.items, first)
    _take(log, "user", _entity_rows(frames.users, Columns.USER_ID), frames, clock, source, report.users, first)
    rows = in_order(frames).iloc[after or 0 : upto]
    _take(log, "interaction", rows.to_dict("records"), frames, clock, source, report, first)
    return report


def _entity_rows(frame: pd.DataFrame, id_column: str) -> list[dict[str, Any]]:
    pairs = list(zip(frame[id_column], frame[Columns.ATTRIBUTES], strict=True))
    contents = [f"{identifier!r}\x1f{_CONTENT.encode(attributes).decode()}" for identifier, attributes in pairs]
    event_ids = _numbered_ids(id_column, contents)
    return [
        {id_column: identifier, "attributes": attributes, "event_id": event_id, "event_timestamp": FIRST_MOMENT}
        for (identifier, attributes), event_id in zip(pairs, event_ids, strict=True)
    ]


def _take(
    log: EventLog,
    type_name: str,
    rows: list[dict[str, Any]],
    frames: SourceFrames,
    clock: Clock,
    source: str,
    tally: Tally,
    with_unreadable: bool,
) -> None:
    unreadable = frames.unreadable.get(type_name, ()) if with_unreadable else ()
    rejected = [_rejected_line(len(rows) + number, line) for number, line in enumerate(unreadable)]
    tally.rows_in += len(rows) + len(unreadable)
    for start, chunk in _chunks(rows):
        events, refused = admit_all(type_name, chunk, clock)
        rejected += [Rejected(start + one.row_number, one.row, one.field, one.reason) for one in refused]
        rejected += _append(log, events, start, tally)
    log.quarantine(type_name, source, rejected)
    tally.quarantined += len(rejected)
    tally.reasons = dict(Counter(one.reason for one in rejected).most_common())


def _append(log: EventLog, events: Sequence[AnyEvent], start: int, tally: Tally) -> list[Rejected]:
    """Log the events, one by one where a chunk holds one that cannot be stored; gives back what was refused."""
    try:
        appended = log.append(events)
    except DataContractError as error:
        if len(events) == 1:
            return [Rejected(start, msgspec.to_builtins(events[0]), error.field, str(error))]
        return [bad for place, event in enumerate(events) for bad in _append(log, [event], start + place, tally)]
    tally.accepted += appended.accepted
    tally.repeated += appended.repeated
    return [_conflict(start + place, events[place]) for place in appended.conflicts]


def _chunks(rows: list[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for start in range(0, len(rows), CHUNK):
        yield start, rows[start : start + CHUNK]


def _rejected_line(number: int, line: Unreadable) -> Rejected:
    return Rejected(number, {"line": line.line}, None, line.reason)


def _conflict(number: int, event: Any) -> Rejected:
    row = msgspec.to_builtins(event)
    return Rejected(number, row, Columns.EVENT_ID, "event_id: it stands in the log with another content")
