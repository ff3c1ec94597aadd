"""Slate ids that only this installation can make, and the writer that logs slates off the answer's path.

An id is ``<random>.<signature>``; the signature is an HMAC-SHA256, cut to 128 bits, over the random part and the
user, so that feedback can be believed before its slate has reached the log: an invented id, or another user's,
does not verify.
"""

import base64
import hashlib
import hmac
import logging
import queue
import secrets
import threading
import time
from collections.abc import Sequence

from attune.errors import DataContractError, EventLogError
from attune.event_log import EventLog
from attune.events import Slate
from serving.metrics import Metrics

log = logging.getLogger(__name__)

RANDOM_BYTES = 16
SIGNATURE_BYTES = 16
GROUP_LIMIT = 64
GROUP_SECONDS = 0.02
"""How long the writer gathers slates for one append; well below the 50 ms of slates that a crash may cost."""

RETRY_SECONDS = 0.1


class Signer:
    """Makes and verifies slate ids with one secret key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new_id(self, user_id: str) -> str:
        """A slate id for this user: url-safe, 45 characters."""
        name = _text(secrets.token_bytes(RANDOM_BYTES))
        return f"{name}.{self._signature(name, user_id)}"

    def verify(self, slate_id: str, user_id: str) -> None:
        """Raise DataContractError unless this installation made the id for this user (in constant time)."""
        name, _, signature = slate_id.partition(".")
        expected = self._signature(name, user_id)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise DataContractError(
                "slate_id: not a slate that was made for this user; send the id and the user_id of /v1/recommend",
                "slate_id",
            )

    def _signature(self, name: str, user_id: str) -> str:
        message = name.encode() + b"\0" + user_id.encode()
        return _text(hmac.digest(self._key, message, hashlib.sha256)[:SIGNATURE_BYTES])


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SlateWriter:
    """A bounded queue and one thread that appends slates to the log in groups.

    While the log refuses, the group is kept and tried again; the queue fills up behind it, ``put`` says so, and
    the answer goes out without a slate id. ``close`` drains the queue.
    """

    def __init__(self, log: EventLog, metrics: Metrics, capacity: int = 1_000) -> None:
        self._log = log
        self._metrics = metrics
        self._queue: queue.Queue[Slate] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="attune-slates", daemon=True)
        metrics.slate_queue.set_function(self._queue.qsize)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, slate: Slate) -> bool:
        """Queue the slate for the log; False (and counted) when the queue is full. Never blocks."""
        try:
            self._queue.put_nowait(slate)
        except queue.Full:
            self._metrics.slates.labels("refused").inc()
            return False
        return True

    def close(self, seconds: float = 10.0) -> None:
        """Write what is queued, for at most so long; what is left then is counted as lost and logged."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds + 1.0)

    def _run(self) -> None:
        while group := self._gather():
            while not self._written(group):
                if self._closing.wait(RETRY_SECONDS):
                    if time.monotonic() > self._deadline:
                        self._give_up(len(group) + self._queue.qsize())
                        return
                    time.sleep(RETRY_SECONDS)

    def _gather(self) -> list[Slate]:
        """The next slates, at least one; none when closing and the queue is empty."""
        group: list[Slate] = []
        until = 0.0
        while len(group) < GROUP_LIMIT:
            try:
                if group:
                    rest = 0.0 if self._closing.is_set() else until - time.monotonic()
                    group.append(self._queue.get(timeout=rest) if rest > 0 else self._queue.get_nowait())
                else:
                    group.append(self._queue.get(timeout=RETRY_SECONDS))
                    until = time.monotonic() + GROUP_SECONDS
            except queue.Empty:
                if group or self._closing.is_set():
                    break
        return group

    def _written(self, group: Sequence[Slate]) -> bool:
        try:
            self._log.append(group)
        except EventLogError as error:
            self._metrics.slates.labels("retried").inc(len(group))
            log.warning("%d slates wait for the event log: %s", len(group), error)
            return False
        except Exception as error:  # one slate that cannot be stored must not cost its neighbours
            if len(group) > 1:
                return all(self._written([slate]) for slate in group)
            self._metrics.slates.labels("lost").inc()
            log.error("slate %s cannot be stored: %s", group[0].event_id, error)
            return True
        self._metrics.slates.labels("written").inc(len(group))
        return True

    def _give_up(self, lost: int) -> None:
        self._metrics.slates.labels("lost").inc(lost)
        log.error("%d slates could not be written before the process had to end", lost)
