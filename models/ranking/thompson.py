"""Thompson sampling on a Bayesian last layer: explores where the model does not know how much its parts are worth.

The last layer of the hybrid is linear: a weight for each source (``models.hybrid``). Here these weights are uncertain.
An item's value is

    score + features . w,    w ~ N(mean, precision^-1)

where the score is the hybrid's own, the features are what the sources said of the item, and w is how far the weights
are off. Who explores so tries what one source praises and the mix does not, as long as it may be right, and stops once
reactions have settled it. "Neural linear" in Riquelme, Tucker and Snoek (2018), "Deep Bayesian bandits showdown";
Agrawal and Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs". The posterior is F weights
and an F by F matrix, so it travels in the bundle's settings and in every slate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from models.ranking.exploration import check_depth, given, in_order
from models.ranking.policy import Drawn, Lot, Policy

PRIOR_DEVIATION = 0.1
"""How far a weight may be off before anything was seen: by a step of the grid that the mix was chosen on."""

DIGITS = 6
"""To how many digits slates log the features that they were drawn by."""


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
        drawn_MF: np.ndarray = self.mean + np.linalg.solve(root_FF.T, normals_MF.T).T
        return drawn_MF


@dataclass(frozen=True)
class Thompson(Policy):
    """At each position the item that is best by weights drawn from the posterior, drawn afresh for every position.

    What the chance of that is has no formula. So ``samples`` draws of the weights are made, and the share of them that
    an item wins is its chance; the item is then drawn by these very shares. An item's propensity is therefore exact
    given the draws of the weights, which tell nothing of the reactions: dividing by it is unbiased, as it is by the
    long-run chance that it estimates. ``errors`` in the slate are its standard errors as such an estimate (adjusted as
    by Agresti and Coull 1998, so that 0 and all of the samples have errors too).

    ``floor`` is the least propensity that every open candidate has, 1 / n at most among n: what the weights never
    favour is shown now and then too, and nobody is ever divided by next to nothing.
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
        """The sources that it has weights for."""
        return self.sources

    def describe(self) -> dict[str, Any]:
        """What a slate records of the policy."""
        return {
            "name": "thompson",
            "candidates": self.depth,
            "samples": self.samples,
            "floor": self.floor,
            "sources": list(self.sources),
            "mean": list(self.posterior.mean),
            "precision": [list(row) for row in self.posterior.precision],
        }

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Thompson":
        """What ``describe`` told."""
        posterior = LinearPosterior(tuple(described["mean"]), tuple(map(tuple, described["precision"])))
        return Thompson(
            posterior,
            tuple(described["sources"]),
            int(described["candidates"]),
            int(described["samples"]),
            float(described["floor"]),
        )

    def at_depth(self, depth: int) -> Self:
        """The same, drawing from so many candidates."""
        return replace(self, depth=depth)

    def worth(self, lot: Lot) -> np.ndarray:
        """By the posterior's mean. Raises ValueError for features that are missing or not finite."""
        return np.asarray(lot.scores_C + self._features(lot).astype(np.float64) @ self.posterior.mean, np.float64)

    def draw_many(self, lots: Sequence[Lot]) -> list[Drawn]:
        """See ``Policy``; ``notes`` hold the ``errors`` of the propensities, and the ``features`` of what is shown.

        Raises ValueError for a score that is not finite, and for features that are missing or not finite.
        """
        return [self._drawn(lot) for lot in lots]

    def propensities_of(self, lots: Sequence[Lot], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See ``Policy``: shares of fresh draws, so unbiased for the long-run chance at every position by itself."""
        return [self._given(lot, one) for lot, one in zip(lots, places, strict=True)]

    def chances(self, lot: Lot, open_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities of the next position (float64, C; 1 in sum over ``open_C``), and the wins they rest on.

        The weights are drawn from the lot's generator, so every call makes new ones.
        """
        features_CF, open_at = self._features(lot), np.flatnonzero(open_C)
        weights_MF = self.posterior.weights(lot.rng.standard_normal((self.samples, len(self.sources))))
        values_MO = weights_MF @ features_CF[open_at].T + lot.scores_C[open_at]
        wins_C = np.bincount(open_at[values_MO.argmax(axis=1)], minlength=len(open_C))
        floor = min(self.floor, 1.0 / len(open_at))
        return open_C * (floor + (1.0 - len(open_at) * floor) * wins_C / self.samples), wins_C

    def _drawn(self, lot: Lot) -> Drawn:
        wins: list[np.ndarray] = []

        def chances(open_C: np.ndarray) -> np.ndarray:
            chances_C, wins_C = self.chances(lot, open_C)
            wins.append(wins_C)
            return chances_C

        drawn = in_order(lot, chances)
        won = np.array([wins_C[place] for wins_C, place in zip(wins, drawn.places_K, strict=True)])
        likely = (won + 2.0) / (self.samples + 4.0)
        shown_KF = self._features(lot)[drawn.places_K].astype(np.float64)
        notes = {
            "errors": np.sqrt(likely * (1.0 - likely) / (self.samples + 4.0)).tolist(),
            "features": np.round(shown_KF, DIGITS).tolist(),
        }
        return replace(drawn, notes=notes)

    def _given(self, lot: Lot, places_K: np.ndarray) -> np.ndarray:
        lot.noise()  # a draw takes it from the generator first: under one seed the weights are then the same
        return given(lot, lambda open_C: self.chances(lot, open_C)[0], places_K)

    def _features(self, lot: Lot) -> np.ndarray:
        features_CF, shape = lot.features_CF, (len(lot.scores_C), len(self.sources))
        if features_CF is None or features_CF.shape != shape or not np.isfinite(features_CF).all():
            raise ValueError(f"every candidate needs finite features of the sources {', '.join(self.sources)}")
        return features_CF


def _rows(matrix_FF: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix_FF.tolist()))
