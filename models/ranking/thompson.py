"""Thompson sampling on a Bayesian last layer: explores where the model does not know how much its parts are worth.

The last layer of the hybrid is linear: a weight for each source (``models.hybrid``). Here these weights are uncertain.
An item's value is

    score + features . w,    w ~ N(mean, precision^-1)

where the score is the hybrid's own, the features are what the sources said of the item, and w is how far the weights
are off. Who explores so tries what one source praises and the mix does not, as long as it may be right, and stops once
reactions have settled it. "Neural linear" in Riquelme, Tucker and Snoek (2018), "Deep Bayesian bandits showdown";
Agrawal and Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs". The posterior is F weights
and an F by F matrix, so it travels in the bundle's settings and in every slate.

Training updates the posterior from the reactions to slates. A reaction is worth ``2 * reward - 1``, a score is what
the mix says: they have no common scale, and a user who looks at lower positions less, or reacts to everything, would
look like a source. So rewards, features and scores are compared within a slate, each less what is usual at its
position. What then remains of the rewards is a straight line of the scores by its slope, and the sources explain what
the line does not:

    reward = slope * (score + features . w) + noise

The score is what the *new* mix says of the logged features, so that weights learned under an earlier mix go on meaning
what they say. The posterior is made anew from the prior each time: nothing counts twice, late and withdrawn reactions
count as they stand, and equal logs give equal posteriors. Reactions lose half of their weight in ``HALF_LIFE_DAYS``:
the sources are trained again and again, and a posterior that only grew would stop exploring for ever; forgetting as by
the discounts of West and Harrison (1997), "Bayesian forecasting and dynamic models".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attune.clock import DAY
from attune.columns import Columns
from attune.event_types import centred
from models.learning.dataset import is_panel
from models.ranking.exploration import Bounded, check_depth, given, in_order
from models.ranking.policy import Draw, Policy, Pool

PRIOR_DEVIATION = 0.1  # how far a weight may be off before any reaction: by a step of the grid that chose the mix
DIGITS = 6  # of the features that a slate logs
HALF_LIFE_DAYS = 30.0
MOST_OF_A_USER = 200.0  # shown items that one user counts for at most, so that nobody decides for all
SURE = 2.0
"""So many standard errors the slope must be above 0; else scores say nothing of rewards, and nothing follows."""


@dataclass(frozen=True)
class LinearPosterior:
    """What is known of F weights: normal, with this mean and precision (the inverse covariance).

    Raises ValueError where the precision is not a symmetric positive definite F by F matrix.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        precision_FF, width = np.array(self.precision, np.float64), len(self.mean)
        is_sound = precision_FF.shape == (width, width) and width > 0 and bool(np.isfinite(self.mean).all())
        is_sound = is_sound and np.allclose(precision_FF, precision_FF.T)
        if not (is_sound and np.linalg.eigvalsh(precision_FF).min() > 0):
            raise ValueError(f"the precision of {width} weights must be a symmetric positive definite matrix of them")

    @staticmethod
    def prior(width: int, deviation: float) -> "LinearPosterior":
        """Before anything was seen: weights of mean 0 that differ by ``deviation`` (above 0), each for itself."""
        return LinearPosterior((0.0,) * width, _rows(np.eye(width) / deviation**2))

    def updated(self, features_RF: np.ndarray, residuals_R: np.ndarray, noise: float) -> "LinearPosterior":
        """With R reactions taken in: the exact posterior of the linear model with normal errors.

        ``residuals_R`` is the centred reward less the score, ``noise`` (above 0) the standard deviation of a reaction
        around its expectation. In parts or at once, in any order, it comes to the same.
        """
        features_RF = np.asarray(features_RF, np.float64)
        before_FF = np.array(self.precision)
        precision_FF = before_FF + features_RF.T @ features_RF / noise**2
        mean_F = np.linalg.solve(precision_FF, before_FF @ self.mean + features_RF.T @ residuals_R / noise**2)
        return LinearPosterior(tuple(mean_F.tolist()), _rows((precision_FF + precision_FF.T) / 2))

    def weights(self, normals_MF: np.ndarray) -> np.ndarray:
        """M draws of the weights (M, F), from as many rows of standard normal numbers."""
        root_FF = np.linalg.cholesky(np.array(self.precision))
        return self.mean + np.linalg.solve(root_FF.T, normals_MF.T).T


