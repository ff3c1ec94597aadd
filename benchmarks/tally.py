"""What became of the questions of a replay, summed as they go by: what is kept grows with users, items and windows.

Every measure is a mean over events: of each target whether the ten best held it and where, and what the list was like
that its group was shown. So the sums of each user are all that an interval needs (``evaluation.intervals``).
"""

from dataclasses import dataclass

import numpy as np

from evaluation.intervals import REPLICATES, Interval, percentiles, replicated
from models.metrics import CUT, event_values

MEASURES = ("hr@10", "ndcg@10", "novelty", "diversity")
PARTS = ("all", "liked")
"""Every target; those with reward above 0.5."""

LENGTHS = {"0 events": (0, 1), "1-4 events": (1, 5), "5-19 events": (5, 20), "20+ events": (20, 2**62)}
"""By how many events the user had before the moment."""

EVERYBODY, NEW, OLD, SETTLED = "everybody", "new users", "old users", "10+ events before the cut"
SEGMENTS = (EVERYBODY, *LENGTHS, NEW, OLD, SETTLED)
SETTLED_EVENTS = 10


@dataclass(frozen=True)
class Answered:
    """The T targets of one window in the order of time, with the list that each one's group was shown.

    ``lists_TK`` holds places of the catalogue, -1 where there were fewer; ``values_MT`` the ``MEASURES``.
    """

    users_T: np.ndarray
    earlier_T: np.ndarray
    liked_T: np.ndarray
    lists_TK: np.ndarray
    values_MT: np.ndarray


def hits(lists_TK: np.ndarray, item_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HR@10 and NDCG@10 of each target in its list, by ``models.metrics``."""
    found_TK = lists_TK == item_T[:, None]
    rank_T = np.where(found_TK.any(axis=1), found_TK.argmax(axis=1) + 1.0, np.inf)
    none_T = np.full(len(item_T), CUT)  # neither of the two asks how many candidates there were
    return event_values("hr@10", rank_T, none_T), event_values("ndcg@10", rank_T, none_T)


class Tally:
    """The sums of one arm over G segments, P parts, M measures, U users and N items.

    ``rolling`` has a row per window: the targets, the sums of the measures, and how many items were shown.
    """

    def __init__(self, name: str, before_U: np.ndarray, items: int) -> None:
        """``before_U`` is how many events each user had before the cut."""
        self.name, self._before_U = name, before_U
        shape = (len(SEGMENTS), len(PARTS))
        self.counts_GPU = np.zeros((*shape, len(before_U)))
        self.sums_GPMU = np.zeros((*shape, len(MEASURES), len(before_U)))
        self.shown_GPN = np.zeros((*shape, items), bool)
        self.rolling: list[tuple[float, ...]] = []
        self.groups = 0
        self.seconds = 0.0

    def take(self, answered: Answered, groups: int, seconds: float) -> None:
        """Add a window; ``groups`` were asked, in so many seconds of processor time."""
        self.groups += groups
        self.seconds += seconds
        users_T, shown_TK = answered.users_T, answered.lists_TK
        for row, of_segment_T in enumerate(self._segments(answered)):
            for column, of_part_T in enumerate((np.ones(len(users_T), bool), answered.liked_T)):
                chosen_T = of_segment_T & of_part_T
                if not chosen_T.any():
                    continue
                users, size = users_T[chosen_T], len(self._before_U)
                self.counts_GPU[row, column] += np.bincount(users, minlength=size)
                for place, values_T in enumerate(answered.values_MT):
                    self.sums_GPMU[row, column, place] += np.bincount(users, values_T[chosen_T], size)
                places = shown_TK[chosen_T]
                self.shown_GPN[row, column, places[places >= 0]] = True
        shown = np.unique(shown_TK[shown_TK >= 0])
        self.rolling.append((float(len(users_T)), *answered.values_MT.sum(axis=1).tolist(), float(len(shown))))

    def _segments(self, answered: Answered) -> list[np.ndarray]:
        """Of each segment which targets belong to it."""
        earlier_T, before_T = answered.earlier_T, self._before_U[answered.users_T]
        lengths = [(earlier_T >= low) & (earlier_T < high) for low, high in LENGTHS.values()]
        return [np.ones(len(earlier_T), bool), *lengths, before_T == 0, before_T > 0, before_T >= SETTLED_EVENTS]

    def events(self, segment: str = EVERYBODY, part: str = "all") -> int:
        """How many targets a slice has."""
        return int(self._counts(segment, part).sum())

    def users(self, segment: str = EVERYBODY, part: str = "all") -> int:
        """How many users with targets a slice has."""
        return int((self._counts(segment, part) > 0).sum())

    def coverage(self, segment: str = EVERYBODY, part: str = "all") -> float:
        """The share of the catalogue that stood in at least one list of a slice."""
        return float(self.shown_GPN[SEGMENTS.index(segment), PARTS.index(part)].mean())

    def interval(self, measure: str, segment: str = EVERYBODY, part: str = "all", seed: int = 0) -> Interval:
        """The mean of a measure over a slice's events, its interval clustered by user."""
        sums_U, counts_U = self._sums(measure, segment, part), self._counts(segment, part)
        present_U = counts_U > 0
        sums_R1, counts_R = replicated(sums_U[None, present_U], counts_U[present_U], REPLICATES, seed)
        value = sums_U.sum() / max(counts_U.sum(), 1.0)
        return percentiles(value, sums_R1[:, 0] / np.maximum(counts_R, 1.0), int(present_U.sum()))

    def _counts(self, segment: str, part: str) -> np.ndarray:
        counts_U: np.ndarray = self.counts_GPU[SEGMENTS.index(segment), PARTS.index(part)]
        return counts_U

    def _sums(self, measure: str, segment: str, part: str) -> np.ndarray:
        place = SEGMENTS.index(segment), PARTS.index(part), MEASURES.index(measure)
        sums_U: np.ndarray = self.sums_GPMU[place]
        return sums_U

    def times(
        self, other: "Tally", measure: str, segment: str = EVERYBODY, part: str = "all", seed: int = 0
    ) -> Interval:
        """How many times the other's mean this one's is, both from the same draws of users.

        Raises ValueError when the two did not answer the same questions.
        """
        counts_U = self._counts(segment, part)
        if not np.array_equal(counts_U, other._counts(segment, part)):
            raise ValueError(f"{self.name} and {other.name} did not answer the same questions")
        sums_2U = np.stack([one._sums(measure, segment, part) for one in (self, other)])
        present_U = counts_U > 0
        sums_R2, _ = replicated(sums_2U[:, present_U], counts_U[present_U], REPLICATES, seed)
        value = _ratio(*sums_2U.sum(axis=1))
        return percentiles(float(value), _ratio(*sums_R2.T), int(present_U.sum()))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; infinite from nothing to something, 1 from nothing to nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b != 0, a / b, np.where(a == 0, 1.0, np.inf))
