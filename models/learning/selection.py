"""What training chooses by: NDCG@10 over the validation window, in the order of time, full ranking.

Each choice goes by what the ten best hold of liked targets less what they hold of disliked ones
(``models.metrics.graded``); the first option wins a tie, so recipes list the plain one first. Targets, ranks and
figures are those of the final judgement. The histories are gathered once, because dozens of options are measured on
them; the report keeps all of these. The sources choose their own settings (``models.sources``); the weights of the
hybrid are chosen here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.baselines import Tried
from models.history import HistoryBatch, Recommender
from models.hybrid import mixed, normalised
from models.learning.dataset import Groups, TrainingSet, groups, histories, targets
from models.metrics import event_values, graded, is_in, ranks
from models.ranking.retrieval import mask

BATCH = 256

FURTHER_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.98)
"""The weights that are tried for each source after the first two. None is ever all: a slate that only popularity makes,
which no feedback moves, is no answer to feedback."""

Weights = tuple[float, ...]


@dataclass(frozen=True)
class ValidationBatch:
    """The histories of a batch of groups, what to leave out (row, item), and the targets (row, item, reward)."""

    batch: HistoryBatch
    seen_rows: np.ndarray
    seen_items: np.ndarray
    target_rows: np.ndarray
    target_items: np.ndarray
    target_rewards: np.ndarray

    def ndcg(self, scores_BN: np.ndarray) -> np.ndarray:
        masked_BN = mask(scores_BN, self.seen_rows, self.seen_items)
        ranks_T = ranks(masked_BN, self.target_rows, self.target_items)
        return event_values("ndcg@10", ranks_T, np.full(len(ranks_T), masked_BN.shape[1]))


@dataclass(frozen=True)
class Validation:
    """The groups of a window of the log, at most ``most`` of them, evenly spread over it."""

    batches: list[ValidationBatch]

    @staticmethod
    def over(training_set: TrainingSet, after: int, upto: int, most: int) -> "Validation":
        """Groups at moments in (after, upto]; ``models.learning.dataset.targets`` says what of them is a target."""
        window = groups(training_set, after, upto)
        if len(window) > most:
            window = window.select(np.linspace(0, len(window) - 1, most).astype(np.int64))
        return Validation.of(training_set, window)

    @staticmethod
    def of(training_set: TrainingSet, window: Groups) -> "Validation":
        """These groups, whatever moments they are at."""
        batches = []
        for start in range(0, len(window), BATCH):
            part = window.select(np.arange(start, min(start + BATCH, len(window))))
            of_part = targets(training_set, part)
            seen, items = of_part.seen, training_set.items[of_part.event_T]
            rewards, batch = training_set.rewards[of_part.event_T], histories(training_set, part)
            batches.append(ValidationBatch(batch, seen.row_of_value(), seen.values, of_part.row_T, items, rewards))
        return Validation(batches)

    def without(self, column: str) -> "Validation":
        """The same groups with one of the batch's columns of statistics unknown."""
        unknown = [np.full_like(getattr(part.batch, column), np.nan) for part in self.batches]
        blank = [replace(part.batch, **{column: nan}) for part, nan in zip(self.batches, unknown, strict=True)]
        return Validation([replace(part, batch=batch) for part, batch in zip(self.batches, blank, strict=True)])

    def figures(self, recommender: Recommender) -> dict[str, float]:
        """NDCG@10 over all, liked and disliked targets, and ``objective``, graded NDCG@10: what choices go by."""
        return self.figures_of([recommender.scores(part.batch) for part in self.batches])

    def figures_of(self, scores: Iterable[np.ndarray]) -> dict[str, float]:
        """``figures`` of a recommender that gave these scores_BN, batch by batch; 0 where there are no targets."""
        parts = [part.ndcg(scores_BN) for part, scores_BN in zip(self.batches, scores, strict=True)]
        values = np.concatenate(parts) if parts else np.zeros(0)
        rewards = np.concatenate([part.target_rewards for part in self.batches]) if parts else np.zeros(0)
        return figures(values, rewards)


def figures(values: np.ndarray, rewards: np.ndarray) -> dict[str, float]:
    """The means over all (0 of none), liked and disliked targets (where there are any), and the graded objective."""
    parts = {f"ndcg@10_{part}": values[is_in(part, rewards)] for part in ("positive", "negative")}
    means = {name: float(part.mean()) for name, part in parts.items() if len(part)}
    return {"ndcg@10": float(values.mean()) if len(values) else 0.0, **means, "objective": graded(values, rewards)}


class MixSearch:
    """The parts' normalised scores on validation, kept, so that many weights can be measured."""

    def __init__(self, parts: Sequence[Recommender], validation: Validation) -> None:
        self.names, self.validation = [part.name for part in parts], validation
        self.parts_BN = [[normalised(part.scores(row.batch)) for part in parts] for row in validation.batches]

    def measure(self, weights: Weights) -> float:
        return self.validation.figures_of(mixed(parts_BN, weights) for parts_BN in self.parts_BN)["objective"]

    def choose(self, step: float) -> tuple[Weights, Tried]:
        """The best shares of the first two parts, then of each further part the share beside the mix so far."""
        shares = np.round(np.arange(0.0, 1.0 + step / 2, step), 6)
        rest = (0.0,) * (len(self.names) - 2)
        # Half and half first: where validation cannot tell, neither part is trusted alone.
        mixes = [(float(s), float(1.0 - s), *rest) for s in sorted(shares, key=lambda s: abs(s - 0.5))]
        measured = {mix: self.measure(mix) for mix in mixes}
        best = max(measured, key=measured.__getitem__)
        for place in range(2, len(self.names)):
            for share in FURTHER_SHARES:
                mix = tuple(float(weight * (1.0 - share)) for weight in best)
                mix = (*mix[:place], share, *mix[place + 1 :])
                measured[mix] = self.measure(mix)
            best = max(measured, key=measured.__getitem__)
        return best, [self.row(mix, objective) for mix, objective in measured.items()]

    def row(self, mix: Weights, objective: float) -> dict[str, Any]:
        return {**dict(zip(self.names, mix, strict=True)), "objective": objective}