@dataclass(frozen=True)
class Thompson(Policy):
    """At each position the item that is best by weights drawn from the posterior, drawn afresh for every position.

    The chance of that has no formula. An item's propensity is the share of ``samples`` draws of the weights that it
    wins, and the item is drawn by these very shares: so the propensity is exact given the draws, and dividing by it is
    unbiased. ``errors`` in the slate are its standard errors as an estimate of the long-run chance (adjusted as by
    Agresti and Coull 1998, so that 0 and all of the samples have errors too). ``floor`` is the least propensity of
    every open candidate, 1 / n at most among n: nobody ever divides by next to nothing.
    Raises ValueError for sources that are not one for each weight, and for samples, depth or floor out of range.
    """

    posterior: LinearPosterior
    sources: tuple[str, ...]
    depth: int = 100
    samples: int = 256
    floor: float = 2e-4

    def __post_init__(self) -> None:
        check_depth(self.depth)
        if len(self.sources) != len(self.posterior.mean):
            raise ValueError(f"{len(self.posterior.mean)} weights for the {len(self.sources)} sources {self.sources}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, not {self.samples}")
        if not 0 < self.floor < 1:
            raise ValueError(f"floor must lie between 0 and 1, not {self.floor}")

    @property
    def features(self) -> tuple[str, ...]:
        return self.sources

    def describe(self) -> dict[str, Any]:
        settings = {"name": "thompson", "candidates": self.depth, "samples": self.samples, "floor": self.floor}
        precision = [list(row) for row in self.posterior.precision]
        return {**settings, "sources": list(self.sources), "mean": list(self.posterior.mean), "precision": precision}

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Thompson":
        posterior = LinearPosterior(tuple(described["mean"]), tuple(map(tuple, described["precision"])))
        depth, samples, floor = int(described["candidates"]), int(described["samples"]), float(described["floor"])
        return Thompson(posterior, tuple(described["sources"]), depth, samples, floor)

    def worth(self, pool: Pool) -> np.ndarray:
        """By the posterior's mean. Raises ValueError for features that are missing or not finite."""
        return np.asarray(pool.scores_C + self._features(pool).astype(np.float64) @ self.posterior.mean, np.float64)

    def draw_many(self, pools: Sequence[Pool]) -> list[Draw]:
        """See ``Policy``; ``notes`` hold the ``errors`` of the propensities, and the ``features`` of what is shown.

        Raises ValueError for a score that is not finite, and for features that are missing or not finite.
        """
        return [self._drawn(pool) for pool in pools]

    def propensities_of(self, pools: Sequence[Pool], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See ``Policy``: shares of fresh draws, so unbiased for the long-run chance at every position by itself."""
        return [self._given(pool, places_K) for pool, places_K in zip(pools, places, strict=True)]

    def chances(self, pool: Pool, open_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities of the next position (float64, C; 1 in sum over ``open_C``), and the wins they rest on.

        The weights are drawn from the pool's generator, so every call makes new ones.
        """
        features_CF, open_at = self._features(pool), np.flatnonzero(open_C)
        weights_MF = self.posterior.weights(pool.rng.standard_normal((self.samples, len(self.sources))))
        values_MO = weights_MF @ features_CF[open_at].T + pool.scores_C[open_at]
        wins_C = np.bincount(open_at[values_MO.argmax(axis=1)], minlength=len(open_C))
        floor = min(self.floor, 1.0 / len(open_at))
        return open_C * (floor + (1.0 - len(open_at) * floor) * wins_C / self.samples), wins_C

    def _drawn(self, pool: Pool) -> Draw:
        wins: list[np.ndarray] = []

        def chances(open_C: np.ndarray) -> np.ndarray:
            chances_C, wins_C = self.chances(pool, open_C)
            wins.append(wins_C)
            return chances_C

        drawn = in_order(pool, chances)
        won = np.array([wins_C[place] for wins_C, place in zip(wins, drawn.places_K, strict=True)])
        likely = (won + 2.0) / (self.samples + 4.0)
        shown_KF = self._features(pool)[drawn.places_K].astype(np.float64)
        notes = {
            "errors": np.sqrt(likely * (1.0 - likely) / (self.samples + 4.0)).tolist(),
            "features": np.round(shown_KF, DIGITS).tolist(),
        }
        return replace(drawn, notes=notes)

    def _given(self, pool: Pool, places_K: np.ndarray) -> np.ndarray:
        pool.noise()  # a draw takes it from the generator first: under one seed the weights are then the same
        return given(pool, lambda open_C: self.chances(pool, open_C)[0], places_K)

    def _features(self, pool: Pool) -> np.ndarray:
        features_CF, shape = pool.features_CF, (len(pool.scores_C), len(self.sources))
        if features_CF is None or features_CF.shape != shape or not np.isfinite(features_CF).all():
            raise ValueError(f"every candidate needs finite features of the sources {', '.join(self.sources)}")
        return features_CF


def _rows(matrix_FF: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix_FF.tolist()))


