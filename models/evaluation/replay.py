"""Judging in the order of time: each group of events is predicted from what its user did strictly before it.

The histories are live (every revealed event counts from the next moment on), the model stands still. Events of
one user at one timestamp are one group: all are scored before any is revealed.
"""

from time import perf_counter

import numpy as np
import pandas as pd

from attune.kinds import KINDS
from models.catalogue import Catalogue
from models.contract import Recommender
from models.evaluation.metrics import CUT, Evaluation
from models.history import KIND_INDEX
from models.learning.dataset import Groups, TrainingSet, groups, histories, seen
from models.ranking.retrieval import mask, top_k_rows

_TARGET_KINDS = np.array([place for name, place in KIND_INDEX.items() if KINDS[name].marks_seen])


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
    catalogue = catalogue or training_set.catalogue
    asked = groups(training_set, after, upto)
    starts, ends = training_set.known_before(asked.users, asked.moments)
    by_length = np.argsort(ends - starts, kind="stable")  # rows of one batch are padded to its longest history
    judge = _Judge(recommender, training_set, catalogue)
    for start in range(0, len(asked), batch):
        judge.take(asked, by_length[start : start + batch])
    return judge.evaluation(asked)


class _Judge:
    """Gathers the rows of an evaluation batch by batch."""

    def __init__(self, recommender: Recommender, training_set: TrainingSet, catalogue: Catalogue) -> None:
        self.recommender, self.training_set, self.catalogue = recommender, training_set, catalogue
        self.places = catalogue.places(training_set.catalogue.item_ids)
        self.events: list[pd.DataFrame] = []
        self.groups: list[pd.DataFrame] = []
        self.lists: list[np.ndarray] = []
        self.repeated = self.unmarked = self.unknown = 0
        self.seconds = 0.0

    def take(self, asked: Groups, chosen: np.ndarray) -> None:
        """Score the groups at ``chosen`` and keep what became of their targets."""
        part = asked.select(chosen)
        known = seen(self.training_set, part)
        rows_S, items_S = known.row_of_value(), known.values
        row_T, event_T = self._targets(part, rows_S, items_S)
        if not len(event_T):
            return
        item_T = self.places[self.training_set.items[event_T]]
        began = perf_counter()
        scores_BN = self.recommender.scores(histories(self.training_set, part, catalogue=self.catalogue))
        self.seconds += perf_counter() - began
        masked_BN = mask(scores_BN, rows_S, self.places[items_S])
        self.unknown += int((item_T < 0).sum())
        reward_T = self.training_set.rewards[event_T]
        user_B = self.training_set.user_ids[part.users]
        candidates_B = (masked_BN > -np.inf).sum(axis=1)
        self.events.append(
            pd.DataFrame(
                {
                    "group": chosen[row_T],
                    "user_id": user_B[row_T],
                    "position": self.training_set.positions[event_T],
                    "reward": reward_T,
                    "rank": ranks(masked_BN, row_T, item_T),
                    "candidates": candidates_B[row_T],
                }
            )
        )
        self._keep_groups(chosen, user_B, part.moments, row_T, item_T, reward_T, masked_BN)

    def _targets(self, part: Groups, rows_S: np.ndarray, items_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each target's row in the batch and its event; what the user had already is counted and left out."""
        event_T, row_T = part.rows.values, part.rows.row_of_value()
        used_T = np.isin(self.training_set.kinds[event_T], _TARGET_KINDS)
        self.unmarked += int((~used_T).sum())
        event_T, row_T = event_T[used_T], row_T[used_T]
        count = len(self.training_set.catalogue)
        key_T = row_T * count + self.training_set.items[event_T]
        fresh_T = ~np.isin(key_T, rows_S * count + items_S)
        first_T = np.zeros(len(key_T), bool)
        first_T[np.unique(key_T, return_index=True)[1]] = True
        keep_T = fresh_T & first_T
        self.repeated += int((~keep_T).sum())
        return row_T[keep_T], event_T[keep_T]

    def _keep_groups(
        self,
        chosen: np.ndarray,
        user_B: np.ndarray,
        moment_B: np.ndarray,
        row_T: np.ndarray,
        item_T: np.ndarray,
        reward_T: np.ndarray,
        masked_BN: np.ndarray,
    ) -> None:
        """The counts of each group that has a target, and its ten best."""
        asked_B = np.unique(row_T)
        lists_GK = np.full((len(chosen), CUT), -1, np.int32)
        for row, best in zip(asked_B, top_k_rows(masked_BN[asked_B], CUT), strict=True):
            lists_GK[row, : len(best)] = best
        hit_T = (lists_GK[row_T] == item_T[:, None]).any(axis=1) & (item_T >= 0)
        liked_T = reward_T > 0.5
        counts = {
            name: np.bincount(row_T[chosen_T], minlength=len(chosen))[asked_B]
            for name, chosen_T in (
                ("relevant", slice(None)),
                ("hits", hit_T),
                ("relevant_positive", liked_T),
                ("hits_positive", hit_T & liked_T),
            )
        }
        frame = {"group": chosen[asked_B], "user_id": user_B[asked_B], "moment": moment_B[asked_B], **counts}
        self.groups.append(pd.DataFrame(frame))
        self.lists.append(lists_GK[asked_B])

    def evaluation(self, asked: Groups) -> Evaluation:
        """Everything seen, events by position and groups in the order of time."""
        events = _joined(self.events, ["group", "user_id", "position", "reward", "rank", "candidates"])
        columns = ["group", "user_id", "moment", "relevant", "hits", "relevant_positive", "hits_positive"]
        frame = _joined(self.groups, columns)
        order = np.argsort(frame["group"].to_numpy(np.int64), kind="stable")
        lists = np.concatenate(self.lists) if self.lists else np.zeros((0, CUT), np.int32)
        return Evaluation(
            name=self.recommender.name,
            events=events.sort_values("position", ignore_index=True),
            groups=frame.iloc[order].reset_index(drop=True),
            lists_GK=lists[order],
            catalogue_size=len(self.catalogue),
            repeated=self.repeated,
            unmarked=self.unmarked,
            unknown=self.unknown,
            seconds=self.seconds,
        )


def ranks(masked_BN: np.ndarray, row_T: np.ndarray, item_T: np.ndarray, batch: int = 256) -> np.ndarray:
    """The rank (float64, 1 is best) of each target in its row; infinity for a target of -1.

    Equal scores stand in catalogue order, as in the list that the pipeline shows.
    """
    found = np.full(len(row_T), np.inf)
    known = np.flatnonzero(item_T >= 0)
    for start in range(0, len(known), batch):
        part = known[start : start + batch]
        rows_TN, item = masked_BN[row_T[part]], item_T[part]
        score = rows_TN[np.arange(len(part)), item][:, None]
        before = (rows_TN == score) & (np.arange(rows_TN.shape[1]) < item[:, None])
        found[part] = 1 + ((rows_TN > score) | before).sum(axis=1)
    return found


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: [] for name in columns})
