"""What comes back from users: each row to the door, then into the log; acknowledged only once it is durable.

A row that a rule turns away is put into quarantine before anything else is written: if that fails, nothing was
taken, and the sender repeats the request. Every request is a source of its own, so equal bad rows stay as many.
"""

import logging
from collections.abc import Sequence
from typing import Any

from attune.clock import Clock
from attune.door import Rejected
from attune.errors import DataContractError, EventLogError
from attune.event_log import Appended, EventLog
from attune.events import Feedback, Interaction, Slate
from attune.group_commit import GroupCommit
from serving.acknowledging import conflict, durable, keep_rejected, known_position
from serving.errors import Refused
from serving.lanes import Lane
from serving.metrics import Metrics
from serving.rows import admit_feedback, admit_rows
from serving.schemas import EventsAnswer, FeedbackAnswer, RejectedRow
from serving.slates import RecentSlates, Signer

log = logging.getLogger(__name__)

Row = dict[str, Any]

FEEDBACK_SOURCE = "http:/v1/feedback"
EVENTS_SOURCE = "http:/v1/events"
INLINE_ROWS = 10


class Accepting:
    """Takes feedback and events; ``writes`` is the lane of what blocks, ``commit`` makes durable."""

    def __init__(
        self,
        event_log: EventLog,
        commit: GroupCommit,
        signer: Signer,
        recent: RecentSlates,
        metrics: Metrics,
        clock: Clock,
        writes: Lane,
    ) -> None:
        self._log = event_log
        self._commit = commit
        self._signer = signer
        self._recent = recent
        self._metrics = metrics
        self._clock = clock
        self._writes = writes

    async def feedback(self, row: Row) -> FeedbackAnswer:
        """Take one reaction; raises DataContractError (422), Refused (409), EventLogError or Overloaded (503)."""
        try:
            event = admit_feedback(row, self._clock)
            self._signer.verify(event.slate_id, event.user_id)
            _check_shown(event, await self._shown(event.slate_id))
        except DataContractError as error:
            rejected = [Rejected(0, row, error.field, str(error))]
            await self._writes.run(self._quarantine, "feedback", FEEDBACK_SOURCE, rejected)
            raise
        appended = await durable(self._commit, self._writes, [event])
        position = appended.positions[0] or await self._writes.run(known_position, self._log, row, event)
        if not position:
            self._metrics.events.labels("feedback", "conflict").inc()
            raise Refused(409, conflict(event), "event_id")
        status = "accepted" if appended.accepted else "repeated"
        self._metrics.events.labels("feedback", status).inc()
        if appended.accepted:
            self._metrics.feedback.labels(event.kind).inc()
            self._metrics.effect.acknowledged(event.user_id, position)
        return FeedbackAnswer(event_id=event.event_id, position=position, status=status)

    async def events(self, rows: Sequence[Row]) -> EventsAnswer:
        """Take many rows, each on its own; a single row that is refused raises as ``feedback`` does."""
        admitted, rejected = await self._admitted(rows)
        if rejected:
            await self._writes.run(self._quarantine, "interaction", EVENTS_SOURCE, rejected)
        if len(rows) == 1 and rejected:
            raise DataContractError(rejected[0].reason, rejected[0].field)
        appended = await durable(self._commit, self._writes, [event for _, event in admitted])
        positions = list(appended.positions)
        conflicts: list[Rejected] = []
        if appended.conflicts:
            conflicts = await self._writes.run(self._told_apart, rows, admitted, appended, positions)
        repeated = sum(map(bool, positions)) - appended.accepted
        self._count(appended.accepted, repeated, len(rejected), len(conflicts))
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

    async def _admitted(self, rows: Sequence[Row]) -> tuple[list[tuple[int, Interaction]], list[Rejected]]:
        """A large batch is looked at on a thread of its own, so that it holds nobody up."""
        if len(rows) <= INLINE_ROWS:
            return admit_rows(rows, self._clock)
        return await self._writes.run(admit_rows, rows, self._clock)

    async def _shown(self, slate_id: str) -> tuple[str, ...] | None:
        """The items of a slate; None when it is not in the log yet: then its signature is believed."""
        return self._recent.items(slate_id) or await self._writes.run(self._logged_items, slate_id)

    def _logged_items(self, slate_id: str) -> tuple[str, ...] | None:
        logged = self._log.slate(slate_id)
        if logged is None or not isinstance(logged.event, Slate):
            return None
        return tuple(one.item_id for one in logged.event.shown)

    def _told_apart(
        self, rows: Sequence[Row], admitted: Sequence[tuple[int, Interaction]], appended: Appended, positions: list[int]
    ) -> list[Rejected]:
        """Of the events whose ids were taken: the repeats get their ``positions``, the others go to quarantine."""
        conflicts: list[Rejected] = []
        for at in appended.conflicts:
            place, event = admitted[at]
            positions[at] = known_position(self._log, rows[place], event)
            if not positions[at]:
                conflicts.append(Rejected(place, rows[place], "event_id", conflict(event)))
        if len(rows) > 1:
            self._keep_conflicts(conflicts)
        return conflicts

    def _quarantine(self, type_name: str, source: str, rejected: Sequence[Rejected]) -> None:
        keep_rejected(self._log, self._metrics, type_name, source, rejected)

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


def _check_shown(event: Feedback, shown: tuple[str, ...] | None) -> None:
    if shown is not None and event.item_id not in shown:
        raise DataContractError(f"item_id: {event.item_id!r} is not on slate {event.slate_id}", "item_id")