@dataclass(frozen=True)
class SourceReactions:
    """R shown items: what F ``sources`` said of each, its reward in [0, 1], its slate, rank (from 0), user and time.

    ``slates_R``, ``ranks_R`` and ``users_R`` are numbers from 0 on, ``times_R`` microseconds.
    """

    sources: tuple[str, ...]
    features_RF: np.ndarray
    rewards_R: np.ndarray
    slates_R: np.ndarray
    ranks_R: np.ndarray
    users_R: np.ndarray
    times_R: np.ndarray

    @staticmethod
    def load(path: Path, sources: tuple[str, ...]) -> "SourceReactions":
        """Of the file that ``features`` wrote the slates of exactly these sources, none of the panel's users."""
        frame = pd.read_parquet(path)
        is_of_sources = (frame["sources"].map(tuple) == sources).to_numpy(bool)
        frame = frame[is_of_sources & ~is_panel(frame[Columns.USER_ID].to_numpy())]
        return SourceReactions(
            sources=sources,
            features_RF=np.array(frame["features"].tolist(), np.float64).reshape(len(frame), len(sources)),
            rewards_R=frame[Columns.REWARD].to_numpy(np.float64),
            slates_R=pd.factorize(frame[Columns.SLATE_ID])[0],
            ranks_R=frame[Columns.RANK].to_numpy(np.int64) - 1,
            users_R=pd.factorize(frame[Columns.USER_ID])[0],
            times_R=frame[Columns.EVENT_TIMESTAMP].to_numpy(np.int64),
        )

    @property
    def weights_R(self) -> np.ndarray:
        """What each counts: half after ``HALF_LIFE_DAYS``, and no user for more than ``MOST_OF_A_USER`` together."""
        age_R = (self.times_R.max(initial=0) - self.times_R) / (HALF_LIFE_DAYS * DAY)
        fresh_R = 0.5**age_R
        of_user_R = np.bincount(self.users_R, fresh_R)[self.users_R]
        return fresh_R * np.minimum(1.0, MOST_OF_A_USER / of_user_R)


def learned_policy(policy: Policy, weights: Mapping[str, float], path: Path | None) -> Policy:
    """The policy of a model with this mix (the ``weights`` of its sources), having learned what the file says.

    Other policies than Thompson's stay as they are. Where the sources are others than before it starts from the prior;
    where there is nothing to learn from, from what was known.
    """
    if isinstance(policy, Bounded):
        return replace(policy, inner=learned_policy(policy.inner, weights, path))
    if not isinstance(policy, Thompson):
        return policy
    sources = tuple(weights)
    prior = LinearPosterior.prior(len(sources), PRIOR_DEVIATION)
    if sources != policy.sources:
        policy = replace(policy, posterior=prior, sources=sources)
    if path is None:
        return policy
    learned = posterior(prior, np.array(list(weights.values())), SourceReactions.load(path, sources))
    return policy if learned is None else replace(policy, posterior=learned)


def posterior(prior: LinearPosterior, mix_F: np.ndarray, reactions: SourceReactions) -> LinearPosterior | None:
    """What the reactions make of the prior, for a mix of these weights; None where they say nothing (see ``SURE``)."""
    if not len(reactions.rewards_R):
        return None
    weights_R = reactions.weights_R
    features_RF = _within(reactions, reactions.features_RF, weights_R)
    rewards_R = _within(reactions, centred(reactions.rewards_R)[:, None], weights_R)[:, 0]
    scores_R = features_RF @ mix_F
    spread = float(weights_R @ scores_R**2)
    if not spread > 0:
        return None
    slope = float(weights_R @ (scores_R * rewards_R)) / spread
    error = float(np.sqrt(weights_R @ (rewards_R - slope * scores_R) ** 2 / weights_R.sum()))
    if slope <= SURE * error / np.sqrt(spread) or not error > 0:
        return None
    root_R = np.sqrt(weights_R)
    return prior.updated(root_R[:, None] * features_RF, root_R * (rewards_R / slope - scores_R), error / slope)


def _within(reactions: SourceReactions, values_RX: np.ndarray, weights_R: np.ndarray) -> np.ndarray:
    """The values less the mean of their rank, and then of their slate."""
    for groups_R in (reactions.ranks_R, reactions.slates_R):
        total_G = np.bincount(groups_R, weights_R)
        means_GX = np.stack([np.bincount(groups_R, weights_R * column_R) for column_R in values_RX.T], axis=1)
        values_RX = values_RX - (means_GX / np.maximum(total_G, 1e-300)[:, None])[groups_R]
    return values_RX
