"""What comes back from users: each row to the door, then into the log; acknowledged only once it is durable.

A row that a rule turns away is put into quarantine before anything else is written: if that fails, nothing was
taken, and the sender repeats the request. Every request is a source of its own, so equal bad rows stay as many.
"""

import logging
import secrets
from collections.abc import Sequence
from typing import Any

from attune.clock import Clock
from attune.door import Rejected
from attune.errors import DataContractError, EventLogError
from attune.event_log import EventLog
from attune.events import Behaviour, Feedback, Logged, Slate
from serving.errors import Refused
from serving.lanes import Lane
from serving.metrics import Metrics
from serving.rows import TIME, admit_feedback, admit_rows, same_but_time
from serving.schemas import EventsAnswer, FeedbackAnswer, RejectedRow
from serving.slates import Signer

log = logging.getLogger(__name__)

Row = dict[str, Any]

FEEDBACK_SOURCE = "http:/v1/feedback"
EVENTS_SOURCE = "http:/v1/events"


class Accepting:
    """Takes feedback and events; ``writes`` is the lane of the blocking parts."""

    def __init__(self, event_log: EventLog, signer: Signer, metrics: Metrics, clock: Clock, writes: Lane) -> None:
        self._log = event_log
        self._signer = signer
        self._metrics = metrics
        self._clock = clock
        self._writes = writes

    async def feedback(self, row: Row) -> FeedbackAnswer:
        """Take one reaction; raises DataContractError (422), Refused (409) or EventLogError (503)."""
        return await self._writes.run(self._take_feedback, row)

    async def events(self, rows: Sequence[Row]) -> EventsAnswer:
        """Take many rows, each on its own; a single row that is refused raises as ``feedback`` does."""
        return await self._writes.run(self._take_events, rows)

    def _take_feedback(self, row: Row) -> FeedbackAnswer:
        try:
            event = admit_feedback(row, self._clock)
            self._signer.verify(event.slate_id, event.user_id)
            _check_shown(event, self._log.slate(event.slate_id))
        except DataContractError as error:
            self._quarantine("feedback", FEEDBACK_SOURCE, [Rejected(0, row, error.field, str(error))])
            raise
        appended = self._log.append([event])
        position = appended.positions[0] or self._known_position(row, event)
        if not position:
            self._metrics.events.labels("feedback", "conflict").inc()
            raise Refused(409, _conflict(event), "event_id")
        status = "accepted" if appended.accepted else "repeated"
        self._metrics.events.labels("feedback", status).inc()
        if appended.accepted:
            self._metrics.feedback.labels(event.kind).inc()
        return FeedbackAnswer(event_id=event.event_id, position=position, status=status)

    def _take_events(self, rows: Sequence[Row]) -> EventsAnswer:
        admitted, rejected = admit_rows(rows, self._clock)
        self._quarantine("interaction", EVENTS_SOURCE, rejected)
        if len(rows) == 1 and rejected:
            raise DataContractError(rejected[0].reason, rejected[0].field)
        appended = self._log.append([event for _, event in admitted])
        positions = list(appended.positions)
        repeated = appended.repeated
        conflicts: list[Rejected] = []
        for at in appended.conflicts:
            place, event = admitted[at]
            positions[at] = self._known_position(rows[place], event)
            if positions[at]:
                repeated += 1
            else:
                conflicts.append(Rejected(place, rows[place], "event_id", _conflict(event)))
        self._count(appended.accepted, repeated, len(rejected), len(conflicts))
        if len(rows) == 1 and conflicts:
            raise Refused(409, conflicts[0].reason, "event_id")
        self._keep_conflicts(conflicts)
        taken = {place: event.event_id for (place, event), at in zip(admitted, positions, strict=True) if at}
        return EventsAnswer(
            accepted=appended.accepted,
            repeated=repeated,
            rejected=[RejectedRow(row=r.row_number, field=r.field, reason=r.reason) for r in rejected + conflicts],
            position=max(positions, default=0),
            event_ids=[taken.get(place) for place in range(len(rows))],
        )

    def _known_position(self, row: Row, event: Behaviour) -> int:
        """Where the log has this very event when the sender left its time to us; 0 when it has another.

        A retry without a time is given a new one, and must be a repeat all the same.
        """
        if row.get(TIME) is not None:
            return 0
        for logged in self._log.tail(event.user_id, 0):
            if logged.event.event_id == event.event_id and same_but_time(logged.event, event):
                return logged.position
        return 0

    def _quarantine(self, type_name: str, source: str, rejected: Sequence[Rejected]) -> None:
        if not rejected:
            return
        self._log.quarantine(type_name, f"{source}#{secrets.token_hex(6)}", rejected)
        for row in rejected:
            self._metrics.quarantined.labels(row.field or "row").inc()
        if type_name == "feedback":
            self._metrics.events.labels("feedback", "rejected").inc(len(rejected))

    def _keep_conflicts(self, conflicts: Sequence[Rejected]) -> None:
        """Quarantine after the append: a failure here must not make the sender repeat what is durable already."""
        try:
            self._quarantine("interaction", EVENTS_SOURCE, conflicts)
        except EventLogError as error:
            log.warning("%d rows with taken event ids could not be kept in quarantine: %s", len(conflicts), error)

    def _count(self, accepted: int, repeated: int, rejected: int, conflicts: int) -> None:
        counts = {"accepted": accepted, "repeated": repeated, "rejected": rejected, "conflict": conflicts}
        for status, count in counts.items():
            self._metrics.events.labels("interaction", status).inc(count)


def _check_shown(event: Feedback, logged: Logged | None) -> None:
    """A slate that is not in the log yet is believed by its signature; the rest is joined later."""
    if logged is None or not isinstance(logged.event, Slate):
        return
    if all(item.item_id != event.item_id for item in logged.event.shown):
        raise DataContractError(f"item_id: {event.item_id!r} is not on slate {event.slate_id}", "item_id")


def _conflict(event: Behaviour) -> str:
    return f"event_id: {event.event_id!r} is in the log already with other content; send a new event under a new id"
