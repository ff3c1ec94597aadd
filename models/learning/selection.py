"""What training chooses by: NDCG@10 over the validation window, in the order of time, full ranking.

Each choice goes by what the ten best hold of liked targets less what they hold of disliked ones
(``models.metrics.graded``); the first option wins a tie, so recipes list the plain one first. Targets, ranks and
figures are those of the final judgement. The histories are gathered once, because dozens of options are measured on
them; the report keeps all of these. The sources choose their own settings (``models.sources``); the weights of the
hybrid are chosen here.
"""

from collections.abc import Iterable, Iterator, Sequence
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

FURTHER_SHARES = (0.02, 0.05, 0.98, 1.0)
"""Weights that are tried for each part beside those on the recipe's grid."""

MOST_SHARED = 0.98
"""The most that scores which are the same for everybody may weigh: a slate that they alone make, which no feedback
moves, is no answer to feedback."""

LEAST_ALONE = 0.1
"""The share of the best part's objective below which a part is noise, or says only which items are used at all."""

ROUNDS = 3

RIVALS = 100
"""The best of each part, among which the weights of a mix are tried: its ten best are hardly ever others."""

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
    """How far rivals stand above each target by each part, on validation, so that many weights are measured quickly.

    The rivals of a target are the ``RIVALS`` best items of each part. Where no more items are unseen every measure is
    that of ``Validation``; in a larger catalogue it lacks items that are among the ten best by the mix and by no part.
    """

    def __init__(self, parts: Sequence[Recommender], validation: Validation) -> None:
        self.names = [part.name for part in parts]
        self.is_shared = [getattr(part, "shared_N", None) is not None for part in parts]
        gaps, befores = [np.zeros((len(parts), 0), np.float32)], [np.zeros(0, bool)]
        targets, rewards = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for row in validation.batches:
            scores_PBN = np.stack([normalised(part.scores(row.batch)) for part in parts])
            masked = (mask(scores_BN, row.seen_rows, row.seen_items) for scores_BN in scores_PBN)
            is_rival_BN = np.logical_or.reduce([is_best(masked_BN, RIVALS) for masked_BN in masked])
            target_R, item_R = np.nonzero(is_rival_BN[row.target_rows])
            row_R, target_item_R = row.target_rows[target_R], row.target_items[target_R]
            gaps.append(scores_PBN[:, row_R, item_R] - scores_PBN[:, row_R, target_item_R])
            befores.append(item_R < target_item_R)
            targets.append(target_R + sum(map(len, rewards)))
            rewards.append(row.target_rewards)
        self.gaps_PR, self.is_before_R = list(np.concatenate(gaps, axis=1)), np.concatenate(befores)
        self.target_R, self.rewards_T = np.concatenate(targets), np.concatenate(rewards)

    def measure(self, weights: Weights) -> float:
        """The objective of the mix by these weights."""
        gap_R = mixed(self.gaps_PR, weights)
        is_above_R = ~((gap_R < 0.0) | ((gap_R == 0.0) & ~self.is_before_R))  # so is all that is no number
        ranks_T = 1.0 + np.bincount(self.target_R[is_above_R], minlength=len(self.rewards_T))
        return graded(event_values("ndcg@10", ranks_T, ranks_T), self.rewards_T)

    def choose(self, step: float) -> tuple[Weights, Tried]:
        """The best mix that a search by coordinates finds, and all that was tried.

        Each part in turn gets the best share of the whole, the others keep their proportions: at first on a grid of
        twice the ``step``, then near the share that it has, until a round over all parts changes nothing. The search
        begins with equal shares of the parts that answer each user apart: where validation cannot tell, none is trusted
        alone. A part that alone has less than ``LEAST_ALONE`` of the best one's objective gets nothing more.
        """
        alone = [self.measure(tuple(map(float, row))) for row in np.eye(len(self.names))]
        useful = [place for place, objective in enumerate(alone) if objective >= LEAST_ALONE * max(alone)]
        coarse = (*np.arange(0.0, 1.0, 2 * step).tolist(), *FURTHER_SHARES)
        own = [not shared or all(self.is_shared) for shared in self.is_shared]
        best: Weights = tuple(is_own / sum(own) for is_own in own)
        measured = {best: self.measure(best)}
        for turn in range(ROUNDS):
            before = best
            for place in useful:
                near = (0.0, *(before[place] + share for share in (-step, -step / 2, step / 2, step)))
                for mix in self._mixes(best, place, near if turn else coarse):
                    if mix not in measured:
                        measured[mix] = self.measure(mix)
                best = max(measured, key=measured.__getitem__)
            if turn and best == before:
                break
        return best, [self.row(mix, objective) for mix, objective in measured.items()]

    def _mixes(self, weights: Weights, place: int, shares: Sequence[float]) -> Iterator[Weights]:
        """These weights with each of the shares for the part at ``place``; scores for everybody never stand alone."""
        rest = 1.0 - weights[place]
        for share in (min(max(share, 0.0), 1.0) for share in shares if rest > 0):
            mix = [weight * (1.0 - share) / rest for weight in weights]
            mix[place] = share
            if sum(weight for weight, shared in zip(mix, self.is_shared, strict=True) if shared) <= MOST_SHARED:
                yield tuple(round(weight, 9) for weight in mix)

    def row(self, mix: Weights, objective: float) -> dict[str, Any]:
        return {**dict(zip(self.names, mix, strict=True)), "objective": objective}


def is_best(masked_BN: np.ndarray, k: int) -> np.ndarray:
    """Whether an item is among the ``k`` best of its row, bool (B, N); ties in catalogue order, -inf marks no item."""
    if k >= masked_BN.shape[1]:
        return masked_BN > -np.inf
    last_B1 = np.partition(masked_BN, -k, axis=1)[:, -k, None]
    is_above_BN, is_level_BN = masked_BN > last_B1, masked_BN == last_B1
    left_B1 = k - is_above_BN.sum(axis=1, keepdims=True)
    return is_above_BN | (is_level_BN & (is_level_BN.cumsum(axis=1) <= left_B1) & (last_B1 > -np.inf))
