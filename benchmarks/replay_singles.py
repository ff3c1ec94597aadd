"""Whether the replay's lists are those of single requests: the user's state folded event by event, and asked alone."""

from collections.abc import Iterable, Mapping
from threading import Lock

import numpy as np

from attune.events import Interaction, Logged
from attune.item_profile import ItemProfile
from attune.user_state import empty, fold
from benchmarks.stream import Questions
from models.bundle import Bundle
from models.history import KIND_INDEX
from models.learning.dataset import TrainingSet
from models.metrics import CUT
from models.recommender import Asked, Request, recommend_many

Key = tuple[int, int]
"""A user's place, and a moment."""

_NAMES = {place: name for name, place in KIND_INDEX.items()}


class Witness:
    """Keeps the lists that each arm answered to some questions."""

    def __init__(self, training_set: TrainingSet, after: int, number: int, seed: int) -> None:
        """So many events after a position are drawn; what of them is no target is asked for by nobody."""
        later = np.flatnonzero(training_set.positions > after)
        drawn = np.random.default_rng(seed).choice(later, min(number, len(later)), replace=False)
        self.wanted = set(zip(training_set.users[drawn].tolist(), training_set.times[drawn].tolist(), strict=True))
        self.lists: dict[str, dict[Key, list[int]]] = {}
        self._turn = Lock()

    def __call__(self, arm: str, asked: Questions, lists_BK: np.ndarray) -> None:
        """A ``Listener``."""
        keys = zip(asked.users_B.tolist(), asked.batch.now_B.tolist(), strict=True)
        for row, key in enumerate(keys):
            if key in self.wanted:
                with self._turn:
                    self.lists.setdefault(arm, {})[key] = lists_BK[row].tolist()


def equal(
    bundle: Bundle, training_set: TrainingSet, lists: Mapping[Key, list[int]], profile: ItemProfile | None = None
) -> int:
    """How many of the lists are those of the pipeline, asked alone, before it draws; ratings alone are understood.

    ``profile`` is empty at first; it is given every event strictly before each question.
    """
    same, told = 0, 0
    for user, moment in sorted(lists, key=lambda key: key[1]):
        live_1N = None
        if profile is not None:
            until = int(np.searchsorted(training_set.times, moment, side="left"))
            profile.fold(_logged(training_set, range(told, until)))
            told = until
            live_1N = profile.scores(bundle.catalogue.item_ids, moment)[None]
        same += _alone(bundle, training_set, user, moment, live_1N) == lists[user, moment]
    return same


def _alone(bundle: Bundle, training_set: TrainingSet, user: int, moment: int, live_1N: np.ndarray | None) -> list[int]:
    """The places of the ten best candidates of one request."""
    (start,), (end,) = training_set.known_before(np.array([user]), np.array([moment]))
    own = training_set.by_user[start:end]
    state = fold(empty(str(training_set.user_ids[user])), _logged(training_set, own.tolist()))
    at_moment = training_set.by_user[end]  # the first event of the group: its statistics are those of the question
    asked = Asked(state, training_set.user_stats_EF[at_moment], Request(CUT, now=moment, seed=0))
    (answer,) = recommend_many(bundle, [asked], live_1N=live_1N)
    return bundle.catalogue.places([one.item_id for one in answer.candidates[:CUT]]).tolist()


def _logged(training_set: TrainingSet, rows: Iterable[int]) -> list[Logged]:
    """The ratings at these rows as the log would give them."""
    return [
        Logged(
            position=int(training_set.positions[row]),
            logged_at=int(training_set.times[row]),
            event=Interaction(
                event_id=f"e{training_set.positions[row]}",
                event_timestamp=int(training_set.times[row]),
                user_id=str(training_set.user_ids[training_set.users[row]]),
                item_id=training_set.catalogue.item_ids[training_set.items[row]],
                kind=_NAMES[int(training_set.kinds[row])],
                value=1.0 + 4.0 * float(training_set.rewards[row]),
            ),
        )
        for row in rows
    ]
