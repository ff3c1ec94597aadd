"""The HTTP API as types: the endpoint decodes bodies and encodes answers with them, the client decodes the answers.

They also make the OpenAPI page and hold ``docs/reference/http.md``. Requests are strict: a wrong type, an absent or an
unknown field is refused by name. Answers are not: a field that a later endpoint adds does an older client no harm.
Rows of events stay plain mappings until ``serving.ingestion`` checks each by the row rules, so that one bad row costs
no other; ``FeedbackRow`` and ``EventRow`` list the fields of such a row. Times are ISO 8601.
"""

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from attune.errors import DataContractError
from attune.event_types import KINDS
from attune.row_rules import one_spelling

CONTEXT_BYTES = 16_384
ROWS_LIMIT = 1_000
BATCH_LIMIT = 100
WHERE_ATTRIBUTES = 8
WHERE_VALUES = 100
VALUE_LIMIT = 256
CAP_LIMIT = 2**53 - 1

REFERENCE = "#/components/schemas/{name}"
"""Where a type stands in the OpenAPI page."""


def _spelt(request: msgspec.Struct, *names: str) -> None:
    """Give ids, or lists of them, the one spelling that imports give them, so that they are found."""
    for name in names:
        said = getattr(request, name)
        written = list(map(one_spelling, said)) if isinstance(said, list) else one_spelling(said)
        msgspec.structs.force_setattr(request, name, written)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""


class Row(msgspec.Struct, frozen=True):
    """One event in a body."""


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters in a request's address: required ones in the path, the others behind it."""


class Answer(msgspec.Struct, frozen=True):
    """What the endpoint answers; it always has all fields."""


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
RequestUser = Annotated[Identifier, Meta(examples=["15"])]
RequestItem = Annotated[Identifier, Meta(examples=["318"])]
RequestEvent = Annotated[Identifier | None, Meta(description="Your own id; a repeat counts once.")]
Timestamp = Annotated[
    str | None,
    Meta(description="ISO 8601 with a zone; by default the arrival.", extra_json_schema={"format": "date-time"}),
]
Kind = Annotated[str, Meta(extra_json_schema={"enum": sorted(KINDS)}, examples=["click"])]
Count = Annotated[int, Meta(ge=1, le=100, description="How many items.")]
Seed = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Makes the draw repeatable; random if absent.")]

UserId = Annotated[str, Meta(examples=["15"])]
ItemId = Annotated[str, Meta(examples=["318"])]
SlateId = Annotated[str, Meta(examples=["kXw1b0m3TkqU5p7y2Q9cVg.0fJm6mYw3bqj8vH1sZk2xA"])]
EventId = Annotated[str, Meta(examples=["0b5e3a52f1c94d2c9a56d1a0f8f2c7aa"])]
Title = Annotated[str, Meta(examples=["The Shawshank Redemption"])]
Version = Annotated[str, Meta(examples=["3"])]
Position = Annotated[int, Meta(examples=[100_021])]
Time = Annotated[str, Meta(examples=["2026-01-31T12:00:00+00:00"])]
ServedBy = Annotated[str, Meta(description="`champion` or `popularity`.", examples=["champion"])]
Status = Annotated[str, Meta(description="`accepted`, or `repeated`: the log had it already.", examples=["accepted"])]

_VALUE: dict[str, Any] = {"type": ["string", "number", "boolean"], "maxLength": VALUE_LIMIT}
_WANTED = {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1, "maxItems": WHERE_VALUES}]}
_BY_ATTRIBUTE = {"maxProperties": WHERE_ATTRIBUTES, "propertyNames": {"maxLength": VALUE_LIMIT}}
_WHERE = {**_BY_ATTRIBUTE, "additionalProperties": _WANTED}
_AT_MOST = {**_BY_ATTRIBUTE, "additionalProperties": {"type": "integer", "minimum": 1, "maximum": CAP_LIMIT}}
"""What ``_check_where`` and ``_check_at_most`` let pass, as JSON Schema."""


