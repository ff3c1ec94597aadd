"""What the endpoint answers, as its clients decode it; a field that a later endpoint adds does no harm.

Times are ISO 8601. The tables of ``docs/reference/http.md`` describe the same fields.
"""

from typing import Any

import msgspec


class ShownItem(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a slate (from 1); the propensity is conditional on the items above it."""

    item_id: str
    title: str | None
    position: int
    score: float
    propensity: float


class RecommendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A slate and how it came about.

    ``slate_id`` is None when the slate could not be logged: there is nothing to give feedback on. ``served_by`` is
    ``champion`` or ``popularity``, ``model_version`` None without a model. ``state_position`` is the log position up
    to which the user's events are reflected, 0 for somebody unknown. ``degraded`` names what could not be read:
    ``features`` costs nothing, ``event_log`` the user's latest events.
    """

    slate_id: str | None
    user_id: str
    items: list[ShownItem]
    model_version: str | None
    served_by: str
    state_position: int
    policy: dict[str, Any]
    degraded: list[str]


class FeedbackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The event is durable; ``status`` is ``accepted``, or ``repeated`` when the log had it already."""

    event_id: str
    position: int
    status: str


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was not taken; ``row`` counts from 0 over all the rows given."""

    row: int
    field: str | None
    reason: str


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows, each accepted, repeated or rejected.

    ``position`` is the highest log position among them (0: none was taken), ``event_ids`` has one a row, None where
    it was rejected.
    """

    accepted: int
    repeated: int
    rejected: list[RejectedRow]
    position: int
    event_ids: list[str | None]


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What answers now; everything after the first three is None without a champion. Times are ISO 8601.

    ``log_id`` says which event log the endpoint reads and writes (``EventLog.log_id``).
    """

    endpoint: str
    log_id: str
    served_by: str
    version: str | None
    previous: str | None
    fence: int | None
    promoted_at: str | None
    loaded_at: str | None
    items: int | None
    config: dict[str, Any] | None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong, the field at fault (None: no single one), and how the endpoint's log names the request."""

    message: str
    field: str | None = None
    request_id: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer other than 2xx."""

    error: Fault


class BatchEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request among many: either is None."""

    slate: RecommendAnswer | None
    error: Fault | None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many requests, in their order."""

    answers: list[BatchEntry]


class ItemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an item from now on, durable at ``position``; ``repeated`` when the log had it already."""

    item_id: str
    attributes: dict[str, Any]
    event_id: str
    position: int
    status: str


class ItemKnown(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an item, as the event at ``position`` says.

    ``shown`` says whether it may be on a slate, ``learned`` whether the model that answers met it in its training.
    """

    item_id: str
    attributes: dict[str, Any]
    position: int
    shown: bool
    learned: bool


class SimilarItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item and how like it is to the one asked for: the cosine of the model's vectors."""

    item_id: str
    title: str | None
    similarity: float


class SimilarAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The items nearest to one, the nearest first; the item itself is not among them."""

    item_id: str
    title: str | None
    model_version: str
    items: list[SimilarItem]


class PopularItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item and how popular it is; scores are to be compared within one answer only."""

    item_id: str
    title: str | None
    score: float


class PopularAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is popular now, the most popular first; ``counted_by`` is ``champion``, or ``log`` without a model."""

    counted_by: str
    model_version: str | None
    items: list[PopularItem]


class RecentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a user; ``retracted`` says that it was taken back."""

    event_id: str
    item_id: str
    title: str | None
    kind: str
    value: float | None
    event_timestamp: str
    position: int
    retracted: bool


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a user as of now; of somebody unknown, nothing: ``position`` is 0.

    ``recent`` has the latest event first, ``seen`` counts items, ``counts`` events by kind. It was folded up to
    ``snapshot_position`` before, by ``snapshot_from``, and ``tail`` events of the log came on top.
    """

    user_id: str
    position: int
    events: int
    first_event_at: str | None
    last_event_at: str | None
    recent: list[RecentEvent]
    seen: int
    counts: dict[str, int]
    attributes: dict[str, Any]
    snapshot_position: int
    snapshot_from: str | None
    tail: int
    degraded: list[str]
