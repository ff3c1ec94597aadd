"""The arms of a prequential replay: what answers the queries of a stream, and how each stays up to date.

An arm is shown each window before its queries are asked and told when it has gone by. What lies in a window at or
after a query's moment must not change the answer to it. A model that learns on, learns in ``close``; one that is
trained otherwise is a ``LiveHistory`` with another hybrid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from attune.clock import DAY
from attune.event_types import KINDS
from attune.events import Interaction, LoggedEvent
from attune.item_profile import IMPRESSIONS, QUORUM, REACTIONS, STRENGTH, SUMS, ItemProfile
from benchmarks.replay_stream import SPAN, StreamQueryBatch, StreamState
from models.baselines import ItemKnn
from models.ease import ease_weights
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet

MOST_HALVINGS = 900.0
"""Two to this power is still a float."""

_IS_USE = np.array([False, *(kind.marks_seen for kind in KINDS.values())])
_NAMES = {index: name for name, index in KIND_INDEX.items()}

PENALTY = 500.0
"""The L2 penalty; Steck found 200 to 1,000 for sets of this size."""

TIES = 1e-6
"""What popularity adds: it decides between equal scores, and alone for whoever has seen nothing."""


class Arm(Protocol):
    """Answers queries. ``scores`` is called by several threads between ``open`` and ``close``."""

    @property
    def name(self) -> str: ...

    def open(self, window: TrainingSet) -> None:
        """A window begins; by default nothing."""
        return

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """scores_BN of all items, an array of the caller's own; the replay removes what was seen."""
        ...

    def close(self, window: TrainingSet) -> None:
        """The window has gone by: all of it is revealed; by default nothing."""
        return


def served_scores(hybrid: Hybrid, batch: HistoryBatch, live_BN: np.ndarray | None = None) -> np.ndarray:
    """scores_BN as served; ``live_BN`` is what everybody says of the items at each query's moment."""
    return hybrid.served(batch, hybrid.sources(batch, hybrid.states(batch), live_BN))


