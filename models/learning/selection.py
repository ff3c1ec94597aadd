"""What is chosen on validation: popularity's half-life, item-kNN's settings, the weights of the hybrid.

Each choice goes by the mean of NDCG@10 over all targets and over the liked ones; the first option wins a tie, so
recipes list the plain one first. Everything that was tried is kept for the report.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from models.baselines import ItemKnn, KnnChoice, Popularity, cooccurrence, usage
from models.history import HistoryBatch, Recommender
from models.hybrid import PARTS, mixed, normalised
from models.learning.dataset import TrainingSet, groups, histories, targets
from models.metrics import event_values, ranks
from models.network.config import KnnGrid, Recipe
from models.ranking.retrieval import mask

# What is chosen is chosen here: NDCG@10 over the validation stretch, in the order of time, full ranking.
#
# Targets, ranks and figures are those of the final judgement, by its own functions (``evaluation``); the
# histories are gathered once, because dozens of choices are measured on them.


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
        """Groups at positions in (after, upto]; see ``models.learning.dataset`` for what of them is a target."""
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


Option = TypeVar("Option")
Tried = list[dict[str, Any]]
Weights = tuple[float, float, float]

POPULAR_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.98)
"""Popularity's weights that are tried. It is never all: scores that no feedback moves are no answer to it."""


def best(options: Iterable[Option], measure: Callable[[Option], float]) -> tuple[Option, list[float]]:
    """The first option with the largest measure, and all the measures."""
    listed = list(options)
    measured = [measure(option) for option in listed]
    return listed[int(np.argmax(measured))], measured


def choose_popularity(learned: TrainingSet, validation: Validation, recipe: Recipe) -> tuple[Popularity, Tried]:
    """The half-life that foresees the validation stretch best."""
    fitted = [Popularity.fit(learned, days) for days in recipe.popularity_days]
    chosen, measured = best(fitted, lambda one: validation.figures(one)["objective"])
    return chosen, [
        {"half_life_days": one.half_life_days, "objective": value} for one, value in zip(fitted, measured, strict=True)
    ]


def choose_knn(learned: TrainingSet, validation: Validation, grid: KnnGrid) -> tuple[ItemKnn, Tried]:
    """Item-kNN's settings, one after another: each is tried with the best of those before it."""
    plain = KnnChoice(
        grid.windows[0], grid.shrinkages[0], grid.histories[0], grid.decays[0], grid.slopes[0], grid.neighbours
    )
    counts = {window: cooccurrence(learned, window) for window in grid.windows}
    used_N = usage(learned)
    fitted: dict[tuple[int, float], ItemKnn] = {}

    def knn(choice: KnnChoice) -> ItemKnn:
        key = (choice.window, choice.shrinkage)
        if key not in fitted:
            fitted[key] = ItemKnn.from_counts(counts[choice.window], used_N, choice)
        return replace(fitted[key], choice=choice)

    measured: dict[KnnChoice, float] = {}

    def measure(choice: KnnChoice) -> float:
        if choice not in measured:
            measured[choice] = validation.figures(knn(choice))["objective"]
        return measured[choice]

    axes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("window", grid.windows),
        ("shrinkage", grid.shrinkages),
        ("history", grid.histories),
        ("decay", grid.decays),
        ("slope", grid.slopes),
    )
    for name, values in axes:
        if len(values) > 1:
            plain, _ = best([replace(plain, **{name: value}) for value in values], measure)
    return knn(plain), [{**choice.__dict__, "objective": value} for choice, value in measured.items()]


class MixSearch:
    """The parts' normalised scores on validation, kept, so that many weights can be measured."""

    def __init__(self, parts: tuple[Recommender, ...], validation: Validation) -> None:
        self.asked, self.rewards = validation.asked, validation.rewards()
        self.parts_BN = [[normalised(part.scores(one.batch)) for part in parts] for one in validation.asked]

    def measure(self, weights: Weights) -> float:
        """The objective of a mix."""
        values = [
            one.ndcg(mixed(parts_BN, list(weights))) for one, parts_BN in zip(self.asked, self.parts_BN, strict=True)
        ]
        return figures(np.concatenate(values) if values else np.zeros(0), self.rewards)["objective"]

    def choose(self, step: float) -> tuple[Weights, Tried]:
        """The best shares of network and item-kNN, then popularity's share beside them."""
        shares = np.round(np.arange(0.0, 1.0 + step / 2, step), 6)
        # Half and half first: where validation cannot tell, neither part is trusted alone.
        pairs: list[Weights] = [(float(s), float(1.0 - s), 0.0) for s in sorted(shares, key=lambda s: abs(s - 0.5))]
        pair, measured = best(pairs, self.measure)
        with_popularity = [pair] + [
            (float(pair[0] * (1.0 - share)), float(pair[1] * (1.0 - share)), share) for share in POPULAR_SHARES
        ]
        chosen, further = best(with_popularity, self.measure)
        tried = zip(pairs + with_popularity[1:], measured + further[1:], strict=True)
        return chosen, [{**dict(zip(PARTS, mix, strict=True)), "objective": value} for mix, value in tried]
