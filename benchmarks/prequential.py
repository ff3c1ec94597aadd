"""Prequential replay: a stream of real events goes by, and several arms answer each group before it is revealed.

Nothing is asked of the machine's clock: "now" is the moment of the group that is asked. What a user has seen is
removed in every arm, up to that moment. The protocol and its traps stand in docs/benchmarks.md.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.arms import Arm
from benchmarks.stream import Asking, Memory, Questions
from benchmarks.tally import Answered, Tally, hits
from evaluation.gates.variety import diversity, novelty
from models.learning.dataset import TrainingSet
from models.metrics import CUT
from models.network.sequence import torch_threads
from models.ranking.retrieval import top_k_rows

BATCH = 128

Listener = Callable[[str, Questions, np.ndarray], None]
"""Is told of an arm's name, the questions, and the lists_BK that it answered; by several threads."""


@dataclass(frozen=True)
class Yardsticks:
    """What lists are measured by beside their hits: the items' self-information and their vectors of length 1."""

    bits_N: np.ndarray
    vectors_ND: np.ndarray


def warm(memory: Memory, arms: Sequence[Arm], windows: Iterable[TrainingSet]) -> None:
    """Let windows go by without a question: what was before the cut."""
    for window in windows:
        for arm in arms:
            arm.open(window)
        _reveal(memory, arms, window)


def prequential(
    memory: Memory,
    arms: Sequence[Arm],
    windows: Iterable[TrainingSet],
    yardsticks: Yardsticks,
    listener: Listener | None = None,
    batch: int = BATCH,
) -> list[Tally]:
    """Ask every arm the same questions, window by window, and reveal each window after it; a tally for each arm.

    ``memory`` and the arms know what lies before the first window, and all of it afterwards. Batches are scored side
    by side, one thread each: numpy and torch compute outside Python's lock. An arm's seconds are of the processor.
    """
    tallies = [Tally(arm.name, memory.events_U.copy(), len(memory.catalogue)) for arm in arms]
    with torch_threads(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for window in windows:
            for arm in arms:
                arm.open(window)
            asking = Asking(memory, window)

            def answer(start: int, asking: Asking = asking) -> "_Batch":
                return _answer(arms, asking.questions(start, start + batch), yardsticks, listener)

            _count(tallies, list(pool.map(answer, range(0, len(asking), batch))))
            _reveal(memory, arms, window)
    return tallies


def _reveal(memory: Memory, arms: Sequence[Arm], window: TrainingSet) -> None:
    memory.remember(window)
    for arm in arms:
        arm.close(window)


@dataclass(frozen=True)
class _Batch:
    """The T targets of some questions with what each of A arms answered, and its seconds; see ``Answered``."""

    groups: int
    users_T: np.ndarray
    earlier_T: np.ndarray
    liked_T: np.ndarray
    event_T: np.ndarray
    lists_ATK: np.ndarray
    values_AMT: np.ndarray
    seconds_A: np.ndarray


def _answer(arms: Sequence[Arm], asked: Questions, yardsticks: Yardsticks, listener: Listener | None) -> _Batch:
    lists_ABK = np.full((len(arms), len(asked), CUT), -1, np.int32)
    seconds_A = np.zeros(len(arms))
    for place, arm in enumerate(arms):
        began = time.thread_time()
        scores_BN = arm.scores(asked)
        scores_BN[asked.seen_BN] = -np.inf
        for row, best in enumerate(top_k_rows(scores_BN, CUT)):
            lists_ABK[place, row, : len(best)] = best
        seconds_A[place] = time.thread_time() - began
        if listener is not None:
            listener(arm.name, asked, lists_ABK[place])
    lists_ATK = lists_ABK[:, asked.row_T]
    return _Batch(
        groups=len(asked),
        users_T=asked.users_B[asked.row_T],
        earlier_T=asked.earlier_B[asked.row_T],
        liked_T=asked.reward_T > 0.5,
        event_T=asked.event_T,
        lists_ATK=lists_ATK,
        values_AMT=np.stack([_values(lists_TK, asked.item_T, yardsticks) for lists_TK in lists_ATK]),
        seconds_A=seconds_A,
    )


def _values(lists_TK: np.ndarray, item_T: np.ndarray, yardsticks: Yardsticks) -> np.ndarray:
    """values_MT: what each list is worth to its target, by each of the measures."""
    surprising_T, unlike_T = novelty(lists_TK, yardsticks.bits_N), diversity(lists_TK, yardsticks.vectors_ND)
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
        tally.take(Answered(users_T, earlier_T, liked_T, lists_TK, values_MT), groups, seconds)
