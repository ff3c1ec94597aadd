"""A user's state as one row of typed columns, and back: what the online store keeps of it."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from attune.columns import Columns
from attune.user_state import Recent, UserState

NO_VALUE = float("nan")

_ENCODER = msgspec.json.Encoder(order="deterministic")


def to_row(state: UserState) -> dict[str, Any]:
    """The state as plain numbers, texts and lists; an absent value of an event is NaN."""
    recent = list(zip(*state.recent, strict=True)) or [()] * len(Recent._fields)
    event_ids, item_ids, kinds, values, times, positions, retracted = map(list, recent)
    days, count_kinds = zip(*state.counts, strict=True) if state.counts else ((), ())
    known = state.first_time is not None and state.last_time is not None
    return {
        Columns.USER_ID: state.user_id,
        "position": state.position,
        "events": state.events,
        "first_and_last_time": [state.first_time, state.last_time] if known else [],
        "attributes": _ENCODER.encode(state.attributes).decode(),
        "seen": list(state.seen),
        "recent_event_ids": event_ids,
        "recent_item_ids": item_ids,
        "recent_kinds": kinds,
        "recent_values": [NO_VALUE if value is None else value for value in values],
        "recent_times": times,
        "recent_positions": positions,
        "recent_retracted": retracted,
        "count_days": list(days),
        "count_kinds": list(count_kinds),
        "count_numbers": list(state.counts.values()),
    }


def from_row(user_id: str, row: Mapping[str, Any]) -> UserState:
    """The state that ``to_row`` was given; an empty list may come back as None."""
    values = [None if value != value else value for value in row["recent_values"] or ()]
    columns = [row[f"recent_{name}"] or () for name in ("event_ids", "item_ids", "kinds")]
    tail = [row[f"recent_{name}"] or () for name in ("times", "positions", "retracted")]
    first, last = row["first_and_last_time"] or (None, None)
    buckets = zip(row["count_days"] or (), row["count_kinds"] or (), strict=True)
    return UserState(
        user_id=user_id,
        position=row["position"],
        recent=tuple(map(Recent, *columns, values, *tail)),
        seen=tuple(row["seen"] or ()),
        counts=dict(zip(buckets, row["count_numbers"] or (), strict=True)),
        events=row["events"],
        first_time=first,
        last_time=last,
        attributes=json.loads(row["attributes"]),
    )
