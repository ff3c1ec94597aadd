"""What everything that is taken in has in common: it is durable before it is acknowledged, and nothing is lost."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from attune.door import Rejected
from attune.event_log import Appended, EventLog
from attune.events import AnyEvent
from attune.group_commit import GroupCommit
from serving.lanes import Lane, Overloaded
from serving.metrics import Metrics
from serving.rows import TIME, same_but_time


async def durable(commit: GroupCommit, writes: Lane, events: Sequence[AnyEvent], base: int | None = None) -> Appended:
    """What became of the events, once they are on the disk; ``base`` as in ``GroupCommit.submit``.

    A client that goes away calls nothing off. After ``writes.seconds`` nobody waits any longer, whatever becomes
    of the events: sent again under their ids they count once.
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

    A retry without a time is given a new one, and must be a repeat all the same.
    """
    if row.get(TIME) is not None:
        return 0
    logged = event_log.find(event.event_id)
    return logged.position if logged is not None and same_but_time(logged.event, event) else 0


def keep_rejected(
    event_log: EventLog, metrics: Metrics, type_name: str, source: str, rejected: Sequence[Rejected]
) -> None:
    """Rows that were turned away into quarantine, counted; every call is a source of its own."""
    if not rejected:
        return
    event_log.quarantine(type_name, f"{source}#{secrets.token_hex(6)}", rejected)
    for row in rejected:
        metrics.quarantined.labels(row.field or "row").inc()
    if type_name != "interaction":
        metrics.events.labels(type_name, "rejected").inc(len(rejected))


def conflict(event: AnyEvent) -> str:
    """Why an event is refused whose id is taken."""
    return f"event_id: {event.event_id!r} is in the log already with other content; send a new event under a new id"
