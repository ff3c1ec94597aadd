"""The loop of whatever follows the event log: a step at a time, a pause when nothing is new, longer ones after errors.

A step takes in one batch of what lies after its position. Each follower keeps that position itself, beside what it
makes of the log: the state keeper in its watermark, the item profile in its sums, the watcher in what it announced.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from attune.errors import AttuneError, EventLogError

logger = logging.getLogger(__name__)


@dataclass
class Follower:
    """Repeats ``step`` until ``stop`` is set, in the caller's thread (``run``) or in one of its own (``start``).

    ``step`` says whether more waits: then the next one follows at once (with a ``busy_share`` below 1 after a rest, so
    that steps take no larger share of the time), else after ``poll_seconds``. The ``errors`` are waited out, each pause
    twice as long as the last up to ``longest_pause`` seconds; other errors end ``run``. ``heartbeat`` is called before
    every step.
    """

    name: str
    step: Callable[[], bool]
    poll_seconds: float
    errors: tuple[type[Exception], ...] = (EventLogError,)
    longest_pause: float = 30.0
    busy_share: float = 1.0
    heartbeat: Callable[[], None] = lambda: None
    stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = field(default=None, init=False)

    def run(self) -> None:
        """Step until ``stop`` is set. An error is logged when it first comes, and again when another one follows."""
        back_off, failure = self.poll_seconds, ""
        while not self.stop.is_set():
            self.heartbeat()
            started = time.monotonic()
            try:
                more = self.step()
            except self.errors as error:
                pause = back_off = min(2 * back_off, self.longest_pause)
                if failure != str(error):
                    unforeseen = None if isinstance(error, AttuneError) else error
                    logger.warning("%s failed and will try again: %s", self.name, error, exc_info=unforeseen)
                failure = str(error)
            else:
                if failure:
                    logger.info("%s works again", self.name)
                back_off, failure = self.poll_seconds, ""
                pause = (time.monotonic() - started) * (1 / self.busy_share - 1) if more else self.poll_seconds
            if pause:
                self.stop.wait(pause)

    def start(self) -> None:
        """Run in a thread of this process, which it does not keep alive."""
        self._thread = threading.Thread(target=self.run, name=f"attune {self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Set ``stop`` and wait for the thread, ten seconds at most."""
        self.stop.set()
        if self._thread:
            self._thread.join(10.0)
