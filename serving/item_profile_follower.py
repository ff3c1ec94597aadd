"""Keeps what everybody says of items at this moment: follows the log, off every request's path.

A thread asks the log for its head, folds what came since into the live item profile (``attune.item_profile``), and puts
new scores beside the models that answer. A request only reads a reference. It starts with the last few half-lives:
what lies before weighs next to nothing, so a start costs what that window costs, however long the log is. A log that
cannot be read leaves the scores as they are.

Only what changed is scored. That everything else fades meanwhile is made good every hundredth of a half-life.
"""

from collections.abc import Callable, Sequence

import numpy as np

from attune.clock import DAY, Clock
from attune.event_log import EventLog
from attune.follower import Follower
from attune.item_profile import HALF_LIFE, ItemProfile
from serving.catalogue_snapshot import Shelf
from serving.metrics import Metrics

TYPES = ("slate", "interaction", "feedback")
POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
BUSY_SHARE = 0.25
"""Who catches up leaves others three quarters of the time."""

PAGE = 500
"""Events read at a time."""

WINDOW_HALF_LIVES = 5
"""How far back a start goes: what is older weighs less than a thirtieth of what happens now."""

WINDOW_POSITIONS = 500_000
"""And never further than this, whatever was imported lately."""

REFRESH = HALF_LIFE // 100
"""Microseconds after which everything is scored anew; by then it has faded by less than a hundredth."""

AT_ONCE = 2_000
"""Items scored without letting another thread have its turn: about a millisecond."""

NOTHING = np.zeros((1, 0), np.float32)


class ItemFollower:
    """Follows one log; ``shelves`` says where the models that answer lie, and their ``live_1N`` is what it writes."""

    def __init__(
        self, event_log: EventLog, shelves: Callable[[], Sequence[Shelf]], metrics: Metrics, clock: Clock
    ) -> None:
        self._log = event_log
        self._shelves = shelves
        self._metrics = metrics
        self._clock = clock
        self._profile: ItemProfile | None = None
        self._whole: dict[Shelf, int] = {}
        """When everything on a shelf was scored last."""
        self._follower = Follower(
            "the item profile", self._step, POLL_SECONDS, (Exception,), RETRY_SECONDS, busy_share=BUSY_SHARE
        )

    @property
    def position(self) -> int:
        """The log position up to which everything is known; 0 before the log was read."""
        return self._profile.position if self._profile else 0

    def start(self) -> None:
        """Start the thread."""
        self._follower.start()

    def close(self) -> None:
        """Stop it."""
        self._follower.close()

    def look(self) -> bool:
        """Take in one page of the log and put down what follows from it; whether more waits. Raises EventLogError."""
        head = self._log.head()
        if self._profile is None or head < self._profile.position:  # the latter: an older log was put in its place
            self._profile, self._whole = ItemProfile(self._start(head)), {}
        profile = self._profile
        self._metrics.profile_lag.set(head - profile.position)
        changed: set[str] = set()
        more = False
        if profile.position < head:
            page = self._log.read(profile.position, PAGE, head, TYPES)
            more = len(page) == PAGE
            changed = profile.fold(page, page[-1].position if more else head)
        self._put_down(profile, changed)
        return more

    def _start(self, head: int) -> int:
        """The position before the window."""
        now = self._clock()
        first, _ = self._log.logged_between(now - WINDOW_HALF_LIVES * HALF_LIFE, now + DAY)  # other clocks go ahead
        return max(first - 1 if first else head, head - WINDOW_POSITIONS)

    def _put_down(self, profile: ItemProfile, changed: set[str]) -> None:
        now, shelves = self._clock(), self._shelves()
        self._whole = {shelf: at for shelf, at in self._whole.items() if shelf in shelves}
        for shelf in shelves:
            scored_at = self._whole.get(shelf)
            if scored_at is None or not 0 <= now - scored_at < REFRESH:
                self._whole[shelf] = now
                _score(shelf, profile, None, now)
            else:
                _score(shelf, profile, changed, now)

    def _step(self) -> bool:
        try:
            return self.look()
        except Exception:
            self._whole = {}  # what was folded and not put down is in the next scores all the same
            raise


def _score(shelf: Shelf, profile: ItemProfile, changed: set[str] | None, now: int) -> None:
    """Put another vector in the place of the shelf's: with the scores of what changed and of new items, or all anew."""
    catalogue = shelf.shop.served.catalogue
    kept_1N = NOTHING if changed is None or shelf.live_1N is None else shelf.live_1N
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
    shelf.live_1N = live_1N