class RecommendRequest(Body, frozen=True):
    """Who asks, for how much, and under which conditions."""

    user_id: Annotated[RequestUser, Meta(description="An unknown user gets what is popular.")]
    k: Count = 10
    exclude: Annotated[list[str], Meta(max_length=1_000, description="Items to leave out.")] = []
    seed: Seed | None = None
    context: Annotated[dict[str, Any], Meta(description="Logged with the slate.")] = {}
    where: Annotated[
        dict[str, Any],
        Meta(
            description="By attribute: the value, or one of the values, that items must have.", extra_json_schema=_WHERE
        ),
    ] = {}
    at_most: Annotated[
        dict[str, Any], Meta(description="By attribute: how many items may share a value.", extra_json_schema=_AT_MOST)
    ] = {}

    def __post_init__(self) -> None:
        _spelt(self, "user_id", "exclude")
        _check_where(self.where)
        _check_at_most(self.at_most)
        try:
            size = len(msgspec.json.encode(self.context)) if self.context else 0
        except (OverflowError, TypeError, ValueError) as error:
            raise DataContractError(f"context: cannot be logged: {error}", "context") from error
        if size > CONTEXT_BYTES:
            raise DataContractError(f"context: {size} bytes; at most {CONTEXT_BYTES} are allowed", "context")


class ShownItem(Answer, frozen=True):
    """One position of a slate; the propensity is conditional on the items above it."""

    item_id: ItemId
    title: Title | None
    position: Annotated[int, Meta(extra_json_schema={"minimum": 1})]
    score: Annotated[float, Meta(examples=[4.21])]
    propensity: Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": 1}, examples=[0.083])]


class RecommendAnswer(Answer, frozen=True):
    """The slate and everything that says how it came about."""

    slate_id: Annotated[SlateId | None, Meta(description="For feedback; null when the slate could not be logged.")]
    user_id: UserId
    items: list[ShownItem]
    model_version: Annotated[Version | None, Meta(description="Null without a model.")]
    served_by: ServedBy
    state_position: Annotated[Position, Meta(description="The log position that the slate reflects.")]
    policy: Annotated[
        dict[str, Any],
        Meta(
            description="The policy with its parameters.",
            examples=[{"name": "plackett-luce", "temperature": 0.2, "candidates": 100, "seed": 7}],
        ),
    ]
    degraded: Annotated[
        list[str],
        Meta(
            description="Unread sources: `features` costs nothing, `event_log` recent events and changes of items.",
            examples=[[]],
        ),
    ]


