"""The HTTP API's requests and answers as types: they decode the bodies, encode the answers and document both.

Decoding is strict: a wrong type, an absent or an unknown field is refused by name. Rows of events are the
exception: they stay plain mappings until ``serving.ingestion`` takes each to the door, so that one bad row never
costs its neighbours; ``FeedbackRow`` and ``EventRow`` list the fields that such a row may have.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from attune.errors import DataContractError
from attune.event_types import KINDS

CONTEXT_BYTES = 16_384
ROWS_LIMIT = 1_000
BATCH_LIMIT = 100
WHERE_ATTRIBUTES = 8
WHERE_VALUES = 100
VALUE_LIMIT = 256
CAP_LIMIT = 2**53 - 1

_NAME = {"maxLength": VALUE_LIMIT}
_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean"], "maxLength": VALUE_LIMIT}
_WANTED = {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1, "maxItems": WHERE_VALUES}]}
"""What ``check_where`` lets pass, as JSON Schema."""
_CAP = {"type": "integer", "minimum": 1, "maximum": CAP_LIMIT}
"""What ``check_at_most`` lets pass, as JSON Schema."""

_BLANK = r"\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\x00-\x1f\x7f"
"""Spelt out, because what ``\\s`` and ``$`` mean differs between the readers of patterns."""

Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=rf"^[^{_BLANK}{_CONTROL}](?:[^{_CONTROL}]*[^{_BLANK}{_CONTROL}])?$(?![\s\S])",
        extra={"rule": "text of 1 to 256 characters without control characters or blanks around it"},
    ),
]
Timestamp = Annotated[
    str | None,
    Meta(
        description="When it happened: ISO 8601 with a zone; the time of arrival if absent.",
        extra_json_schema={"format": "date-time"},
    ),
]
Kind = Annotated[str, Meta(extra_json_schema={"enum": sorted(KINDS)})]
EventId = Annotated[
    Identifier | None,
    Meta(description="Your own id: sending the same event again under it changes nothing. Made if absent."),
]


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Who asks, for how much, and under which conditions."""

    user_id: Annotated[Identifier, Meta(description="Whom the slate is for; an unknown user gets what is popular.")]
    k: Annotated[int, Meta(ge=1, le=100, description="How many items.")] = 10
    exclude: Annotated[list[str], Meta(max_length=1_000, description="Items that must not be on the slate.")] = []
    seed: (
        Annotated[int, Meta(ge=0, le=2**53 - 1, description="Makes the draw repeatable; random if absent.")] | None
    ) = None
    context: Annotated[dict[str, Any], Meta(description="Anything worth logging with the slate.")] = {}
    where: Annotated[
        dict[str, Any],
        Meta(
            description="Only items that hold, for each attribute named here, the value or one of the values.",
            extra_json_schema={
                "maxProperties": WHERE_ATTRIBUTES,
                "propertyNames": _NAME,
                "additionalProperties": _WANTED,
            },
        ),
    ] = {}
    at_most: Annotated[
        dict[str, Any],
        Meta(
            description="For each attribute named here, how many items at most may share one value of it.",
            extra_json_schema={"maxProperties": WHERE_ATTRIBUTES, "propertyNames": _NAME, "additionalProperties": _CAP},
        ),
    ] = {}

    def __post_init__(self) -> None:
        check_where(self.where)
        check_at_most(self.at_most)


class ShownItem(msgspec.Struct, kw_only=True, frozen=True):
    """One position of a slate; the propensity is conditional on the items above it."""

    item_id: str
    title: str | None
    position: Annotated[int, Meta(ge=1)]
    score: float
    propensity: Annotated[float, Meta(gt=0, le=1)]


class RecommendAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """The slate and everything that says how it came about."""

    slate_id: Annotated[
        str | None, Meta(description="Name it in feedback; null when the slate could not be queued for the log.")
    ]
    user_id: str
    items: list[ShownItem]
    model_version: Annotated[str | None, Meta(description="Null when no model is loaded.")]
    served_by: Annotated[str, Meta(description="`champion` or `popularity`.")]
    state_position: Annotated[int, Meta(description="The log position up to which this user's events are reflected.")]
    policy: Annotated[dict[str, Any], Meta(description="The policy that drew the items, with its parameters.")]
    degraded: Annotated[
        list[str],
        Meta(
            description="What could not be read: `features` costs nothing, `event_log` recent events and changes of"
            " items."
        ),
    ]


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Up to 100 requests; each is answered or refused on its own."""

    requests: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=BATCH_LIMIT)]


class BatchDocumented(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The body of `/v1/recommend/batch`."""

    requests: Annotated[list[RecommendRequest], Meta(min_length=1, max_length=BATCH_LIMIT)]


class FeedbackRow(msgspec.Struct, kw_only=True, frozen=True):
    """A reaction to an item of a slate."""

    slate_id: Annotated[str, Meta(description="The slate, as `/v1/recommend` named it for this user.")]
    user_id: Identifier
    item_id: Identifier
    kind: Annotated[Kind, Meta(description="`like`, `dislike`, `click`, `rating`, `retract` and more.")]
    value: Annotated[float | None, Meta(description="What the kind asks for: stars, seconds, a share.")] = None
    retracts: Annotated[Identifier | None, Meta(description="For `retract`: the event that is taken back.")] = None
    event_id: EventId = None
    event_timestamp: Timestamp = None


class FeedbackAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """The event is durable in the log when this is answered."""

    event_id: str
    position: int
    status: Annotated[str, Meta(description="`accepted`, or `repeated` when the log had this very event already.")]


class EventRow(msgspec.Struct, kw_only=True, frozen=True):
    """Behaviour outside slates."""

    user_id: Identifier
    item_id: Identifier
    kind: Kind
    value: float | None = None
    retracts: Identifier | None = None
    event_id: EventId = None
    event_timestamp: Timestamp = None


class SimilarRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which item's neighbours."""

    item_id: Annotated[Identifier, Meta(description="The item; percent-encoded.")]
    k: Annotated[int, Meta(ge=1, le=100, description="How many items.")] = 10


class SimilarItem(msgspec.Struct, kw_only=True, frozen=True):
    """An item and how like it is to the one asked for."""

    item_id: str
    title: str | None
    similarity: Annotated[float, Meta(description="The cosine of the model's vectors, from -1 to 1: alike.")]


class SimilarAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """The items nearest to one, the nearest first; found by comparing it with all."""

    item_id: str
    title: str | None
    model_version: Annotated[str, Meta(description="The version whose vectors were compared.")]
    items: list[SimilarItem]


class PopularRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How much of what is popular."""

    k: Annotated[int, Meta(ge=1, le=100, description="How many items.")] = 10


class PopularItem(msgspec.Struct, kw_only=True, frozen=True):
    """An item and how popular it is."""

    item_id: str
    title: str | None
    score: Annotated[float, Meta(description="By the champion: its recent use, 1 the most; else the log of its count.")]


class PopularAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What is popular now, the most popular first."""

    counted_by: Annotated[str, Meta(description="`champion`, or `log` while none is loaded.")]
    model_version: Annotated[str | None, Meta(description="Null when no model is loaded.")]
    items: list[PopularItem]


class StateRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Whose state, and how much of it."""

    user_id: Annotated[Identifier, Meta(description="The user; percent-encoded.")]
    limit: Annotated[int, Meta(ge=0, le=200, description="How many of the latest events.")] = 50


class RecentEvent(msgspec.Struct, kw_only=True, frozen=True):
    """One event of a user, as the model sees it."""

    event_id: str
    item_id: str
    title: str | None
    kind: str
    value: float | None
    event_timestamp: str
    position: Annotated[int, Meta(description="Its place in the log.")]
    retracted: Annotated[bool, Meta(description="Whether the user took it back: then it counts no longer.")]


class StateAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of a user as of now; of somebody unknown, nothing: the position is 0."""

    user_id: str
    position: Annotated[int, Meta(description="The log position of the user's last event.")]
    events: Annotated[int, Meta(description="How many there were in all.")]
    first_event_at: str | None
    last_event_at: str | None
    recent: Annotated[list[RecentEvent], Meta(description="The latest events, the latest first.")]
    seen: Annotated[int, Meta(description="How many items will not come back.")]
    counts: Annotated[dict[str, int], Meta(description="Events by kind, of the latest 64 days with any.")]
    attributes: dict[str, Any]
    snapshot_position: Annotated[int, Meta(description="Up to where it was folded before; 0: not at all.")]
    snapshot_from: Annotated[str | None, Meta(description="`process` or `features`: who had folded that.")]
    tail: Annotated[int, Meta(description="How many events were read from the log on top of it.")]
    degraded: Annotated[
        list[str], Meta(description="What could not be read: `features` costs nothing, `event_log` recent events.")
    ]


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Up to 1,000 rows; each is taken or refused on its own."""

    events: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=ROWS_LIMIT)]


class EventsDocumented(msgspec.Struct, kw_only=True, frozen=True):
    """``EventsRequest`` as the OpenAPI page shows it: with the fields of a row."""

    events: Annotated[list[EventRow], Meta(min_length=1, max_length=ROWS_LIMIT)]


class RejectedRow(msgspec.Struct, kw_only=True, frozen=True):
    """A row that was not taken; it is kept in quarantine with the reason."""

    row: Annotated[int, Meta(description="Counts from 0.")]
    field: str | None
    reason: str


class EventsAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What became of the rows; those accepted are durable in the log when this is answered."""

    accepted: int
    repeated: int
    rejected: list[RejectedRow]
    position: Annotated[int, Meta(description="The highest log position of these rows, 0 if none was taken.")]
    event_ids: Annotated[list[str | None], Meta(description="One a row, null where it was rejected.")]


_READABLE = {"pattern": r"^[^\x00]*$(?![\s\S])"}
_HELD: dict[str, Any] = {"type": ["string", "number", "boolean", "null"], **_READABLE}
_TEXTS = {"type": ["array", "null"], "items": {"type": "string", **_READABLE}}
_ATTRIBUTES: dict[str, Any] = {
    "maxProperties": 200,
    "propertyNames": _READABLE,
    "properties": {
        "title": {"type": ["string", "null"], **_READABLE},
        "genres": _TEXTS,
        "year": {"type": ["number", "null"], "minimum": -(2**53), "maximum": 2**53},
        "available": {"type": ["boolean", "null"]},
        "retired": {"type": ["boolean", "null"]},
    },
    "additionalProperties": {"anyOf": [_HELD, {"type": "array", "items": _HELD}]},
}
"""What the door and ``serving.items`` let pass, as JSON Schema."""


class ItemBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What is said of an item."""

    attributes: Annotated[
        dict[str, Any],
        Meta(
            description="By name: text, numbers of 64 bits, truth values, or lists of them; at most 200. `title`,"
            " `genres`, `year`, `available` and `retired` are known by name.",
            extra_json_schema=_ATTRIBUTES,
        ),
    ]
    event_id: EventId = None


class ItemRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which item."""

    item_id: Annotated[Identifier, Meta(description="The item, percent-encoded.")]


class RetireRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which item, and the id of the event."""

    item_id: Annotated[Identifier, Meta(description="The item, percent-encoded.")]
    event_id: EventId = None


class ItemAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of the item from now on is durable in the log when this is answered."""

    item_id: str
    attributes: Annotated[dict[str, Any], Meta(description="All that is known of it from now on.")]
    event_id: str
    position: int
    status: Annotated[str, Meta(description="`accepted`, or `repeated` when the log had this very event already.")]


