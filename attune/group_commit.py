"""Many callers, one writer: what they hand over at about the same time is logged in one transaction.

A commit costs one write to the disk, whether it holds one event or five hundred. While the writer waits for the disk,
the next group gathers; nobody waits for a group to fill. Two kinds of callers share it:

- ``submit``: the caller waits, and is told only once its events are durable. It cannot be called off any more: a
  client that goes away leaves its events in the log. Its failure is its own: an event that cannot be stored fails no
  other caller's.
- ``offer``: the caller does not wait (slates). What is offered is kept until the log takes it, within bounds.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from attune.errors import DataContractError, LogBusy
from attune.event_log import BASE, AppendResult, EventLog
from attune.events import LIVE, AnyEvent, to_row

log = logging.getLogger(__name__)

GROUP_EVENTS = 2_000
"""So many events of callers who wait go into one transaction, at least one caller's."""

GATHER_SECONDS = 0.025
"""How long what was only offered may wait for company; well below the 50 ms of it that a crash may cost."""

OFFERED_EVENTS = 128
RETRY_SECONDS = 0.1

Note = Callable[[str, int], None]
"""Told how many offered events were ``written``, ``retried`` or ``lost``."""


@dataclass
class _Submitted:
    rows: list[dict[str, Any]]
    answer: Future[AppendResult] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.answer.set_running_or_notify_cancel()  # from here on nobody can cancel it


class GroupCommit:
    """A thread that appends to one log; ``waiting`` and ``offered`` bound what may wait for it, in events."""

    def __init__(
        self, event_log: EventLog, note: Note = lambda status, events: None, waiting: int = 20_000, offered: int = 1_000
    ) -> None:
        self._log = event_log
        self._note = note
        self._waiting, self._offered = waiting, offered
        self._submissions: deque[_Submitted] = deque()
        self._submitted_events = 0
        self._offers: deque[AnyEvent] = deque()
        self._offered_at = 0.0
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="attune-commit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def offers(self) -> int:
        """How many offered events wait."""
        return len(self._offers)

    def submit(self, events: Sequence[AnyEvent], base: int | None = None) -> Future[AppendResult]:
        """What became of these events, once they are durable; the answer may raise what ``EventLog.append`` raises.

        Interactions are noted as live. With ``base`` each is a version of an item made from the one at that position,
        see ``EventLog.append_rows``.
        Raises LogBusy at once when too many events wait already or the writer is closed, DataContractError for an
        event that cannot be stored.
        """
        submitted = _Submitted([to_row(event) if base is None else to_row(event) | {BASE: base} for event in events])
        for row in submitted.rows:
            if row["type"] == "interaction":
                row["payload"] = LIVE
        with self._changed:
            if self._closing_at is not None:
                raise LogBusy("the event log's writer has been closed; nothing was written: repeat the call")
            if self._submissions and self._submitted_events + len(events) > self._waiting:
                raise LogBusy(
                    f"{self._submitted_events} events wait for the event log already; nothing was written: repeat the "
                    "call in a moment"
                )
            self._submissions.append(submitted)
            self._submitted_events += len(events)
            self._changed.notify()
        return submitted.answer

    def offer(self, event: AnyEvent) -> bool:
        """Keep the event for the log; False when too many wait already or the writer is closed. Never blocks."""
        with self._changed:
            if self._closing_at is not None or len(self._offers) >= self._offered:
                return False
            if not self._offers:
                self._offered_at = time.monotonic()
                self._changed.notify()
            self._offers.append(event)
        return True

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for at most so long; what is left then is refused, or counted as lost."""
        with self._changed:
            self._closing_at = time.monotonic() + seconds
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds + 1.0)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            submissions, offers = taken
            if not self._commit(submissions, offers) and self._wait_or_end():
                return

    def _take(self) -> tuple[list[_Submitted], list[AnyEvent]] | None:
        """The next group; None when closing and nothing is left."""
        with self._changed:
            while not self._due():
                if self._closing_at is not None and not self._offers:
                    return None
                left = self._offered_at + GATHER_SECONDS - time.monotonic()
                self._changed.wait(max(left, 0.0) if self._offers else None)
            submissions: list[_Submitted] = []
            size = 0
            while self._submissions and (not submissions or size + len(self._submissions[0].rows) <= GROUP_EVENTS):
                submissions.append(self._submissions.popleft())
                size += len(submissions[-1].rows)
            self._submitted_events -= size
            offers = [self._offers.popleft() for _ in range(min(len(self._offers), OFFERED_EVENTS))]
            self._offered_at = time.monotonic()
        return submissions, offers

    def _due(self) -> bool:
        if self._submissions:
            return True
        in_time = time.monotonic() < self._offered_at + GATHER_SECONDS and len(self._offers) < OFFERED_EVENTS
        return bool(self._offers) and (self._closing_at is not None or not in_time)

    def _commit(self, submissions: list[_Submitted], offers: list[AnyEvent]) -> bool:
        """Write a group and answer its callers; False when the log refused what was offered, which is kept."""
        rows, storable = [], []
        for offer in offers:
            try:
                rows.append(to_row(offer))
                storable.append(offer)
            except DataContractError as error:
                log.error("%s", error)
        self._note("lost", len(offers) - len(storable))
        groups = [submission.rows for submission in submissions] + ([rows] if rows else [])
        try:
            appended = self._log.append_rows(groups)
        except DataContractError as error:
            return self._commit_apart(submissions, storable, error)
        except Exception as error:  # whatever it is, nobody must wait for ever
            for submission in submissions:
                submission.answer.set_exception(error)
            if not storable:
                return True
            with self._changed:
                self._offers.extendleft(reversed(storable))
            self._note("retried", len(storable))
            log.warning("%d slates wait for the event log: %s", len(storable), error)
            return False
        for submission, answer in zip(submissions, appended, strict=False):
            submission.answer.set_result(answer)
        self._note("written", len(storable))
        return True

    def _commit_apart(self, submissions: list[_Submitted], offers: list[AnyEvent], error: DataContractError) -> bool:
        """One at a time, so that what the database refuses costs nobody else anything."""
        if len(submissions) + len(offers) == 1:
            for submission in submissions:
                submission.answer.set_exception(error)
            self._note("lost", len(offers))
            return True
        done = [self._commit([submission], []) for submission in submissions]
        return all(done + [self._commit([], [offer]) for offer in offers])

    def _wait_or_end(self) -> bool:
        """A pause after a failure; True when there is no time left for another try."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._submissions), RETRY_SECONDS)
            if self._closing_at is None or time.monotonic() < self._closing_at:
                return False
            lost, refused = len(self._offers), list(self._submissions)
            self._offers.clear()
            self._submissions.clear()
        for submission in refused:
            submission.answer.set_exception(LogBusy("the event log's writer has been closed; nothing was written"))
        self._note("lost", lost)
        log.error("%d slates could not be written before the process had to end", lost)
        return True