class BatchRequest(Body, frozen=True):
    """Up to 100 requests; each is answered or refused on its own."""

    requests: Annotated[
        list[Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": REFERENCE.format(name="RecommendRequest")})]],
        Meta(min_length=1, max_length=BATCH_LIMIT),
    ]


class FeedbackRow(Row, frozen=True):
    """A reaction to an item of a slate."""

    slate_id: Annotated[SlateId, Meta(description="From `/v1/recommend`, for this user.")]
    user_id: RequestUser
    item_id: RequestItem
    kind: Annotated[
        Kind, Meta(description="`like`, `dislike`, `click`, `rating`, `retract` and more.", examples=["like"])
    ]
    value: Annotated[float | None, Meta(description="What the kind asks for: stars, seconds, a share.")] = None
    retracts: Annotated[Identifier | None, Meta(description="For `retract`: the event taken back.")] = None
    event_id: RequestEvent = None
    event_timestamp: Timestamp = None


class FeedbackAnswer(Answer, frozen=True):
    """The event is durable in the log when this is answered."""

    event_id: EventId
    position: Position
    status: Status


class EventRow(Row, frozen=True):
    """Behaviour outside slates."""

    user_id: RequestUser
    item_id: RequestItem
    kind: Kind
    value: float | None = None
    retracts: Identifier | None = None
    event_id: RequestEvent = None
    event_timestamp: Timestamp = None


class EventsRequest(Body, frozen=True):
    """Up to 1,000 rows; each is taken or refused on its own."""

    events: Annotated[
        list[Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": REFERENCE.format(name="EventRow")})]],
        Meta(min_length=1, max_length=ROWS_LIMIT),
    ]


class RejectedRow(Answer, frozen=True):
    """A row that was not taken; it is kept in quarantine with the reason."""

    row: Annotated[int, Meta(description="Counts from 0.")]
    field: str | None
    reason: str


class EventsAnswer(Answer, frozen=True):
    """What became of the rows; those accepted are durable in the log when this is answered."""

    accepted: int
    repeated: int
    rejected: list[RejectedRow]
    position: Annotated[Position, Meta(description="The highest log position; 0 if none was taken.")]
    event_ids: Annotated[list[EventId | None], Meta(description="One a row; null where rejected.")]


class SimilarRequest(Address, frozen=True):
    """Which item's neighbours."""

    item_id: Annotated[Identifier, Meta(description="Percent-encoded.")]
    k: Count = 10

    def __post_init__(self) -> None:
        _spelt(self, "item_id")


class SimilarItem(Answer, frozen=True):
    """An item and how like it is to the one asked for."""

    item_id: ItemId
    title: Title | None
    similarity: Annotated[float, Meta(description="The cosine of the vectors, -1 to 1 (alike).", examples=[0.93])]


class SimilarAnswer(Answer, frozen=True):
    """The items nearest to one, the nearest first; the item itself is not among them."""

    item_id: ItemId
    title: Title | None
    model_version: Annotated[Version, Meta(description="Whose vectors were compared.")]
    items: list[SimilarItem]


class PopularRequest(Address, frozen=True):
    """How much of what is popular."""

    k: Count = 10


class PopularItem(Answer, frozen=True):
    """An item and how popular it is; scores are to be compared within one answer only."""

    item_id: ItemId
    title: Title | None
    score: Annotated[
        float,
        Meta(
            description="`champion`: recent use, at most 1; `log`: the logarithm of how many more like it.",
            examples=[1.0],
        ),
    ]


class PopularAnswer(Answer, frozen=True):
    """What is popular now, the most popular first."""

    counted_by: Annotated[str, Meta(description="`champion`, or `log` while none is loaded.", examples=["champion"])]
    model_version: Annotated[Version | None, Meta(description="Null without a model.")]
    items: list[PopularItem]


class StateRequest(Address, frozen=True):
    """Whose state, and how much of it."""

    user_id: Annotated[Identifier, Meta(description="Percent-encoded.")]
    limit: Annotated[int, Meta(ge=0, le=200, description="How many latest events.")] = 50

    def __post_init__(self) -> None:
        _spelt(self, "user_id")


class RecentEvent(Answer, frozen=True):
    """One event of a user, as the model sees it."""

    event_id: EventId
    item_id: ItemId
    title: Title | None
    kind: Annotated[str, Meta(examples=["like"])]
    value: float | None
    event_timestamp: Time
    position: Annotated[Position, Meta(description="Its place in the log.")]
    retracted: Annotated[bool, Meta(description="Whether the user took it back.")]


class StateAnswer(Answer, frozen=True):
    """What is known of a user as of now; of somebody unknown, nothing: the position is 0."""

    user_id: UserId
    position: Annotated[Position, Meta(description="The log position of the last event.")]
    events: Annotated[int, Meta(description="How many in all.")]
    first_event_at: Time | None
    last_event_at: Time | None
    recent: Annotated[list[RecentEvent], Meta(description="The latest, newest first.")]
    seen: Annotated[int, Meta(description="How many items will not come back.")]
    counts: Annotated[
        dict[str, int], Meta(description="Events by kind, over the last 64 active days.", examples=[{"like": 1}])
    ]
    attributes: dict[str, Any]
    snapshot_position: Annotated[Position, Meta(description="The snapshot's log position; 0: none.")]
    snapshot_from: Annotated[
        str | None, Meta(description="`process` or `features`: who had the snapshot.", examples=["features"])
    ]
    tail: Annotated[int, Meta(description="How many later events the log added.")]
    degraded: Annotated[
        list[str],
        Meta(description="Unread sources: `features` costs nothing, `event_log` recent events.", examples=[[]]),
    ]


_READABLE = {"pattern": r"^[^\x00]*$(?![\s\S])"}
_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean", "null"], **_READABLE}
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
    "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
}
"""What the row rules and ``serving.items`` let pass, as JSON Schema."""

Attributes = Annotated[
    dict[str, Any], Meta(examples=[{"title": "The Shawshank Redemption", "year": 1994, "genres": ["Crime", "Drama"]}])
]


class ItemBody(Body, frozen=True):
    """What is said of an item."""

    attributes: Annotated[
        Attributes,
        Meta(
            description="At most 200: text, 64-bit numbers, truth values, or lists of these. Known names: `title`,"
            " `genres`, `year`, `available`, `retired`.",
            extra_json_schema=_ATTRIBUTES,
        ),
    ]
    event_id: RequestEvent = None


class ItemRequest(Address, frozen=True):
    """Which item."""

    item_id: Annotated[Identifier, Meta(description="Percent-encoded.")]

    def __post_init__(self) -> None:
        _spelt(self, "item_id")


class RetireRequest(ItemRequest, frozen=True):
    """Which item, and the id of the event."""

    event_id: RequestEvent = None


class ItemAnswer(Answer, frozen=True):
    """What is known of the item from now on is durable in the log when this is answered."""

    item_id: ItemId
    attributes: Annotated[Attributes, Meta(description="All that is now known.")]
    event_id: EventId
    position: Position
    status: Status


class ItemKnown(Answer, frozen=True):
    """What is known of an item."""

    item_id: ItemId
    attributes: Annotated[Attributes, Meta(description="From the latest event about it.")]
    position: Annotated[Position, Meta(description="That event's log position.")]
    shown: Annotated[bool, Meta(description="Neither out of stock nor retired.")]
    learned: Annotated[bool, Meta(description="Whether the model was trained on it.")]


class ModelAnswer(Answer, frozen=True):
    """What is answering now; everything after the first three is null without a champion."""

    endpoint: Annotated[str, Meta(examples=["default"])]
    log_id: Annotated[EventId, Meta(description="A random name of the event log, kept in backups.")]
    served_by: ServedBy
    version: Version | None
    previous: Version | None
    fence: int | None
    promoted_at: Time | None
    loaded_at: Time | None
    items: int | None
    config: Annotated[dict[str, Any] | None, Meta(examples=[{"format": "attune-bundle/1"}])]


class Fault(Answer, frozen=True):
    """What was wrong and what to do, and the field at fault if it is one field."""

    message: Annotated[str, Meta(examples=["k: Expected `int` <= 100"])]
    field: Annotated[str | None, Meta(examples=["k"])] = None
    request_id: Annotated[
        str | None,
        Meta(description="As in `X-Request-Id` and the endpoint's log.", examples=["9f86d081884c7d659a2feaa0"]),
    ] = None


class BatchEntry(Answer, frozen=True):
    """What became of one request of a batch: either is null."""

    slate: RecommendAnswer | None
    error: Fault | None


class BatchAnswer(Answer, frozen=True):
    """The answers, in the order of the requests."""

    answers: list[BatchEntry]


class ErrorAnswer(Answer, frozen=True):
    """Every answer other than 2xx."""

    error: Fault


Decoded = TypeVar("Decoded")

_PATH = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<path>.*)`$")
_NAMED = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<field>[^`]*)`$")


def decode(body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[Decoded]") -> Decoded:
    """The body as the decoder's type; raises DataContractError naming the field (``body`` for the whole)."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _contract_error(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataContractError(f"body: not valid JSON: {error}", "body") from error
    except RecursionError as error:
        raise DataContractError("body: nested too deeply", "body") from error


def convert(parameters: dict[str, str], wanted: type[Decoded]) -> Decoded:
    """The parameters of an address as a type; raises DataContractError naming the field."""
    try:
        return msgspec.convert(parameters, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _contract_error(str(error)) from error


def _contract_error(message: str) -> DataContractError:
    placed = _PATH.match(message)
    what, path = (placed["what"], placed["path"]) if placed else (message, "")
    named = _NAMED.match(what)
    field = ".".join(part for part in (path, named["field"] if named else "") if part) or "body"
    if "matching regex" in what:
        what = "Expected text without control characters or blanks around it"
    return DataContractError(f"{field}: {what}", field)


def _check_names(field: str, attributes: dict[str, Any]) -> None:
    """Raise DataContractError for too many attributes, or one with too long a name."""
    if len(attributes) > WHERE_ATTRIBUTES:
        raise DataContractError(f"{field}: {len(attributes)} attributes; at most {WHERE_ATTRIBUTES} are allowed", field)
    for name in attributes:
        if len(name) > VALUE_LIMIT:
            what = f"a name of {len(name)} characters; at most {VALUE_LIMIT} are allowed"
            raise DataContractError(f"{field}: {what}", field)


def _check_where(where: dict[str, Any]) -> None:
    """Raise DataContractError, naming the attribute, unless each has a value that items can hold, or a list of them."""
    _check_names("where", where)
    for attribute, wanted in where.items():
        field = f"where.{attribute}"
        values = wanted if isinstance(wanted, list) else [wanted]
        if not 0 < len(values) <= WHERE_VALUES:
            raise DataContractError(f"{field}: {len(values)} values; 1 to {WHERE_VALUES} are allowed", field)
        for value in values:
            if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > VALUE_LIMIT):
                rule = f"text of at most {VALUE_LIMIT} characters, a number or a truth value, or a list of these"
                raise DataContractError(f"{field}: expected {rule}", field)


def _check_at_most(at_most: dict[str, Any]) -> None:
    """Raise DataContractError, naming the attribute, unless each has a whole number of items, at least 1."""
    _check_names("at_most", at_most)
    for attribute, limit in at_most.items():
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= CAP_LIMIT:
            field = f"at_most.{attribute}"
            raise DataContractError(f"{field}: expected a whole number from 1 to 2^53 - 1", field)
