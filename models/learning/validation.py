"""What is chosen is chosen here: NDCG@10 over the validation stretch, in the order of time, full ranking.

Targets, ranks and figures are those of the final judgement, by its own functions (``models.evaluation``); the
histories are gathered once, because dozens of choices are measured on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.contract import Recommender
from models.evaluation.metrics import event_values
from models.evaluation.replay import ranks
from models.evaluation.targets import targets
from models.history import HistoryBatch
from models.learning.dataset import TrainingSet, groups, histories
from models.ranking.retrieval import mask

BATCH = 256


@dataclass(frozen=True)
class Asked:
    """One batch of questions: histories, what to leave out (row, item), and the targets (row, item, reward)."""

    batch: HistoryBatch
    seen_rows: np.ndarray
    seen_items: np.ndarray
    target_rows: np.ndarray
    target_items: np.ndarray
    target_rewards: np.ndarray

    def ndcg(self, scores_BN: np.ndarray) -> np.ndarray:
        """NDCG@10 of every target."""
        masked_BN = mask(scores_BN, self.seen_rows, self.seen_items)
        found = ranks(masked_BN, self.target_rows, self.target_items)
        return event_values("ndcg@10", found, np.full(len(found), masked_BN.shape[1]))


@dataclass(frozen=True)
class Validation:
    """The questions of a stretch of the log, at most ``most`` groups, evenly spread over it."""

    asked: list[Asked]

    @staticmethod
    def over(training_set: TrainingSet, after: int, upto: int, most: int) -> "Validation":
        """Groups at positions in (after, upto]; see ``models.evaluation.targets`` for what of them is a target."""
        stretch = groups(training_set, after, upto)
        if len(stretch) > most:
            stretch = stretch.select(np.linspace(0, len(stretch) - 1, most).astype(np.int64))
        asked = []
        for start in range(0, len(stretch), BATCH):
            part = stretch.select(np.arange(start, min(start + BATCH, len(stretch))))
            found = targets(training_set, part)
            items, rewards = training_set.items[found.event_T], training_set.rewards[found.event_T]
            had = found.seen
            batch = histories(training_set, part)
            asked.append(Asked(batch, had.row_of_value(), had.values, found.row_T, items, rewards))
        return Validation(asked)

    def thinned(self, every: int) -> "Validation":
        """Each ``every``-th batch: for what is measured often."""
        return Validation(self.asked[::every])

    def without(self, column: str) -> "Validation":
        """The same questions with one of the batch's columns of statistics unknown."""
        blank = [replace(one.batch, **{column: np.full_like(getattr(one.batch, column), np.nan)}) for one in self.asked]
        return Validation([replace(one, batch=batch) for one, batch in zip(self.asked, blank, strict=True)])

    def rewards(self) -> np.ndarray:
        """The reward of every target, in the order in which values are given."""
        return np.concatenate([one.target_rewards for one in self.asked]) if self.asked else np.zeros(0)

    def each(self, recommender: Recommender) -> Iterator[np.ndarray]:
        """The recommender's scores_BN, batch by batch."""
        return (recommender.scores(one.batch) for one in self.asked)

    def figures(self, recommender: Recommender) -> dict[str, float]:
        """NDCG@10 over all targets and over the liked ones, and the mean of both: what choices go by."""
        values = [one.ndcg(scores) for one, scores in zip(self.asked, self.each(recommender), strict=True)]
        return figures(np.concatenate(values) if values else np.zeros(0), self.rewards())


def figures(values: np.ndarray, rewards: np.ndarray) -> dict[str, float]:
    """The means of the values of all and of the liked targets (0 where there are none), and the mean of the two."""
    everything = float(values.mean()) if len(values) else 0.0
    liked = values[rewards > 0.5]
    positive = float(liked.mean()) if len(liked) else everything
    return {"ndcg@10": everything, "ndcg@10_positive": positive, "objective": (everything + positive) / 2}