class ItemKnown(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of an item."""

    item_id: str
    attributes: Annotated[dict[str, Any], Meta(description="As the latest event about it says.")]
    position: Annotated[int, Meta(description="Where in the log that event lies.")]
    shown: Annotated[bool, Meta(description="Whether it may be on a slate: neither out of stock nor retired.")]
    learned: Annotated[bool, Meta(description="Whether the model that answers met it in its training.")]


class ModelAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What is answering now; everything after the first three is null without a champion."""

    endpoint: str
    log_id: Annotated[str, Meta(description="Which event log it reads and writes: a random word, kept in backups.")]
    served_by: str
    version: str | None
    previous: str | None
    fence: int | None
    promoted_at: str | None
    loaded_at: str | None
    items: int | None
    config: dict[str, Any] | None


class Fault(msgspec.Struct, kw_only=True, frozen=True):
    """What was wrong and what to do, and the field at fault if it is one field."""

    message: str
    field: str | None
    request_id: Annotated[str | None, Meta(description="As in the header `X-Request-Id`, and in the endpoint's log.")]


class BatchEntry(msgspec.Struct, kw_only=True, frozen=True):
    """What became of one request of a batch: either is null."""

    slate: RecommendAnswer | None
    error: Fault | None


class BatchAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """The answers, in the order of the requests."""

    answers: list[BatchEntry]


class ErrorAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """Every answer other than 2xx."""

    error: Fault


Body = TypeVar("Body")

_PATH = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<path>.*)`$")
_NAMED = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<field>[^`]*)`$")


def decode(body: bytes, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """The body as the decoder's type; raises DataContractError naming the field (``body`` for the whole)."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataContractError(f"body: not valid JSON: {error}", "body") from error
    except RecursionError as error:
        raise DataContractError("body: nested too deeply", "body") from error


def convert(values: dict[str, str], wanted: type[Body]) -> Body:
    """What stands in an address as the type of what is asked; raises DataContractError naming the field."""
    try:
        return msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from error


def _named(message: str) -> DataContractError:
    placed = _PATH.match(message)
    what, path = (placed["what"], placed["path"]) if placed else (message, "")
    named = _NAMED.match(what)
    field = ".".join(part for part in (path, named["field"] if named else "") if part) or "body"
    if "matching regex" in what:
        what = "Expected text without control characters or blanks around it"
    return DataContractError(f"{field}: {what}", field)


def check_where(where: dict[str, Any]) -> None:
    """Raise DataContractError, naming the attribute, unless each has a value that items can hold, or a list of them."""
    if len(where) > WHERE_ATTRIBUTES:
        raise DataContractError(f"where: {len(where)} attributes; at most {WHERE_ATTRIBUTES} are allowed", "where")
    _check_names(where, "where")
    for attribute, wanted in where.items():
        field = f"where.{attribute[:VALUE_LIMIT]}"
        values = wanted if isinstance(wanted, list) else [wanted]
        if not 0 < len(values) <= WHERE_VALUES:
            raise DataContractError(f"{field}: {len(values)} values; 1 to {WHERE_VALUES} are allowed", field)
        for value in values:
            if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > VALUE_LIMIT):
                rule = f"text of at most {VALUE_LIMIT} characters, a number or a truth value, or a list of these"
                raise DataContractError(f"{field}: expected {rule}", field)


def _check_names(asked: Iterable[str], field: str) -> None:
    for attribute in asked:
        if len(attribute) > VALUE_LIMIT:
            what = f"a name of {len(attribute)} characters; at most {VALUE_LIMIT} are allowed"
            raise DataContractError(f"{field}: {what}", field)


def check_at_most(at_most: dict[str, Any]) -> None:
    """Raise DataContractError, naming the attribute, unless each has a whole number of items, at least 1."""
    if len(at_most) > WHERE_ATTRIBUTES:
        what = f"{len(at_most)} attributes; at most {WHERE_ATTRIBUTES} are allowed"
        raise DataContractError(f"at_most: {what}", "at_most")
    _check_names(at_most, "at_most")
    for attribute, limit in at_most.items():
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= CAP_LIMIT:
            field = f"at_most.{attribute[:VALUE_LIMIT]}"
            raise DataContractError(f"{field}: expected a whole number from 1 to 2^53 - 1", field)


def check_context(context: dict[str, Any]) -> None:
    """Raise DataContractError unless the context can be logged: plain JSON of at most 16 KiB."""
    try:
        size = len(msgspec.json.encode(context)) if context else 0
    except (OverflowError, TypeError, ValueError) as error:
        raise DataContractError(f"context: cannot be logged: {error}", "context") from error
    if size > CONTEXT_BYTES:
        raise DataContractError(f"context: {size} bytes; at most {CONTEXT_BYTES} are allowed", "context")
