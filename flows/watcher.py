"""Follows the event log and announces new behaviour to Prefect: many events at once, or a few after a while.

    python -m flows.watcher

Once a minute it also replaces missed and crashed runs. Killing it costs time and nothing else: at its start everything
in the log counts as new, and the flow that its event starts reads the log from its own watermark.
"""

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException

from attune import process
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.follower import Follower
from attune.settings import Settings
from flows import resources
from flows.automations import BATCH, LOG, post
from flows.missed_runs import catch_up

log = logging.getLogger(__name__)

BEHAVIOUR = ("interaction", "feedback")
POLL_SECONDS = 1.0
CATCH_UP_SECONDS = 60.0


@dataclass
class Debounce:
    """When a growing log is worth an announcement: ``at_once`` new events, or any that waited ``longest`` seconds.

    However fast it grows, ``longest`` seconds lie between two announcements.
    """

    at_once: int
    longest: float
    announced: int = 0
    waiting_since: float | None = None
    announced_at: float = float("-inf")

    def due(self, new: int, now: float) -> bool:
        """Whether to announce, given how many events came after ``announced``; ``now`` is a monotonic second."""
        if new == 0:
            self.waiting_since = None
            return False
        if self.waiting_since is None:
            self.waiting_since = now
        waited = now - self.waiting_since >= self.longest
        return waited or (new >= self.at_once and now - self.announced_at >= self.longest)

    def announce(self, upto: int, now: float) -> None:
        """Note that everything up to a position was announced."""
        self.announced, self.waiting_since, self.announced_at = upto, None, now


class Watcher:
    """Polls the log; announces to Prefect over HTTP, whose answer says that the announcement arrived."""

    def __init__(self, event_log: EventLog, client: SyncPrefectClient, settings: Settings) -> None:
        self._log, self._client, self._settings = event_log, client, settings
        self._debounce = Debounce(settings.batch_events, settings.batch_seconds)
        self._checked = time.monotonic()

    def step(self) -> bool:
        """Look once; True when a batch was announced. Raises what the log or Prefect raise: nothing is forgotten."""
        head = self._log.head()
        new = self._log.number_after(self._debounce.announced, BEHAVIOUR) if head > self._debounce.announced else 0
        if new == 0:
            self._debounce.announced = head  # slates and items announce nothing
        announced = self._debounce.due(new, time.monotonic())
        if announced:
            post(self._client, BATCH, LOG, {"events": new, "position": head})
            log.info("announced %d new events up to position %d", new, head)
            self._debounce.announce(head, time.monotonic())
        if time.monotonic() - self._checked >= CATCH_UP_SECONDS:
            self._checked = time.monotonic()
            catch_up(self._client)
        return announced

    def run(self, stop: threading.Event) -> None:
        """Step until ``stop`` is set; a log or a Prefect that does not answer is waited out."""
        Follower(
            "the watcher",
            self.step,
            POLL_SECONDS,
            errors=(EventLogError, httpx.HTTPError, PrefectException),
            heartbeat=partial(process.write_heartbeat, self._settings, "watcher"),
            stop=stop,
        ).run()


def main() -> None:
    """Follow the log until TERM or INT."""
    stop = process.stop_on_signals()
    process.set_up_logging()
    settings = Settings()
    with resources.event_log(settings) as event_log, get_client(sync_client=True) as client:
        Watcher(event_log, client, settings).run(stop)


if __name__ == "__main__":
    main()
