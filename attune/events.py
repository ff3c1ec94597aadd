"""The facts: what users did, what they were shown, and what is known of items and users.

Each event has an ``event_id`` (exactly once in the log) and an ``event_timestamp`` (microseconds, UTC:
when it happened). When it was logged, and at which position, is the log's own knowledge: see ``LoggedEvent``.
Objects are built by ``attune.row_rules`` from rows that passed its rules, and trusted from there on.

In the log's table behaviour lies in columns of its own. Slates, items and users keep their whole content as JSON in
``payload`` beside the columns they are looked up by (``value`` of a slate: how many positions explored, if they have a
budget; its ``kind``: whether it was imported), of an interaction the word ``LIVE`` or nothing, and of feedback the word
``IMPORTED`` or nothing. What ``to_logged`` reads back equals what ``to_row`` was given.
"""

import hashlib
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import msgspec

from attune.columns import Columns
from attune.errors import DataContractError, UnreadableEvent
from attune.event_types import reward

LIVE = "live"
"""The ``payload`` of an interaction that came in over HTTP. It is no part of the content: the same event out of a file
is a repeat."""

IMPORTED = "import"
"""The ``served_by`` and the version of a slate that another system drew. The column ``kind`` of its row says so too.
Also the ``payload`` of feedback that an import brought; older logs do not mark it, and it is taken for live."""

CANDIDATES_LOGGED = 200
"""So many of a slate's candidates are logged at most, the best first."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has."""

    event_id: str
    event_timestamp: int

    def digest(self) -> bytes:
        """16 bytes over the content, the id left out: equal for a repeat, other for another content."""
        return hashlib.blake2b(CONTENT.encode(msgspec.structs.replace(self, event_id="")), digest_size=16).digest()


class Behaviour(Event, frozen=True, kw_only=True):
    """A user did something with an item; ``value`` is what the kind says it is (stars, seconds, a share).

    ``retracts`` names the event that a ``retract`` takes back, and is None for every other kind.
    """

    user_id: str
    item_id: str
    kind: str
    value: float | None = None
    retracts: str | None = None

    @property
    def reward(self) -> float:
        """What the event is worth by the reward table, in [0, 1]."""
        return reward(self.kind, self.value)


class Interaction(Behaviour, frozen=True, kw_only=True, tag="interaction"):
    """Behaviour outside slates (or from before there were any)."""


class Feedback(Behaviour, frozen=True, kw_only=True, tag="feedback"):
    """The reaction to an item of a slate."""

    slate_id: str


class Shown(msgspec.Struct, frozen=True):
    """One position of a slate.

    ``propensity`` is the probability with which the policy put this item here, given the items above it.
    """

    item_id: str
    score: float
    propensity: float


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item that the policy could have drawn from, with its score before the draw and the source that named it.

    A slate of before there were sources has none: its content, and so its digest, stays what it was.
    """

    item_id: str
    score: float
    source: str = ""


class Slate(Event, frozen=True, kw_only=True, tag="slate"):
    """What a user was shown and everything needed to judge it later; its ``event_id`` is the slate id.

    ``state_position`` is the log position up to which the user's state was known when it was made;
    ``policy`` holds the policy's name and parameters; ``served_by`` says who answered (champion, popularity), or that
    the slate was ``IMPORTED``: then its scores, candidates and propensities of 0 are unknown.
    """

    user_id: str
    model_version: str
    served_by: str
    policy: dict[str, Any]
    shown: list[Shown]
    candidates: list[Candidate]
    context: dict[str, Any]
    state_position: int


class Item(Event, frozen=True, kw_only=True, tag="item"):
    """What is known of an item from now on; a later event replaces all its attributes."""

    item_id: str
    attributes: dict[str, Any]


class User(Event, frozen=True, kw_only=True, tag="user"):
    """What is known of a user from now on; a later event replaces all the attributes."""

    user_id: str
    attributes: dict[str, Any]


def is_hidden(attributes: Mapping[str, Any]) -> bool:
    """Whether an item is never shown: it is out of stock (``available`` false) or, for good, ``retired``."""
    return attributes.get(Columns.AVAILABLE) is False or attributes.get(Columns.RETIRED) is True


def is_vector(value: object) -> bool:
    """Whether an attribute's value is a vector: a list of numbers that are not all whole (1.0 is not written so)."""
    return (
        isinstance(value, list)
        and any(type(part) is float for part in value)
        and all(type(part) in (int, float) for part in value)
    )


AnyEvent = Interaction | Feedback | Slate | Item | User


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as the log holds it: ``position`` orders all events, ``logged_at`` is in microseconds.

    ``is_live``: an interaction or feedback that came in over HTTP; all others are imported.
    """

    position: int
    logged_at: int
    event: AnyEvent
    is_live: bool = False

    @property
    def happened_at(self) -> int:
        """When it happened; of what came in over HTTP when it was logged: an account cannot make itself a past."""
        if self.is_live:
            return self.logged_at
        return min(self.event.event_timestamp, self.logged_at)


CONTENT = msgspec.json.Encoder(order="deterministic")
"""Encodes equal contents to equal bytes."""

TYPES: dict[type, str] = {Interaction: "interaction", Feedback: "feedback", Slate: "slate", Item: "item", User: "user"}

_texts = itemgetter("event_id", "user_id", "item_id", "slate_id", "retracts")

DECODERS: dict[str, msgspec.json.Decoder] = {
    TYPES[struct]: msgspec.json.Decoder(struct) for struct in (Slate, Item, User)
}


def to_row(event: AnyEvent) -> dict[str, Any]:
    """The columns of an event, its position and the time of logging left out.

    Raises DataContractError for content that could not be read back: text that is not Unicode, an id with a NUL,
    a slate's score that is not finite, an object that JSON does not know.
    """
    try:
        row: dict[str, Any] = {
            "type": TYPES[type(event)],
            "event_id": event.event_id,
            "digest": event.digest(),
            "user_id": getattr(event, "user_id", None),
            "item_id": getattr(event, "item_id", None),
            "kind": None,
            "value": None,
            "slate_id": event.slate_id if isinstance(event, Feedback) else None,
            "retracts": None,
            "event_timestamp": event.event_timestamp,
            "payload": None,
        }
        if isinstance(event, Behaviour):
            row["kind"], row["value"], row["retracts"] = event.kind, event.value, event.retracts
        else:
            payload = CONTENT.encode(event)
            DECODERS[row["type"]].decode(payload)
            row["payload"] = payload.decode()
            if isinstance(event, Slate) and event.policy.get("budget") is not None:
                explored = event.policy.get("explored")
                row["value"] = explored if isinstance(explored, int) else None
            if isinstance(event, Slate) and event.served_by == IMPORTED:
                row["kind"] = IMPORTED
        joined = "".join([words for words in _texts(row) if words is not None])
        joined.encode()
        if "\x00" in joined:
            raise ValueError("text with a NUL character")
        return row
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataContractError(f"event {event.event_id!r} cannot be stored: {error}") from error


def to_logged(row: Any) -> LoggedEvent:
    """The event that a row of the table ``events`` holds (any object with the columns as attributes)."""
    is_live = row.payload == LIVE if row.type == "interaction" else row.type == "feedback" and row.payload != IMPORTED
    return LoggedEvent(row.position, row.logged_at, _event(row), is_live)


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
