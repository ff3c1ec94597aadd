"""Keeps the users' states in the online store fresh: follows the log, folds, pushes micro-batches.

The watermark only says whose states to look at. The keeper always folds the user's tail of the log after the position
that the stored state itself carries, so after a crash or a restore a state can lag, but it cannot skip an event. The
watermark carries the id of its log: states that were folded from another log are refused. A single state that this log
contradicts (its user has no event at its position) is taken out of the store and folded anew.

Run it as ``python -m features.state_keeper``; TERM ends it after the batch at hand.
"""

import contextlib
import logging
import threading
from functools import partial

from attune import process
from attune.errors import EventLogError, FeatureStoreError
from attune.event_log import EventLog
from attune.files import locked
from attune.follower import Follower
from attune.settings import Settings
from attune.user_state import UserState, current
from features.feature_store import FeatureStore

logger = logging.getLogger(__name__)

BATCH = 2_000
"""Events a step; a push costs about as much for a hundred users as for ten."""
PUSH = 100
TYPES = ("interaction", "feedback", "user")


class StateKeeper:
    """Folds the log's new events into the online states; one at a time works on a store (see ``alone``)."""

    def __init__(self, log: EventLog, store: FeatureStore, settings: Settings) -> None:
        self._log, self._store, self._settings = log, store, settings
        self._watermark = store.watermark()

    def step(self) -> int:
        """Take one micro-batch of the log; how many events it held (0: nothing was new).

        The watermark is written after the push: a kill in between repeats work that changes nothing.
        Raises FeatureStoreError when the online states belong to another log: the watermark carries another id, or
        lies beyond the end (a log that was put back to an older backup).
        """
        (after, known_id), head, log_id = self._watermark.read(), self._log.head(), self._log.log_id()
        if after > head or known_id not in ("", log_id):
            raise FeatureStoreError(
                f"{self._watermark} says {after} of log {known_id or 'unknown'} and log {log_id} ends at {head}: the "
                f"online states were folded from another log; stop attune, {self._watermark.remedy}"
            )
        if after == head:
            return 0
        columns = self._log.read_columns(after, head, BATCH, TYPES)
        users = list(dict.fromkeys(columns["user_id"]))
        for start in range(0, len(users), PUSH):
            batch = users[start : start + PUSH]
            known = self._store.states(batch)
            latest = {user_id: current(self._log, known.get(user_id) or UserState(user_id)) for user_id in batch}
            self._store.forget_states([known[user_id] for user_id, state in latest.items() if state.astray])
            self._store.push_states([state.state for state in latest.values() if state.folded])
        full = len(columns["position"]) == BATCH
        self._watermark.write(columns["position"][-1] if full else head, log_id)
        return len(columns["position"])

    def run(self, stop: threading.Event) -> None:
        """Step until ``stop`` is set; a log or a store that fails is waited out. Raises what ``alone`` raises."""
        with self.alone():
            Follower(
                "the state keeper",
                lambda: self.step() > 0,
                self._settings.keeper_poll_seconds,
                errors=(EventLogError, FeatureStoreError),
                heartbeat=partial(process.write_heartbeat, self._settings, "keeper"),
                stop=stop,
            ).run()

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Hold the keeper's lock; raises FeatureStoreError when another keeper of this machine has it.

        A keeper of another machine does the same work and no harm: the store itself keeps the newer of two states.
        """
        path = self._store.keeper_folder / "keeper.lock"
        return locked(path, FeatureStoreError(f"{path}: another state keeper is at work; stop it first"))


def main() -> None:
    """Follow the log until TERM or INT."""
    stop = process.stop_on_signals()
    process.set_up_logging()
    settings = Settings()
    store = FeatureStore(settings)
    store.apply()
    with contextlib.closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log:
        logger.info("the state keeper follows the log")
        StateKeeper(log, store, settings).run(stop)


if __name__ == "__main__":
    main()
