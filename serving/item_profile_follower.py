"""Keeps the live scores of items, from what everybody does at this moment: follows the log, off every request's path.

A thread folds the log's new events into the live item profile (``attune.item_profile``), and puts new scores beside the
models that answer; a request only reads a reference. It starts with the last few half-lives: what lies before weighs
next to nothing, so a start costs what that window costs, however long the log is. Who has a history is read from the
log, once for each user. While the log cannot be read, the
scores stay as they are. Only items that changed are scored; the fading of the others is caught up with every hundredth
of a half-life.
"""

from collections.abc import Callable, Sequence

import numpy as np

from attune.clock import DAY, Clock
from attune.event_log import EventLog
from attune.follower import Follower
from attune.item_profile import HALF_LIFE, ItemProfile
from serving.catalogue_snapshot import LiveModel
from serving.metrics import Metrics

TYPES = ("slate", "interaction", "feedback")
POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
BUSY_SHARE = 0.25  # of the time, while it catches up
PAGE = 500  # events read at a time
WINDOW_HALF_LIVES = 5
"""How far back a start goes: what is older weighs less than a thirtieth of what happens now."""

WINDOW_POSITIONS = 500_000  # and never further than this, whatever was imported lately
REFRESH = HALF_LIFE // 100
"""Microseconds after which everything is scored again; by then it has faded by less than a hundredth."""

AT_ONCE = 2_000  # items scored without letting another thread have its turn: about a millisecond
NOTHING = np.zeros((1, 0), np.float32)


class ItemProfileFollower:
    """Follows one log and writes the ``live_1N`` of ``live_models``, the models that answer."""

    def __init__(
        self, event_log: EventLog, live_models: Callable[[], Sequence[LiveModel]], metrics: Metrics, clock: Clock
    ) -> None:
        self._log = event_log
        self._live_models = live_models
        self._metrics = metrics
        self._clock = clock
        self._profile: ItemProfile | None = None
        self._scored_at: dict[LiveModel, int] = {}
        """When all items of a model were scored last."""
        self._follower = Follower(
            "the item profile", self._step, POLL_SECONDS, (Exception,), RETRY_SECONDS, busy_share=BUSY_SHARE
        )

    @property
    def position(self) -> int:
        """The log position up to which everything is known; 0 before the log was read."""
        return self._profile.position if self._profile else 0

    def start(self) -> None:
        self._follower.start()

    def close(self) -> None:
        self._follower.close()

    def advance(self) -> bool:
        """Fold one page of the log and update the scores; whether more waits. Raises EventLogError."""
        head = self._log.head()
        if self._profile is None or head < self._profile.position:  # the latter: an older log was put in its place
            now = self._clock()
            window = now - WINDOW_HALF_LIVES * HALF_LIFE, now + DAY  # other clocks go ahead
            first, _ = self._log.logged_between(*window)
            start = max(first - 1 if first else head, head - WINDOW_POSITIONS)
            self._profile = ItemProfile(start, history=self._log.first_uses)
            self._scored_at = {}
        profile = self._profile
        self._metrics.profile_lag.set(head - profile.position)
        changed: set[str] = set()
        more = False
        if profile.position < head:
            page = self._log.read(profile.position, PAGE, head, TYPES)
            more = len(page) == PAGE
            before = profile.set_aside
            changed = profile.fold(page, page[-1].position if more else head)
            self._metrics.set_aside.inc(profile.set_aside - before)
        self._update(profile, changed)
        return more

    def _update(self, profile: ItemProfile, changed: set[str]) -> None:
        now, live_models = self._clock(), self._live_models()
        self._scored_at = {live: at for live, at in self._scored_at.items() if live in live_models}
        for live in live_models:
            scored_at = self._scored_at.get(live)
            if scored_at is None or not 0 <= now - scored_at < REFRESH:
                self._scored_at[live] = now
                _score(live, profile, None, now)
            else:
                _score(live, profile, changed, now)

    def _step(self) -> bool:
        try:
            return self.advance()
        except Exception:
            self._scored_at = {}  # what was folded without an update is in the next scores
            raise


def _score(live: LiveModel, profile: ItemProfile, changed: set[str] | None, now: int) -> None:
    """Replace the model's live scores: the changed and new items' alone, or all of them (``changed`` is None)."""
    catalogue = live.snapshot.model.catalogue
    kept_1N = NOTHING if changed is None or live.live_1N is None else live.live_1N
    kept = kept_1N.shape[1]
    item_ids = profile.item_ids if changed is None else [*changed, *catalogue.item_ids[kept:]]
    if not item_ids and changed is not None:
        return
    live_1N = np.zeros((1, len(catalogue)), np.float32)
    live_1N[:, :kept] = kept_1N
    for start in range(0, len(item_ids), AT_ONCE):
        part = item_ids[start : start + AT_ONCE]
        places = catalogue.places(part)
        is_known = places >= 0
        live_1N[0, places[is_known]] = profile.scores(part, now)[is_known]
    live_1N.flags.writeable = False
    live.live_1N = live_1N