class DecayedSums:
    """S sums for each of N items, halved every ``half_life_days``.

    ``attune.item_profile`` keeps such sums event by event, for the one moment that is now. A replay asks for many
    moments of a window together: the sums before the window, and of its events those strictly before each moment. Both
    are the same function of the events (a test compares them). As in the profile an event adds its amount times 2 to
    the power of its time in half-lives since an epoch, here the window's beginning; so sums are in units of that epoch,
    and ``at`` says what is one at a moment.
    Raises ValueError for a half-life so short that a window could leave the range of floats.
    """

    def __init__(self, sums: int, items: int, half_life_days: float) -> None:
        self._half_life = half_life_days * DAY
        if not SPAN / self._half_life <= MOST_HALVINGS:
            raise ValueError(f"a half-life of {half_life_days} days is too short for windows of {SPAN / DAY:g} days")
        self._sums_SN = np.zeros((sums, items))
        self._epoch = 0
        self._times_E = np.zeros(0, np.int64)
        self._items_E = np.zeros(0, np.int64)
        self._amounts_SE = np.zeros((sums, 0))

    def open(self, times_E: np.ndarray, items_E: np.ndarray, amounts_SE: np.ndarray) -> None:
        """Begin a window with these events, in the order of time."""
        epoch = int(times_E[0]) if len(times_E) else self._epoch
        self._sums_SN *= np.exp2(-max(epoch - self._epoch, 0) / self._half_life)
        self._epoch, self._times_E, self._items_E = epoch, times_E, items_E
        self._amounts_SE = amounts_SE * self._scale(times_E)

    def at(self, moments_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sums_SBN of everything strictly before each moment of the window, and scale_B, what weighs one then."""
        sums, items = self._sums_SN.shape
        before_B = np.searchsorted(self._times_E, moments_B, side="left")
        order = np.argsort(before_B, kind="stable")
        first_E = np.searchsorted(before_B[order], np.arange(len(self._times_E)), side="right")
        felt_E = first_E < len(order)  # the first row, in the order of time, that lies after the event
        flat = first_E[felt_E] * items + self._items_E[felt_E]
        sums_SBN = np.empty((sums, len(order), items))
        for sum_N, amounts_E, found_BN in zip(self._sums_SN, self._amounts_SE, sums_SBN, strict=True):
            added_BN = _added(flat, amounts_E[felt_E], len(order) * items).reshape(len(order), items)
            added_BN[:1] += sum_N
            found_BN[order] = np.cumsum(added_BN, axis=0)
        return sums_SBN, self._scale(moments_B)

    def close(self) -> None:
        """Take the window's events in."""
        items = self._sums_SN.shape[1]
        for sum_N, amounts_E in zip(self._sums_SN, self._amounts_SE, strict=True):
            sum_N += _added(self._items_E, amounts_E, items)
        self._times_E, self._items_E = self._times_E[:0], self._items_E[:0]
        self._amounts_SE = self._amounts_SE[:, :0]

    def _scale(self, times: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.exp2((times - self._epoch) / self._half_life)
        return found


def _added(places_E: np.ndarray, amounts_E: np.ndarray, count: int) -> np.ndarray:
    """The amounts summed by place; numpy gives whole numbers where there is none."""
    return np.bincount(places_E, amounts_E, count).astype(np.float64, copy=False)


def logged(training_set: TrainingSet, rows: Iterable[int]) -> list[LoggedEvent]:
    """The ratings at these rows as the log would give them."""
    return [
        LoggedEvent(
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


class _ProfileChanges(ItemProfile):
    """The item profile without its sums: what each event changes in them."""

    def changes(self, entry: LoggedEvent) -> list[tuple[str, int, float]]:
        """Of which items which sum changes by how much, at the moment of the event."""
        self._noted: list[tuple[str, int, float]] = []
        self._take(entry)
        now = self._weight(entry.logged_at)
        return [(item_id, column, amount / now) for item_id, column, amount in self._noted]

    def _add(self, item_id: str, column: int, amount: float) -> None:
        self._noted.append((item_id, column, amount))


class LiveProfile:
    """``attune.item_profile`` over a stream: who counts, for what and until when is its own code's.

    What the profile forgets below a hundredth of an event is kept here. A stream has no take-backs and no slates.
    """

    def __init__(self, items: int, half_life_days: float) -> None:
        self._sums = DecayedSums(SUMS, items, half_life_days)
        self._profile = _ProfileChanges(half_life=int(half_life_days * DAY))

    def open(self, window: TrainingSet) -> None:
        """Begin a window."""
        changed = [
            (entry.logged_at, item_id, column, amount)
            for entry in logged(window, range(len(window)))
            for item_id, column, amount in self._profile.changes(entry)
        ]
        times, items, columns, amounts = zip(*changed, strict=True) if changed else ((), (), (), ())
        amounts_SE = np.zeros((SUMS, len(changed)))
        amounts_SE[list(columns), np.arange(len(changed))] = amounts
        self._sums.open(np.array(times, np.int64), window.catalogue.places(items), amounts_SE)

    def scores(self, moments_B: np.ndarray, prior: float) -> np.ndarray:
        """scores_BN, float32 in (-1, 1), from what was revealed strictly before each moment."""
        sums_SBN, scale_B = self._sums.at(moments_B)
        agreed_BN = np.maximum(np.abs(sums_SBN[REACTIONS]) - QUORUM * scale_B[:, None], 0.0)
        people_BN = sums_SBN[IMPRESSIONS] + sums_SBN[STRENGTH] + prior * scale_B[:, None]
        return np.copysign(agreed_BN / people_BN, sums_SBN[REACTIONS]).astype(np.float32)

    def close(self) -> None:
        """The window has gone by."""
        self._sums.close()


class LivePopularity:
    """What was used lately: each use counts its reward, halved every ``half_life_days``, as in ``Popularity``."""

    def __init__(self, items: int, half_life_days: float) -> None:
        self._sums = DecayedSums(1, items, half_life_days)

    def open(self, window: TrainingSet) -> None:
        """Begin a window."""
        self._sums.open(window.times, window.items, (window.rewards * _IS_USE[window.kinds])[None].astype(np.float64))

    def scores(self, moments_B: np.ndarray) -> np.ndarray:
        """scores_BN, float32 in [0, 1]: the most used item of the moment has 1."""
        (sums_BN,), _ = self._sums.at(moments_B)
        return (sums_BN / np.maximum(sums_BN.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)).astype(np.float32)

    def close(self) -> None:
        """The window has gone by."""
        self._sums.close()


@dataclass(frozen=True)
class RecentPopularity(Arm):
    """What everybody used lately, counted up to each query's moment."""

    popularity: LivePopularity
    name: str = "recent popularity"

    def open(self, window: TrainingSet) -> None:
        """The window's uses count from their moments on."""
        self.popularity.open(window)

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """The same for everybody who asks at one moment."""
        return self.popularity.scores(queries.histories.now_B)

    def close(self, window: TrainingSet) -> None:
        """The window's uses are kept."""
        self.popularity.close()


@dataclass(frozen=True)
class Neighbours(Arm):
    """Item-kNN as of the cut, over live histories."""

    knn: ItemKnn
    name: str = "item-kNN"

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """Its own."""
        return self.knn.scores(queries.histories)


@dataclass(frozen=True)
class LiveHistory(Arm):
    """The model with histories up to each query's moment."""

    hybrid: Hybrid
    name: str = "live history"

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """Of live histories and statistics."""
        return served_scores(self.hybrid, queries.histories)


@dataclass(frozen=True)
class FrozenAtCut(Arm):
    """Another arm, asked as of the cut: lists that were made then, and are served ever since.

    ``state`` is what was remembered at the cut. The query's moment is the cut's as well. What was seen since is
    removed all the same, as in every arm, so such a list goes on further down.
    """

    arm: Arm
    state: StreamState
    name: str = "frozen at the cut"

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """Of histories, of what had been seen, and of statistics as of the cut."""
        then = self.state.histories(queries.users_B, np.full(len(queries), self.state.latest))
        return self.arm.scores(replace(queries, histories=then, seen_BN=self.state.seen(queries.users_B)))


@dataclass(frozen=True)
class LiveItemProfile(Arm):
    """The same with the live item profile in the mix; ``hybrid.live`` is its weight."""

    hybrid: Hybrid
    profile: LiveProfile
    prior: float
    name: str = "+ item profile"

    def open(self, window: TrainingSet) -> None:
        """The window's reactions count from their moments on."""
        self.profile.open(window)

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """Of live histories, and of what everybody said before each moment."""
        return served_scores(self.hybrid, queries.histories, self.profile.scores(queries.histories.now_B, self.prior))

    def close(self, window: TrainingSet) -> None:
        """The window's reactions are kept."""
        self.profile.close()


@dataclass(frozen=True)
class Ease(Arm):
    """EASE, the linear item model: ``weights_NN`` from each item that the user has seen, ``popular_N`` for ties.

    Of all item-item weights with a zero diagonal these restore the users' rows best under an L2 penalty, in closed form
    (Steck 2019, "Embarrassingly shallow autoencoders for sparse data"). The model knows nothing of order or moment, so
    it loses little by being asked late: a model that reads sessions must be compared with more than its stale lists.
    """

    weights_NN: np.ndarray
    popular_N: np.ndarray
    name: str = "linear item model"

    @staticmethod
    def fit(training_set: TrainingSet, penalty: float = PENALTY) -> "Ease":
        """From every event of the training set. Costs a dense inverse over the items used: of some thousands."""
        shape = (len(training_set.user_ids), len(training_set.catalogue))
        ones_E = np.ones(len(training_set), np.float32)
        seen_UN = sp.csr_matrix((ones_E, (training_set.users, training_set.items)), shape=shape)
        seen_UN.data[:] = 1.0
        used_N = np.asarray(seen_UN.sum(axis=0)).ravel()
        used = np.flatnonzero(used_N)  # an item that nobody used weighs nothing, and nothing weighs for it
        weights_NN = np.zeros((shape[1], shape[1]), np.float32)
        gram_MM = (seen_UN[:, used].T @ seen_UN[:, used]).toarray().astype(np.float64)
        weights_NN[np.ix_(used, used)] = ease_weights(gram_MM, penalty)
        return Ease(weights_NN, (TIES * used_N / used_N.max()).astype(np.float32))

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        """Of the items seen before each moment."""
        scores_BN: np.ndarray = queries.seen_BN.astype(np.float32) @ self.weights_NN
        scores_BN += self.popular_N
        return scores_BN
