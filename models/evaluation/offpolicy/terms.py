"""What every estimate is made of, so that one bootstrap serves them all."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Terms:
    """An estimate as sums over N rows: mean(plain_N) + sum(weighted_N) / sum(norms_N).

    A self-normalised estimator is a ratio, which a bootstrap must form anew in each replicate; all others are plain
    means. Float64 throughout; the norms are not negative.
    """

    plain_N: np.ndarray
    weighted_N: np.ndarray
    norms_N: np.ndarray

    @property
    def value(self) -> float:
        """The estimate; the weighted part is 0 where every norm is."""
        return float(value_of(self.plain_N.sum(), self.weighted_N.sum(), self.norms_N.sum(), len(self.plain_N)))


def value_of(plain: np.ndarray, weighted: np.ndarray, norms: np.ndarray, counts: np.ndarray | float) -> np.ndarray:
    """Estimates from the sums of their terms and the counts of the rows, of any shape."""
    found: np.ndarray = plain / counts + np.divide(weighted, norms, out=np.zeros_like(norms), where=norms > 0)
    return found


def mean(plain_N: np.ndarray) -> Terms:
    """A plain mean."""
    plain_N = np.asarray(plain_N, np.float64)
    return Terms(plain_N, np.zeros_like(plain_N), np.ones_like(plain_N))


def ratio(weighted_N: np.ndarray, norms_N: np.ndarray, plain_N: np.ndarray | None = None) -> Terms:
    """A weighted mean, on top of a plain one if there is one."""
    return Terms(np.zeros_like(weighted_N) if plain_N is None else plain_N, weighted_N, norms_N)


@dataclass(frozen=True)
class Weighting:
    """What is done about large importance weights; by default nothing.

    ``clip`` is the largest weight that counts in full (Ionides 2008, "Truncated importance sampling"): a larger one
    counts as ``clip``, which costs a bias that the verdict states. ``switch`` is the weight above which switch-DR
    trusts the reward model instead. Both are without unit. Raises ValueError for one that is not positive.
    """

    clip: float = np.inf
    switch: float = 10.0

    def __post_init__(self) -> None:
        for name in ("clip", "switch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}: it is a largest weight")

    def clipped(self, weights: np.ndarray) -> np.ndarray:
        """The weights as they count."""
        return np.minimum(weights, self.clip)


AS_THEY_ARE = Weighting()


def effective(weights_N: np.ndarray) -> float:
    """How many rows of equal weight tell as much: (sum w)^2 / sum w^2, between 0 and N.

    Kong (1992), "A note on importance sampling using standardized weights", technical report 348, Chicago.
    """
    squares = float(np.square(weights_N).sum())
    return float(np.abs(weights_N).sum()) ** 2 / squares if squares > 0 else 0.0
