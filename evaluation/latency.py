"""How long an answer takes: the whole pipeline from a state to a slate, one request at a time."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from attune.event_types import KINDS
from attune.user_state import RECENT_LIMIT, Recent, UserState
from models.history import KIND_INDEX
from models.learning.dataset import TrainingSet
from models.network.sequence import torch_threads
from models.recommender import Request, Served, recommend

_NAMES = {place: name for name, place in KIND_INDEX.items()}


def answer_ms(bundles: Sequence[Served], states: Sequence[UserState], now: int, rounds: int = 3) -> list[float]:
    """Milliseconds of ``recommend`` for ten items, of each bundle: the median user's fastest of some rounds.

    The bundles take turns after a warm-up, on one thread as in serving, so that what else the machine does meets
    all of them alike.
    """
    spent_BSR = np.zeros((len(bundles), len(states), rounds + 1))
    with torch_threads(1):
        for turn in range(rounds + 1):
            for row, state in enumerate(states):
                for place, bundle in enumerate(bundles):
                    began = perf_counter()
                    recommend(bundle, state, None, Request(10, now, seed=turn))
                    spent_BSR[place, row, turn] = 1e3 * (perf_counter() - began)
    fastest_BS = spent_BSR[:, :, 1:].min(axis=2)
    return [float(np.median(row)) if len(row) else 0.0 for row in fastest_BS]


def states_of(training_set: TrainingSet, upto: int, count: int, seed: int = 0) -> list[UserState]:
    """States of up to ``count`` users as of a position, for timing alone: the values of events are left out."""
    known = training_set.positions[training_set.by_user] <= upto
    rows = training_set.by_user[known]
    users, starts, sizes = np.unique(training_set.users[rows], return_index=True, return_counts=True)
    if not len(users):
        return []
    chosen = np.random.default_rng(seed).choice(len(users), min(count, len(users)), replace=False)
    return [_state(training_set, rows[starts[place] : starts[place] + sizes[place]]) for place in chosen]


def _state(training_set: TrainingSet, rows: np.ndarray) -> UserState:
    recent = tuple(
        Recent(
            event_id=str(training_set.positions[row]),
            item_id=training_set.catalogue.item_ids[training_set.items[row]],
            kind=_NAMES[int(training_set.kinds[row])],
            value=None,
            time=int(training_set.times[row]),
            position=int(training_set.positions[row]),
            retracted=False,
        )
        for row in rows
    )
    seen = tuple(dict.fromkeys(one.item_id for one in recent if KINDS[one.kind].marks_seen))
    return UserState(str(training_set.user_ids[training_set.users[rows[0]]]), recent=recent[-RECENT_LIMIT:], seen=seen)
