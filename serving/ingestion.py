"""What comes back from users: each row passes the row rules, goes into the log, and is acknowledged once it is durable.

A row that a rule refuses is put into quarantine before anything else is written: if that fails, nothing was taken, and
the sender repeats the request. Every request is a source of its own, so equal bad rows stay as many.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from attune.clock import Clock, from_datetime
from attune.errors import DataContractError, EventLogError
from attune.event_log import AppendResult, EventLog
from attune.events import AnyEvent, Behaviour, Feedback, Slate
from attune.group_commit import GroupCommit
from attune.row_rules import Rejection, admit
from attune.schemas import EventRow, EventsAnswer, EventsRequest, FeedbackAnswer, FeedbackRow, RejectedRow
from serving.authentication import EventLimit
from serving.error_responses import Refused
from serving.metrics import Metrics
from serving.micro_batcher import BoundedExecutor, Overloaded
from serving.slates import RecentSlates, SlateSigner

log = logging.getLogger(__name__)

Row = dict[str, Any]

TIME = "event_timestamp"
FIELDS = {"feedback": FeedbackRow.__struct_fields__, "interaction": EventRow.__struct_fields__}
FEEDBACK_SOURCE = "http:/v1/feedback"
EVENTS_SOURCE = "http:/v1/events"
INLINE_ROWS = 10  # more rows are checked on a thread of their own, so that they hold up no other request


def admit_row(type_name: str, row: Row, clock: Clock) -> AnyEvent:
    """The feedback or interaction that the row describes; raises DataContractError naming the field.

    Beside the row rules: times are ISO 8601 with a zone (now if absent), and a field that no row has is refused with
    the nearest name, because a misspelt optional field would otherwise be lost in silence.
    """
    fields = FIELDS[type_name]
    for name in row:
        if name not in fields:
            close = get_close_matches(name, fields, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise DataContractError(f"{name}: no such field{hint}; known are {', '.join(sorted(fields))}", name)
    raw = row.get(TIME)
    return admit(type_name, {**row, TIME: clock() if raw is None else parse_time(raw)}, clock)


def admit_rows(rows: Sequence[Row], clock: Clock) -> tuple[list[tuple[int, AnyEvent]], list[Rejection]]:
    """(the interactions, each with its place among the rows; the rows that were refused, with reasons)."""
    admitted: list[tuple[int, AnyEvent]] = []
    rejected: list[Rejection] = []
    for place, row in enumerate(rows):
        try:
            admitted.append((place, admit_row("interaction", row, clock)))
        except DataContractError as error:
            rejected.append(Rejection(place, row, error.field, str(error)))
    return admitted, rejected


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


def same_but_time(event: msgspec.Struct, other: msgspec.Struct) -> bool:
    """Whether two events differ in nothing but their time."""
    return type(event) is type(other) and replace(event, **{TIME: 0}) == replace(other, **{TIME: 0})


async def durable(
    commit: GroupCommit, writes: BoundedExecutor, events: Sequence[AnyEvent], base: int | None = None
) -> AppendResult:
    """What became of the events, once they are on the disk; ``base`` as in ``GroupCommit.submit``.

    A client that goes away cancels nothing. After ``writes.seconds`` the request is answered without waiting on: events
    that are sent again under their ids count once.
    """
    answer = asyncio.wrap_future(commit.submit(events, base))
    try:
        async with asyncio.timeout(writes.seconds):
            return await asyncio.shield(answer)
    except TimeoutError as error:
        raise Overloaded(
            f"the event log took longer than {writes.seconds:g} s; repeat the request with the same event ids"
        ) from error


def known_position(event_log: EventLog, row: Mapping[str, Any], event: AnyEvent) -> int:
    """Where the log has this very event when the sender left its time to us; 0 when it has another.

    A retry without a time gets a new time, and must count as a repeat all the same.
    """
    if row.get(TIME) is not None:
        return 0
    logged = event_log.find(event.event_id)
    return logged.position if logged is not None and same_but_time(logged.event, event) else 0


def quarantine(
    event_log: EventLog, metrics: Metrics, type_name: str, source: str, rejected: Sequence[Rejection]
) -> None:
    """Keep and count rows that were refused; every call is a source of its own."""
    if not rejected:
        return
    event_log.quarantine(type_name, f"{source}#{secrets.token_hex(6)}", rejected)
    for row in rejected:
        metrics.quarantined.labels(row.field or "row").inc()
    if type_name != "interaction":
        metrics.events.labels(type_name, "rejected").inc(len(rejected))


def conflict(event: AnyEvent) -> str:
    return f"event_id: {event.event_id!r} is in the log already with other content; send a new event under a new id"


@dataclass(frozen=True)
class IngestionService:
    """Takes feedback and events; ``commit`` makes them durable, ``writes`` runs what blocks."""

    event_log: EventLog
    commit: GroupCommit
    signer: SlateSigner
    recent: RecentSlates
    metrics: Metrics
    clock: Clock
    writes: BoundedExecutor
    limit: EventLimit = field(default_factory=EventLimit)

    async def feedback(self, body: Annotated[Row, FeedbackRow]) -> FeedbackAnswer:
        """Take one reaction; raises DataContractError (422), Refused (409), EventLogError or Overloaded (503)."""
        try:
            event = admit_row("feedback", body, self.clock)
            assert isinstance(event, Feedback)
            self.signer.verify(event.slate_id, event.user_id)
            shown = self.recent.items(event.slate_id) or await self.writes.run(self._logged_items, event.slate_id)
            if shown is not None and event.item_id not in shown:
                raise DataContractError(f"item_id: {event.item_id!r} is not on slate {event.slate_id}", "item_id")
        except DataContractError as error:
            rejected = [Rejection(0, body, error.field, str(error))]
            await self.writes.run(quarantine, self.event_log, self.metrics, "feedback", FEEDBACK_SOURCE, rejected)
            raise
        [event] = await self._renamed([event])
        assert isinstance(event, Feedback)
        appended = await durable(self.commit, self.writes, [event])
        position = appended.positions[0] or await self.writes.run(known_position, self.event_log, body, event)
        if not position:
            self.metrics.events.labels("feedback", "conflict").inc()
            raise Refused(409, conflict(event), "event_id")
        status = "accepted" if appended.accepted else "repeated"
        self.metrics.events.labels("feedback", status).inc()
        if appended.accepted:
            self.metrics.feedback.labels(event.kind).inc()
            self.metrics.effect.acknowledged(event.user_id, position)
        return FeedbackAnswer(event_id=event.event_id, position=position, status=status)

    async def events(self, body: EventsRequest) -> EventsAnswer:
        """Take many rows, each on its own; a single row that is refused raises as ``feedback`` does.

        Raises Refused (429) before any is taken where the sender's key has sent too many.
        """
        rows = body.events
        try:
            self.limit.take(len(rows))
        except Refused:
            self.metrics.events.labels("interaction", "limited").inc(len(rows))
            raise
        if len(rows) <= INLINE_ROWS:
            admitted, rejected = admit_rows(rows, self.clock)
        else:
            admitted, rejected = await self.writes.run(admit_rows, rows, self.clock)
        if rejected:
            await self.writes.run(quarantine, self.event_log, self.metrics, "interaction", EVENTS_SOURCE, rejected)
        if len(rows) == 1 and rejected:
            raise DataContractError(rejected[0].reason, rejected[0].field)
        events = await self._renamed([event for _, event in admitted])
        admitted = [(place, event) for (place, _), event in zip(admitted, events, strict=True)]
        appended = await durable(self.commit, self.writes, events)
        positions = list(appended.positions)
        conflicts: list[Rejection] = []
        if appended.conflicts:
            conflicts = await self.writes.run(self._settle_conflicts, rows, admitted, appended, positions)
        repeated = sum(map(bool, positions)) - appended.accepted
        counts = {"accepted": appended.accepted, "repeated": repeated}
        counts |= {"rejected": len(rejected), "conflict": len(conflicts)}
        for status, count in counts.items():
            self.metrics.events.labels("interaction", status).inc(count)
        if len(rows) == 1 and conflicts:
            raise Refused(409, conflicts[0].reason, "event_id")
        taken = {place: event.event_id for (place, event), at in zip(admitted, positions, strict=True) if at}
        return EventsAnswer(
            accepted=appended.accepted,
            repeated=repeated,
            rejected=[RejectedRow(row=r.row_number, field=r.field, reason=r.reason) for r in rejected + conflicts],
            position=max(positions, default=0),
            event_ids=[taken.get(place) for place in range(len(rows))],
        )

    async def _renamed(self, events: list[AnyEvent]) -> list[AnyEvent]:
        """The events; their take-backs name what a withdrawn import let stand again by its id of now."""
        backs = {event.retracts for event in events if isinstance(event, Behaviour) and event.retracts}
        current = await self.writes.run(self.event_log.current_ids, backs) if backs else {}
        for place, event in enumerate(events):
            if isinstance(event, Behaviour) and event.retracts:
                events[place] = replace(event, retracts=current[event.retracts])
        return events

    def _logged_items(self, slate_id: str) -> tuple[str, ...] | None:
        """The items of a slate; None while it is not in the log yet: then its signature is proof enough."""
        logged = self.event_log.slate(slate_id)
        if logged is None or not isinstance(logged.event, Slate):
            return None
        return tuple(item.item_id for item in logged.event.shown)

    def _settle_conflicts(
        self,
        rows: Sequence[Row],
        admitted: Sequence[tuple[int, AnyEvent]],
        appended: AppendResult,
        positions: list[int],
    ) -> list[Rejection]:
        """Of the events whose ids were taken, repeats get their ``positions``; the others are returned and quarantined.

        Quarantine comes after the append: its failure must not make the sender repeat what is durable already.
        """
        conflicts: list[Rejection] = []
        for at in appended.conflicts:
            place, event = admitted[at]
            positions[at] = known_position(self.event_log, rows[place], event)
            if not positions[at]:
                conflicts.append(Rejection(place, rows[place], "event_id", conflict(event)))
        if len(rows) > 1:
            try:
                quarantine(self.event_log, self.metrics, "interaction", EVENTS_SOURCE, conflicts)
            except EventLogError as error:
                log.warning("%d rows with taken event ids could not be quarantined: %s", len(conflicts), error)
        return conflicts
