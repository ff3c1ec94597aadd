"""Judging in the order of time: each group of events is predicted from what its user did strictly before it.

The histories are live (every revealed event counts from the next moment on), the model stands still. Events of
one user at one timestamp are one group: all are scored before any is revealed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import pandas as pd

from models.catalogue import Catalogue
from models.history import HistoryBatch, Recommender
from models.learning.dataset import Groups, TrainingSet, groups, histories, targets
from models.metrics import CUT, EVENT_COLUMNS, GROUP_COLUMNS, Evaluation, ranks
from models.ranking.retrieval import mask, top_k_rows


def replay(
    recommender: Recommender,
    training_set: TrainingSet,
    after: int,
    upto: int,
    batch: int = 256,
    catalogue: Catalogue | None = None,
) -> Evaluation:
    """Rank the targets at positions in (after, upto] among the items that their user had not seen.

    ``catalogue`` is the recommender's (by default the training set's, with its statistics: give the one of the
    bundle, whose statistics end where its training did). Targets that it lacks count as misses. An event whose
    user had the item already is left out and counted; so which events are judged is the same for every
    recommender over one training set.
    """
    return replay_together([recommender], training_set, after, upto, batch, catalogue)[0]


def replay_together(
    recommenders: Sequence[Recommender],
    training_set: TrainingSet,
    after: int,
    upto: int,
    batch: int = 256,
    catalogue: Catalogue | None = None,
    onlooker: "Onlooker | None" = None,
    each: int | None = None,
) -> list[Evaluation]:
    """``replay`` of several recommenders over one catalogue; each is asked the very same batch after the other.

    ``onlooker`` is shown each batch once all of them were asked. With ``each`` only so many groups of each user are
    asked, the latest ones.
    """
    catalogue = catalogue or training_set.catalogue
    places = catalogue.places(training_set.catalogue.item_ids)
    asked = groups(training_set, after, upto)
    if each is not None:
        asked = _latest(asked, each)
    starts, ends = training_set.known_before(asked.users, asked.moments)
    by_length = np.argsort(ends - starts, kind="stable")  # rows of one batch are padded to its longest history
    gathered = [_Gathered(recommender, catalogue) for recommender in recommenders]
    left_out = np.zeros(2, np.int64)
    for start in range(0, len(asked), batch):
        chosen = by_length[start : start + batch]
        questions, dropped = _questions(training_set, asked.select(chosen), chosen, places)
        left_out += dropped
        if len(questions.row_T):
            histories_B = histories(training_set, asked.select(chosen), catalogue=catalogue)
            for one in gathered:
                one.take(questions, histories_B)
            if onlooker is not None:
                onlooker.take(questions, histories_B)
    return [one.evaluation(*left_out.tolist()) for one in gathered]


def _latest(asked: Groups, each: int) -> Groups:
    """So many groups of each user, the latest ones, in the order of time."""
    by_user = np.argsort(asked.users, kind="stable")
    ends = np.searchsorted(asked.users[by_user], asked.users[by_user], side="right")
    return asked.select(np.sort(by_user[np.arange(len(asked)) >= ends - each]))


@dataclass(frozen=True)
class Questions:
    """A batch of groups: what each had seen, and T targets with the row of the batch that each stands in."""

    group_B: np.ndarray
    user_B: np.ndarray
    moment_B: np.ndarray
    row_S: np.ndarray
    seen_S: np.ndarray
    row_T: np.ndarray
    item_T: np.ndarray
    kind_T: np.ndarray
    reward_T: np.ndarray
    position_T: np.ndarray


class Onlooker(Protocol):
    """Who is shown the batches of a replay as they go by."""

    def take(self, asked: Questions, batch: HistoryBatch) -> None:
        """A batch of groups, of which at least one has a target."""
        ...


def _questions(
    training_set: TrainingSet, part: Groups, group_B: np.ndarray, places: np.ndarray
) -> tuple[Questions, tuple[int, int]]:
    """The questions of a batch, and how many events were left out: as repeats, as no sign of use.

    Whether an item was seen is decided by the training set's own catalogue, so that every recommender is asked
    the same; ``places`` maps it to the recommender's.
    """
    found = targets(training_set, part)
    item_T = training_set.items[found.event_T]
    questions = Questions(
        group_B=group_B,
        user_B=training_set.user_ids[part.users],
        moment_B=part.moments,
        row_S=found.seen.row_of_value(),
        seen_S=places[found.seen.values],
        row_T=found.row_T,
        item_T=places[item_T],
        kind_T=training_set.kinds[found.event_T],
        reward_T=training_set.rewards[found.event_T],
        position_T=training_set.positions[found.event_T],
    )
    return questions, (found.repeated, found.unmarked)


class _Gathered:
    """The rows of one recommender's evaluation, batch by batch."""

    def __init__(self, recommender: Recommender, catalogue: Catalogue) -> None:
        self.recommender, self.catalogue = recommender, catalogue
        self.events: list[pd.DataFrame] = []
        self.groups: list[pd.DataFrame] = []
        self.lists: list[np.ndarray] = []
        self.unknown = 0
        self.seconds = 0.0

    def take(self, asked: Questions, batch: HistoryBatch) -> None:
        """Score the batch and keep what became of its targets."""
        began = perf_counter()
        scores_BN = self.recommender.scores(batch)
        self.seconds += perf_counter() - began
        masked_BN = mask(scores_BN, asked.row_S, asked.seen_S)
        self.unknown += int((asked.item_T < 0).sum())
        rows = {
            "group": asked.group_B[asked.row_T],
            "user_id": asked.user_B[asked.row_T],
            "position": asked.position_T,
            "reward": asked.reward_T,
            "rank": ranks(masked_BN, asked.row_T, asked.item_T),
            "candidates": (masked_BN > -np.inf).sum(axis=1)[asked.row_T],
        }
        self.events.append(pd.DataFrame(rows))
        self._take_groups(asked, masked_BN)

    def _take_groups(self, asked: Questions, masked_BN: np.ndarray) -> None:
        """The counts of each group that has a target, and its ten best."""
        with_target = np.unique(asked.row_T)
        lists_BK = np.full((len(masked_BN), CUT), -1, np.int32)
        for row, best in zip(with_target, top_k_rows(masked_BN[with_target], CUT), strict=True):
            lists_BK[row, : len(best)] = best
        hit_T = (lists_BK[asked.row_T] == asked.item_T[:, None]).any(axis=1) & (asked.item_T >= 0)
        liked_T = asked.reward_T > 0.5
        counted = {
            "relevant": np.ones(len(hit_T), bool),
            "hits": hit_T,
            "relevant_positive": liked_T,
            "hits_positive": hit_T & liked_T,
        }
        frame = {
            "group": asked.group_B[with_target],
            "user_id": asked.user_B[with_target],
            "moment": asked.moment_B[with_target],
            **{
                name: np.bincount(asked.row_T[chosen_T], minlength=len(masked_BN))[with_target]
                for name, chosen_T in counted.items()
            },
        }
        self.groups.append(pd.DataFrame(frame))
        self.lists.append(lists_BK[with_target])

    def evaluation(self, repeated: int, unmarked: int) -> Evaluation:
        """Everything taken: events by position, groups in the order of time."""
        frame = _joined(self.groups, GROUP_COLUMNS)
        order = np.argsort(frame["group"].to_numpy(np.int64), kind="stable")
        lists_GK = np.concatenate(self.lists) if self.lists else np.zeros((0, CUT), np.int32)
        return Evaluation(
            name=self.recommender.name,
            events=_joined(self.events, EVENT_COLUMNS).sort_values("position", ignore_index=True),
            groups=frame.iloc[order].reset_index(drop=True),
            lists_GK=lists_GK[order],
            catalogue_size=len(self.catalogue),
            repeated=repeated,
            unmarked=unmarked,
            unknown=self.unknown,
            seconds=self.seconds,
        )


def _joined(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: [] for name in columns})
