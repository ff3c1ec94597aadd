"""Between events and the rows that the log keeps of them.

Behaviour lies in columns of its own. Slates, items and users keep their whole content as JSON in ``payload``
beside the columns they are looked up by (``value`` of a slate: how many positions explored, if they have a budget).
What is read back equals what was given.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from attune.errors import DataContractError, UnreadableEvent
from attune.events import CONTENT, AnyEvent, Behaviour, Feedback, Interaction, Item, Logged, Slate, User
from attune.row_rules import Rejected

TYPES: dict[type, str] = {Interaction: "interaction", Feedback: "feedback", Slate: "slate", Item: "item", User: "user"}

TEXTS = ("event_id", "user_id", "item_id", "slate_id", "retracts")

DECODERS: dict[str, msgspec.json.Decoder] = {
    TYPES[struct]: msgspec.json.Decoder(struct) for struct in (Slate, Item, User)
}


def to_row(event: AnyEvent) -> dict[str, Any]:
    """The columns of an event, its position and the time of logging left out.

    Raises DataContractError for content that could not be read back: text that is not Unicode, an id with a NUL,
    a slate's score that is not finite, an object that JSON does not know.
    """
    try:
        row = _behaviour_row(event) if isinstance(event, Behaviour) else _payload_row(event)
        _check_text([row[name] for name in TEXTS if row[name] is not None])
        return row
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataContractError(f"event {event.event_id!r} cannot be stored: {error}") from error


def to_logged(row: Any) -> Logged:
    """The event that a row of the table ``events`` holds (any object with the columns as attributes)."""
    return Logged(row.position, row.logged_at, _event(row))


def rejected_rows(source: str, type_name: str, rejected: Iterable[Rejected]) -> dict[bytes, dict[str, Any]]:
    """Quarantine rows by digest: over source, type, content and the number among equal rows of this call."""
    occurrences: Counter[str] = Counter()
    rows: dict[bytes, dict[str, Any]] = {}
    for bad in rejected:
        content = row_as_json(bad.row)
        identity = json.dumps([source, type_name, content, occurrences[content]])
        occurrences[content] += 1
        digest = blake2b(identity.encode(), digest_size=16).digest()
        rows[digest] = {
            "digest": digest,
            "source": source,
            "type": type_name,
            "row_number": bad.row_number,
            "field": bad.field,
            "reason": storable(bad.reason),
            "row": content,
        }
    return rows


def row_as_json(row: object) -> str:
    """Any row as ASCII JSON, keys sorted; what JSON does not know stands there as its ``repr``. Never raises."""
    if not isinstance(row, Mapping):
        return json.dumps(_told(row))
    return json.dumps({_key(name): _told(value) for name, value in row.items()}, sort_keys=True)


def storable(words: str) -> str:
    """The text with whatever a database refuses (lone surrogates, NUL) written as an escape."""
    return words.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _key(name: object) -> str:
    told = name if isinstance(name, str) else _told(name)
    return storable(told if isinstance(told, str) else json.dumps(told))


def _told(value: object) -> object:
    try:
        json.dumps(value, sort_keys=True)
    except (ValueError, TypeError, OverflowError, RecursionError):
        try:
            return repr(value)
        except (ValueError, RecursionError):
            return f"<{type(value).__name__}>"
    return value


def _check_text(words: list[str]) -> None:
    joined = "".join(words)
    joined.encode()
    if "\x00" in joined:
        raise ValueError("text with a NUL character")


def _behaviour_row(event: Behaviour) -> dict[str, Any]:
    return {
        "type": TYPES[type(event)],
        "event_id": event.event_id,
        "digest": event.digest(),
        "user_id": event.user_id,
        "item_id": event.item_id,
        "kind": event.kind,
        "value": event.value,
        "slate_id": event.slate_id if isinstance(event, Feedback) else None,
        "retracts": event.retracts,
        "event_timestamp": event.event_timestamp,
        "payload": None,
    }


def _payload_row(event: Slate | Item | User) -> dict[str, Any]:
    name = TYPES[type(event)]
    payload = CONTENT.encode(event)
    DECODERS[name].decode(payload)
    return {
        "type": name,
        "event_id": event.event_id,
        "digest": event.digest(),
        "user_id": None if isinstance(event, Item) else event.user_id,
        "item_id": event.item_id if isinstance(event, Item) else None,
        "kind": None,
        "value": _explored(event) if isinstance(event, Slate) else None,
        "slate_id": None,
        "retracts": None,
        "event_timestamp": event.event_timestamp,
        "payload": payload.decode(),
    }


def _explored(slate: Slate) -> int | None:
    """What the slate spent of a budget for exploration, for the index that counts it; None where it had none."""
    explored = slate.policy.get("explored")
    return explored if isinstance(explored, int) and slate.policy.get("budget") is not None else None


def _event(row: Any) -> AnyEvent:
    if row.type == "interaction":
        return Interaction(
            event_id=row.event_id,
            event_timestamp=row.event_timestamp,
            user_id=row.user_id,
            item_id=row.item_id,
            kind=row.kind,
            value=row.value,
            retracts=row.retracts,
        )
    if row.type == "feedback":
        return Feedback(
            event_id=row.event_id,
            event_timestamp=row.event_timestamp,
            user_id=row.user_id,
            item_id=row.item_id,
            kind=row.kind,
            value=row.value,
            retracts=row.retracts,
            slate_id=row.slate_id,
        )
    try:
        event: AnyEvent = DECODERS[row.type].decode(row.payload)
    except (KeyError, msgspec.MsgspecError) as error:
        raise UnreadableEvent(
            f"position {row.position} holds a {row.type!r} that this version cannot read: {error}; update attune"
        ) from error
    return event
