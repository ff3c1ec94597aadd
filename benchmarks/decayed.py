"""Decayed sums over items as of any moment of a stream, many moments at once; and what is counted by them.

``attune.item_profile`` keeps such sums event by event, for the one moment that is now. A replay asks for many moments
of a window together: the sums before the window, and of its events those that lie strictly before each moment. Both
are the same function of the events (a test holds them to each other).
"""

import numpy as np

from attune.clock import DAY
from attune.event_types import KINDS, centred
from benchmarks.stream import SPAN
from models.history import KIND_INDEX
from models.learning.dataset import TrainingSet

MOST_HALVINGS = 900.0
"""Two to this power is still a float."""

_IS_USE = np.array([False, *(kind.marks_seen for kind in KINDS.values())])
_IMPRESSION = KIND_INDEX["impression"]


class DecayedSums:
    """S sums for each of N items, halved every ``half_life_days``.

    As in ``attune.item_profile`` an event adds its amount times 2 to the power of its time in half-lives since an
    epoch, here the window's beginning; so sums are in units of that epoch, and ``at`` says what is one at a moment.
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
        epoch = int(times_E[0])
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


class LiveProfile:
    """``attune.item_profile`` over a stream: reactions over (impressions + strength + prior), of everybody.

    What the profile forgets below a hundredth of an event is kept here.
    """

    def __init__(self, items: int, half_life_days: float) -> None:
        self._sums = DecayedSums(2, items, half_life_days)

    def open(self, window: TrainingSet) -> None:
        """Begin a window."""
        centred_E = centred(window.rewards)
        asked_E = np.where(window.kinds == _IMPRESSION, 1.0, np.abs(centred_E))
        self._sums.open(window.times, window.items, np.stack([centred_E, asked_E]))

    def scores(self, moments_B: np.ndarray, prior: float) -> np.ndarray:
        """scores_BN, float32 in (-1, 1), from what was revealed strictly before each moment."""
        (reactions_BN, asked_BN), scale_B = self._sums.at(moments_B)
        return np.divide(reactions_BN, asked_BN + prior * scale_B[:, None]).astype(np.float32)

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
