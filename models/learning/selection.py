"""What is chosen on validation: popularity's half-life, item-kNN's settings, the weights of the hybrid.

Each choice goes by the mean of NDCG@10 over all targets and over the liked ones; the first option wins a tie, so
recipes list the plain one first. Everything that was tried is kept for the report.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from models.baselines import ItemKnn, KnnChoice, Popularity, cooccurrence, usage
from models.contract import Recommender
from models.hybrid import PARTS, mixed, normalised
from models.learning.dataset import TrainingSet
from models.learning.validation import Validation, figures
from models.network.config import KnnGrid, Recipe

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
