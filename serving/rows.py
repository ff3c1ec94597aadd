"""Rows of events as HTTP sends them, made into events by the row rules of ``attune.door``.

What is particular to HTTP is settled here: times are ISO 8601 with a zone (now if absent), and a field that no
row has is refused with the nearest name, because a misspelt optional field would otherwise be lost in silence.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import msgspec

from attune.clock import Clock, from_datetime
from attune.door import Rejected, admit
from attune.errors import DataContractError
from attune.events import Feedback, Interaction
from serving.schemas import EventRow, FeedbackRow

TIME = "event_timestamp"

FEEDBACK_FIELDS = frozenset(FeedbackRow.__struct_fields__)
EVENT_FIELDS = frozenset(EventRow.__struct_fields__)


def admit_feedback(row: dict[str, Any], clock: Clock) -> Feedback:
    """The feedback that the row describes; raises DataContractError naming the field."""
    event = admit("feedback", _canonical(row, FEEDBACK_FIELDS, clock), clock)
    assert isinstance(event, Feedback)
    return event


def admit_interaction(row: dict[str, Any], clock: Clock) -> Interaction:
    """The interaction that the row describes; raises DataContractError naming the field."""
    event = admit("interaction", _canonical(row, EVENT_FIELDS, clock), clock)
    assert isinstance(event, Interaction)
    return event


def admit_rows(rows: Sequence[dict[str, Any]], clock: Clock) -> tuple[list[tuple[int, Interaction]], list[Rejected]]:
    """(the interactions, each with its place among the rows; the rows that were turned away, with reasons)."""
    admitted: list[tuple[int, Interaction]] = []
    rejected: list[Rejected] = []
    for place, row in enumerate(rows):
        try:
            admitted.append((place, admit_interaction(row, clock)))
        except DataContractError as error:
            rejected.append(Rejected(place, row, error.field, str(error)))
    return admitted, rejected


def same_but_time(event: msgspec.Struct, other: msgspec.Struct) -> bool:
    """Whether two events differ in nothing but their time."""
    return type(event) is type(other) and msgspec.structs.replace(event, **{TIME: 0}) == msgspec.structs.replace(
        other, **{TIME: 0}
    )


def parse_time(raw: object) -> int:
    """ISO 8601 with a zone as microseconds since the epoch; raises DataContractError for anything else."""
    if not isinstance(raw, str):
        raise DataContractError(f"{TIME}: {raw!r} is not ISO 8601 text, such as 2026-01-31T12:00:00Z", TIME)
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError as error:
        raise DataContractError(f"{TIME}: {raw!r} is not ISO 8601, such as 2026-01-31T12:00:00Z", TIME) from error
    if moment.tzinfo is None:
        raise DataContractError(f"{TIME}: {raw!r} has no zone; append Z for UTC or an offset such as +02:00", TIME)
    return from_datetime(moment)


def _canonical(row: dict[str, Any], fields: Collection[str], clock: Clock) -> dict[str, Any]:
    for name in row:
        if name not in fields:
            close = get_close_matches(name, fields, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise DataContractError(f"{name}: no such field{hint}; known are {', '.join(sorted(fields))}", name)
    raw = row.get(TIME)
    return {**row, TIME: clock() if raw is None else parse_time(raw)}
