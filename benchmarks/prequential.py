"""Prequential replay: a stream of real events goes by, and several arms answer each query before it is revealed.

The machine's clock is never read: "now" is the moment of the query. What a user has seen is removed in
every arm, up to that moment. The protocol and its traps stand in docs/benchmarks.md. Every measure is a mean over
events, so the sums of each user are all that an interval needs (``evaluation.intervals``): what is kept grows with
users, items and windows, and not with the stream.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.replay_arms import Arm
from benchmarks.replay_stream import StreamQueryBatch, StreamState, WindowQueries
from evaluation.gates.variety import diversity, novelty
from evaluation.intervals import REPLICATES, Interval, ratios
from evaluation.replay import top_lists
from models.learning.dataset import TrainingSet
from models.metrics import CUT, event_values
from models.network.sequence import torch_threads

BATCH = 128

Listener = Callable[[str, StreamQueryBatch, np.ndarray], None]
"""Is told of an arm's name, the queries, and the lists_BK that it answered; by several threads."""

MEASURES = ("hr@10", "ndcg@10", "novelty", "diversity")
PARTS = ("all", "liked")
"""Every target; those with reward above 0.5."""

LENGTHS = {"0 events": (0, 1), "1-4 events": (1, 5), "5-19 events": (5, 20), "20+ events": (20, 2**62)}
"""By how many events the user had before the moment."""

EVERYBODY, NEW, OLD, SETTLED = "everybody", "new users", "old users", "10+ events before the cut"
SEGMENTS = (EVERYBODY, *LENGTHS, NEW, OLD, SETTLED)
SETTLED_EVENTS = 10


@dataclass(frozen=True)
class ItemMeasures:
    """What lists are measured by beside their hits: the items' self-information and their vectors of length 1."""

    bits_N: np.ndarray
    vectors_ND: np.ndarray


@dataclass(frozen=True)
class WindowAnswers:
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

    def take(self, answered: WindowAnswers, groups: int, seconds: float) -> None:
        """Add a window; ``groups`` queries were answered, in so many seconds of processor time."""
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

    def _segments(self, answered: WindowAnswers) -> list[np.ndarray]:
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
        return ratios([(sums_U[present_U], counts_U[present_U])], REPLICATES, seed)[0]

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

        Raises ValueError when the two did not answer the same queries.
        """
        counts_U = self._counts(segment, part)
        if not np.array_equal(counts_U, other._counts(segment, part)):
            raise ValueError(f"{self.name} and {other.name} did not answer the same queries")
        present_U = counts_U > 0
        a_U, b_U = (tally._sums(measure, segment, part)[present_U] for tally in (self, other))
        change = ratios([(a_U - b_U, b_U)], REPLICATES, seed)[0]
        return Interval(1.0 + change.value, 1.0 + change.low, 1.0 + change.high)


def warm_up(state: StreamState, arms: Sequence[Arm], windows: Iterable[TrainingSet]) -> None:
    """Let windows go by without a query: what was before the cut."""
    for window in windows:
        for arm in arms:
            arm.open(window)
        _reveal(state, arms, window)


def prequential(
    state: StreamState,
    arms: Sequence[Arm],
    windows: Iterable[TrainingSet],
    measures: ItemMeasures,
    listener: Listener | None = None,
    batch: int = BATCH,
) -> list[Tally]:
    """Ask every arm the same queries, window by window, and reveal each window after it; a tally for each arm.

    ``state`` and the arms know what lies before the first window, and all of it afterwards. Batches are scored side
    by side, one thread each: numpy and torch compute outside Python's lock. An arm's seconds are of the processor.
    """
    tallies = [Tally(arm.name, state.events_U.copy(), len(state.catalogue)) for arm in arms]
    with torch_threads(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for window in windows:
            for arm in arms:
                arm.open(window)
            window_queries = WindowQueries(state, window)

            def answer(start: int, window_queries: WindowQueries = window_queries) -> "_Batch":
                return _answer(arms, window_queries.batch(start, start + batch), measures, listener)

            _count(tallies, list(pool.map(answer, range(0, len(window_queries), batch))))
            _reveal(state, arms, window)
    return tallies


def _reveal(state: StreamState, arms: Sequence[Arm], window: TrainingSet) -> None:
    state.append(window)
    for arm in arms:
        arm.close(window)


@dataclass(frozen=True)
class _Batch:
    """The T targets of some queries with what each of A arms answered, and its seconds; see ``WindowAnswers``."""

    groups: int
    users_T: np.ndarray
    earlier_T: np.ndarray
    liked_T: np.ndarray
    event_T: np.ndarray
    lists_ATK: np.ndarray
    values_AMT: np.ndarray
    seconds_A: np.ndarray


def _answer(
    arms: Sequence[Arm], queries: StreamQueryBatch, measures: ItemMeasures, listener: Listener | None
) -> _Batch:
    lists_ABK = np.empty((len(arms), len(queries), CUT), np.int32)
    seconds_A = np.zeros(len(arms))
    for place, arm in enumerate(arms):
        began = time.thread_time()
        scores_BN = arm.scores(queries)
        scores_BN[queries.seen_BN] = -np.inf
        lists_ABK[place] = top_lists(scores_BN)
        seconds_A[place] = time.thread_time() - began
        if listener is not None:
            listener(arm.name, queries, lists_ABK[place])
    lists_ATK = lists_ABK[:, queries.row_T]
    return _Batch(
        groups=len(queries),
        users_T=queries.users_B[queries.row_T],
        earlier_T=queries.earlier_B[queries.row_T],
        liked_T=queries.reward_T > 0.5,
        event_T=queries.event_T,
        lists_ATK=lists_ATK,
        values_AMT=np.stack([_values(lists_TK, queries.item_T, measures) for lists_TK in lists_ATK]),
        seconds_A=seconds_A,
    )


def _values(lists_TK: np.ndarray, item_T: np.ndarray, measures: ItemMeasures) -> np.ndarray:
    """values_MT: what each list is worth to its target, by each of the measures."""
    surprising_T, unlike_T = novelty(lists_TK, measures.bits_N), diversity(lists_TK, measures.vectors_ND)
    return np.stack([*hits(lists_TK, item_T), surprising_T, unlike_T])


def _count(tallies: Sequence[Tally], answered: Sequence[_Batch]) -> None:
    """Add a window's batches to the tallies, its targets in the order of time."""
    if not answered:
        return
    order = np.argsort(np.concatenate([one.event_T for one in answered]), kind="stable")
    users_T, earlier_T, liked_T = (
        np.concatenate([getattr(one, name) for one in answered])[order] for name in ("users_T", "earlier_T", "liked_T")
    )
    lists_ATK = np.concatenate([one.lists_ATK for one in answered], axis=1)[:, order]
    values_AMT = np.concatenate([one.values_AMT for one in answered], axis=2)[:, :, order]
    seconds_A = np.sum([one.seconds_A for one in answered], axis=0)
    groups = sum(one.groups for one in answered)
    for tally, lists_TK, values_MT, seconds in zip(tallies, lists_ATK, values_AMT, seconds_A.tolist(), strict=True):
        tally.take(WindowAnswers(users_T, earlier_T, liked_T, lists_TK, values_MT), groups, seconds)
