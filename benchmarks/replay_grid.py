"""What moves a slate between two trainings, chosen on a stretch of the stream before the one that is judged.

Tried are the step, the fading and the weight of the preference vector, the half-life, the prior and the weight of the
live item profile, and the half-life of recent popularity: each alone, on top of live histories, by the mean of NDCG@10
over all targets and over the liked ones, as all choices are made. Leaving preference or profile out is measured too,
but never chosen: the replay is to say what they are worth.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from benchmarks.prequential import BATCH
from benchmarks.replay_arms import LivePopularity, LiveProfile, served_scores
from benchmarks.replay_stream import StreamQueryBatch, StreamState, WindowQueries
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.selection import figures
from models.metrics import event_values, ranks
from models.network.sequence import torch_threads
from models.ranking.preference import Preference


@dataclass(frozen=True)
class ProfileChoice:
    """How the live item profile decays, how many silent people are added, and what it weighs in the mix."""

    half_life_days: float
    prior: float
    weight: float


@dataclass(frozen=True)
class OnlineGrid:
    """What is tried; the first of equals is chosen."""

    steps: tuple[float, ...] = (0.1, 0.03, 0.3)
    fadings: tuple[float | None, ...] = (None, 30.0)
    preference_weights: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    half_lives: tuple[float, ...] = (0.25, 1.0, 7.0, 30.0, 180.0)
    priors: tuple[float, ...] = (20.0, 5.0, 100.0)
    profile_weights: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    popularity_days: tuple[float, ...] = (1.0, 7.0, 30.0, 90.0, 365.0)

    def preferences(self) -> list[Preference]:
        """Every preference that is tried."""
        tried = product(self.steps, self.fadings, self.preference_weights)
        return [Preference(step, weight, fading) for step, fading, weight in tried]

    def profiles(self) -> list[ProfileChoice]:
        """Every profile that is tried."""
        return [ProfileChoice(*one) for one in product(self.half_lives, self.priors, self.profile_weights)]


@dataclass(frozen=True)
class OnlineSettings:
    """What was chosen, and ``tried``: the objective of each setting, and of the live histories alone."""

    preference: Preference
    profile: ProfileChoice
    popularity_days: float
    alone: float
    tried: list[dict[str, Any]]


def search_grid(
    hybrid: Hybrid, state: StreamState, before: Iterable[TrainingSet], windows: Iterable[TrainingSet], grid: OnlineGrid
) -> OnlineSettings:
    """The best on the targets of ``windows``, which follow on ``before``; the hybrid learned from neither window.

    ``state`` is empty at first, and knows everything afterwards.
    """
    trial = _Trial(replace(hybrid, preference=None, live=0.0), len(state.catalogue), grid)
    for window in before:
        trial.open(window)
        trial.close()
        state.append(window)
    with torch_threads(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for window in windows:
            trial.open(window)
            window_queries = WindowQueries(state, window)
            starts = range(0, len(window_queries), BATCH)
            trial.rows += pool.map(
                lambda start, queries=window_queries: trial.measure(queries.batch(start, start + BATCH)), starts
            )
            trial.close()
            state.append(window)
    return trial.chosen()


class _Trial:
    """Measures every setting of a grid on the same queries; ``rows`` are (values by setting, rewards) of batches."""

    def __init__(self, hybrid: Hybrid, items: int, grid: OnlineGrid) -> None:
        self.hybrid, self.grid = hybrid, grid
        self.profiles = {days: LiveProfile(items, days) for days in grid.half_lives}
        self.popularity = {days: LivePopularity(items, days) for days in grid.popularity_days}
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []

    def open(self, window: TrainingSet) -> None:
        """Begin a window."""
        for one in self._counted():
            one.open(window)

    def close(self) -> None:
        """The window has gone by."""
        for one in self._counted():
            one.close()

    def _counted(self) -> list[LiveProfile | LivePopularity]:
        return [*self.profiles.values(), *self.popularity.values()]

    def measure(self, queries: StreamQueryBatch) -> tuple[np.ndarray, np.ndarray]:
        """NDCG@10 of every setting (in the order of ``chosen``) and target, and the targets' rewards."""
        return np.stack([_ndcg(scores_BN, queries) for scores_BN in self._scores(queries)]), queries.reward_T

    def _scores(self, queries: StreamQueryBatch) -> Iterator[np.ndarray]:
        """scores_BN of the live histories alone, of each preference, each profile, each popularity."""
        alone_BN = served_scores(self.hybrid, queries.histories)
        yield alone_BN
        for step, fading in product(self.grid.steps, self.grid.fadings):
            u_BD = Preference(step, 0.0, fading).vectors(queries.histories, self.hybrid.network.unit_items_ND)
            likeness_BN = self.hybrid.network.likeness(u_BD)
            yield from (alone_BN + np.float32(weight) * likeness_BN for weight in self.grid.preference_weights)
        for days, prior in product(self.grid.half_lives, self.grid.priors):
            live_BN = self.profiles[days].scores(queries.histories.now_B, prior)
            yield from (alone_BN + np.float32(weight) * live_BN for weight in self.grid.profile_weights)
        for popularity in self.popularity.values():
            yield popularity.scores(queries.histories.now_B)

    def chosen(self) -> OnlineSettings:
        """The best of each; the first of equals."""
        values_XT = np.concatenate([values for values, _ in self.rows], axis=1)
        rewards_T = np.concatenate([rewards for _, rewards in self.rows])
        objective_X = [figures(values_T, rewards_T)["objective"] for values_T in values_XT]
        preferences, profiles = self.grid.preferences(), self.grid.profiles()
        ends = np.cumsum([1, len(preferences), len(profiles), len(self.grid.popularity_days)])
        _, of_preferences, of_profiles, of_popularity = (
            objective_X[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)
        )
        named: list[tuple[str, dict[str, Any]]] = [("live history", {})]
        named += [("preference", asdict(one)) for one in preferences]
        named += [("item profile", asdict(one)) for one in profiles]
        named += [("popularity", {"half_life_days": days}) for days in self.grid.popularity_days]
        return OnlineSettings(
            preference=preferences[int(np.argmax(of_preferences))],
            profile=profiles[int(np.argmax(of_profiles))],
            popularity_days=self.grid.popularity_days[int(np.argmax(of_popularity))],
            alone=objective_X[0],
            tried=[
                {"what": what, **setting, "objective": objective}
                for (what, setting), objective in zip(named, objective_X, strict=True)
            ],
        )


def _ndcg(scores_BN: np.ndarray, queries: StreamQueryBatch) -> np.ndarray:
    masked_BN = np.where(queries.seen_BN, -np.inf, scores_BN)
    rank_T = ranks(masked_BN, queries.row_T, queries.item_T)
    return event_values("ndcg@10", rank_T, np.zeros(len(rank_T)))
