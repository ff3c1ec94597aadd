"""Replay in the order of time: each query is answered from what its user did strictly before its moment.

A query is the events of one user at one timestamp: all of them are predicted before any is revealed. The histories are
live (every revealed event counts from the next moment on), the model stands still.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import pandas as pd

from models.catalogue import Catalogue
from models.history import HISTORY_LIMIT, HistoryBatch, Recommender
from models.learning.dataset import Groups, TrainingSet, groups, histories, targets
from models.metrics import CUT, EVENT_COLUMNS, GROUP_COLUMNS, SLICES, Evaluation, is_in, ranks
from models.ranking.retrieval import mask, top_k_rows


@dataclass(frozen=True)
class QueryBatch:
    """B queries that are answered together, and their T targets.

    ``query_B`` are the queries' places in the order of time, ``users_B`` their users' places in ``user_ids``;
    ``histories`` holds what the users did before, and the moments (``now_B``). ``row_S`` and ``seen_S`` are the items
    that the users had seen, ``row_T`` and ``item_T`` the targets, each with its row of the batch; items are places in
    the recommender's catalogue, -1 for one that it lacks. ``event_T`` are the targets' rows in the training set.
    ``repeated`` and ``unmarked`` count the events left out: the user had the item already, the kind is no sign of use.
    """

    training_set: TrainingSet
    query_B: np.ndarray
    users_B: np.ndarray
    histories: HistoryBatch
    row_S: np.ndarray
    seen_S: np.ndarray
    row_T: np.ndarray
    item_T: np.ndarray
    event_T: np.ndarray
    repeated: int
    unmarked: int

    def __len__(self) -> int:
        return len(self.users_B)

    @property
    def reward_T(self) -> np.ndarray:
        """The rewards of the targets."""
        return self.training_set.rewards[self.event_T]


class Queries:
    """The queries of some events, sorted by the length of their histories: a batch is padded to its longest one.

    ``catalogue`` is the recommender's (by default the training set's, which always decides whether an item was seen).
    With ``limit`` histories have at most so many events, and longer ones count as equally long.
    """

    def __init__(
        self, training_set: TrainingSet, asked: Groups, catalogue: Catalogue | None = None, limit: int | None = None
    ) -> None:
        self.training_set, self.groups = training_set, asked
        self.catalogue = catalogue or training_set.catalogue
        self.limit = HISTORY_LIMIT if limit is None else limit
        self.places = np.arange(len(self.catalogue))
        if self.catalogue is not training_set.catalogue:
            self.places = self.catalogue.places(training_set.catalogue.item_ids)
        starts, ends = training_set.known_before(asked.users, asked.moments)
        self.lengths = ends - starts
        self.order = np.argsort(self.lengths if limit is None else np.minimum(self.lengths, limit), kind="stable")

    def __len__(self) -> int:
        return len(self.groups)

    def batch(self, start: int, stop: int) -> QueryBatch:
        """The queries at places [start, stop) of the sorted ones; some have no target."""
        query_B = self.order[start:stop]
        part = self.groups.select(query_B)
        known = targets(self.training_set, part)
        return QueryBatch(
            training_set=self.training_set,
            query_B=query_B,
            users_B=part.users,
            histories=histories(self.training_set, part, self.limit, self.catalogue),
            row_S=known.seen.row_of_value(),
            seen_S=self.places[known.seen.values],
            row_T=known.row_T,
            item_T=self.places[self.training_set.items[known.event_T]],
            event_T=known.event_T,
            repeated=known.repeated,
            unmarked=known.unmarked,
        )


class Recorder(Protocol):
    """Records what it needs of the queries of a replay."""

    def take(self, queries: QueryBatch) -> None:
        """A batch of queries, of which at least one has a target."""


def top_lists(masked_BN: np.ndarray) -> np.ndarray:
    """lists_BK, int32: the places of the ten best of each row, -1 where fewer are left; -inf marks what is removed."""
    lists_BK = np.full((len(masked_BN), CUT), -1, np.int32)
    for row, best in enumerate(top_k_rows(masked_BN, CUT)):
        lists_BK[row, : len(best)] = best
    return lists_BK


def replay(
    recommender: Recommender,
    training_set: TrainingSet,
    after: int,
    upto: int,
    batch: int = 256,
    catalogue: Catalogue | None = None,
) -> Evaluation:
    """Rank the targets at moments in (after, upto] among the items that their user had not seen.

    ``catalogue`` is the recommender's (by default the training set's; a bundle's statistics end where its training
    did). Targets that it lacks count as misses. Events are left out, and counted, where the user had the item already;
    so which ones are judged is the same for every recommender over one training set.
    """
    return replay_together([recommender], training_set, after, upto, catalogue, batch=batch)[0]


def replay_together(
    recommenders: Sequence[Recommender],
    training_set: TrainingSet,
    after: int,
    upto: int,
    catalogue: Catalogue | None = None,
    recorder: Recorder | None = None,
    each: int | None = None,
    most: int | None = None,
    batch: int = 256,
) -> list[Evaluation]:
    """``replay`` of several recommenders over one catalogue; each answers the very same batch after the other.

    ``recorder`` is given each batch once all of them have answered. With ``each`` only so many queries of each user are
    asked, the latest ones; with ``most`` only so many in all, spread evenly over the window.
    """
    window = groups(training_set, after, upto)
    if each is not None:
        by_user = np.argsort(window.users, kind="stable")
        ends = np.searchsorted(window.users[by_user], window.users[by_user], side="right")
        window = window.select(np.sort(by_user[np.arange(len(window)) >= ends - each]))
    if most is not None and len(window) > most:
        window = window.select(np.linspace(0, len(window) - 1, most).astype(np.int64))
    queries = Queries(training_set, window, catalogue)
    rankings = [_Ranking(recommender, len(queries.catalogue)) for recommender in recommenders]
    left_out = np.zeros(2, np.int64)
    for start in range(0, len(queries), batch):
        part = queries.batch(start, start + batch)
        left_out += part.repeated, part.unmarked
        if len(part.row_T):
            for each_recorder in (*rankings, *([] if recorder is None else [recorder])):
                each_recorder.take(part)
    return [ranking.evaluation(*left_out.tolist()) for ranking in rankings]


class _Ranking:
    """The rows of one recommender's evaluation, batch by batch."""

    def __init__(self, recommender: Recommender, catalogue_size: int) -> None:
        self.recommender, self.catalogue_size = recommender, catalogue_size
        self.events: list[pd.DataFrame] = []
        self.groups: list[pd.DataFrame] = []
        self.lists: list[np.ndarray] = []
        self.unknown = 0
        self.seconds = 0.0

    def take(self, queries: QueryBatch) -> None:
        """Score the batch; keep the ranks of its targets, and the counts and ten best of each query that has one."""
        began = perf_counter()
        scores_BN = self.recommender.scores(queries.histories)
        self.seconds += perf_counter() - began
        row_T, item_T, reward_T = queries.row_T, queries.item_T, queries.reward_T
        user_ids_B = queries.training_set.user_ids[queries.users_B]
        masked_BN = mask(scores_BN, queries.row_S, queries.seen_S)
        self.unknown += int((item_T < 0).sum())
        events = {
            "group": queries.query_B[row_T],
            "user_id": user_ids_B[row_T],
            "position": queries.training_set.positions[queries.event_T],
            "reward": reward_T,
            "rank": ranks(masked_BN, row_T, item_T),
            "candidates": (masked_BN > -np.inf).sum(axis=1)[row_T],
        }
        self.events.append(pd.DataFrame(events))
        row_W, place_T = np.unique(row_T, return_inverse=True)  # W queries have a target
        lists_WK = top_lists(masked_BN[row_W])
        hit_T = (lists_WK[place_T] == item_T[:, None]).any(axis=1) & (item_T >= 0)
        counted: dict[str, np.ndarray] = {}
        for part in SLICES:
            suffix, in_part_T = "" if part == "all" else f"_{part}", is_in(part, reward_T)
            counted |= {f"relevant{suffix}": in_part_T, f"hits{suffix}": hit_T & in_part_T}
        frame = {
            "group": queries.query_B[row_W],
            "user_id": user_ids_B[row_W],
            "moment": queries.histories.now_B[row_W],
            **{name: np.bincount(place_T[chosen_T], minlength=len(row_W)) for name, chosen_T in counted.items()},
        }
        self.groups.append(pd.DataFrame(frame))
        self.lists.append(lists_WK)

    def evaluation(self, repeated: int, unmarked: int) -> Evaluation:
        """Everything taken, in the order of time."""
        frame = _joined(self.groups, GROUP_COLUMNS)
        order = np.argsort(frame["group"].to_numpy(np.int64), kind="stable")
        lists_GK = np.concatenate(self.lists) if self.lists else np.zeros((0, CUT), np.int32)
        return Evaluation(
            name=self.recommender.name,
            events=_joined(self.events, EVENT_COLUMNS).sort_values(["group", "position"], ignore_index=True),
            groups=frame.iloc[order].reset_index(drop=True),
            lists_GK=lists_GK[order],
            catalogue_size=self.catalogue_size,
            repeated=repeated,
            unmarked=unmarked,
            unknown=self.unknown,
            seconds=self.seconds,
        )


def _joined(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: [] for name in columns})
