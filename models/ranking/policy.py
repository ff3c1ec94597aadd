"""The last step of a slate: which items stand where, and with what probability.

A policy explores on purpose, keeps a slate from repeating itself, and says how probable its choice was, so that
what was shown can be judged later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Allowed = Callable[[Sequence[int]], np.ndarray]
"""A rule: given the places drawn so far (top first), a boolean mask over the candidates that may come next."""

DEFAULT_TEMPERATURE = 0.05
"""For scores in [-1, 1], as the hybrid gives: of ten items shown about seven are of the ten best, the average
place is about the tenth, and the best item stands first in half of the slates (measured on MovieLens, see
docs/adr/0006-slates-and-propensities.md)."""

LONGEST_SQUARED = 1.001
"""A unit vector's squared length, with room for rounding."""

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Drawn:
    """K positions, top first: the candidates' places (int64) and their conditional propensities (float64)."""

    places_K: np.ndarray
    propensities_K: np.ndarray


@dataclass(frozen=True)
class PlackettLuce:
    """Fills positions in order; each draws from softmax((score + diversity * d) / temperature) over what is allowed.

    ``temperature`` is in units of the scores. ``depth`` is how many of the best candidates it may draw from.
    ``diversity``, in units of the scores as well, is what a copy of an item above loses: d in [-1, 0] is minus the
    largest similarity (cosine, not below 0) to the items above, and 0 at the top. The largest and not the mean: one
    near-copy above is what a reader notices, and among nine other items a mean would hide it. That is the marginal
    relevance of Carbonell and Goldstein (1998), "The use of MMR", section 2, as a term of the draw.
    Plackett (1975), "The analysis of permutations"; drawn with the Gumbel-max trick, fresh noise a position, so
    that the draw stays exact when a rule allows an item at one position that it forbade at an earlier one.
    Raises ValueError for a temperature or depth that is not positive and for a negative diversity.
    """

    temperature: float = DEFAULT_TEMPERATURE
    depth: int = 100
    diversity: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be positive and finite, not {self.temperature}")
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}")
        if not (np.isfinite(self.diversity) and self.diversity >= 0):
            raise ValueError(f"diversity must be finite and not negative, not {self.diversity}")

    def describe(self) -> dict[str, Any]:
        """What a slate records of the policy; a diversity that is not named is 0."""
        described = {"name": "plackett-luce", "temperature": self.temperature, "candidates": self.depth}
        return {**described, "diversity": self.diversity} if self.diversity else described

    def draw(
        self,
        scores_C: np.ndarray,
        k: int,
        rng: np.random.Generator,
        allowed: Allowed | None = None,
        keys_C: np.ndarray | None = None,
        vectors_CD: np.ndarray | None = None,
    ) -> Drawn:
        """At most ``k`` distinct places of the C candidates, fewer when the rules leave fewer.

        ``keys_C`` (integers) ties an item's noise to its identity instead of its place: under one seed two
        slates then differ only as far as the scores do. ``vectors_CD`` has rows of length 1, or 0 where an item
        resembles nothing; without diversity it is not looked at. Raises ValueError for a score that is not finite,
        for vectors that are missing, not finite or too long where there is diversity.
        """
        left_C = np.array(scores_C, np.float64)
        if not np.isfinite(left_C).all():
            raise ValueError("a candidate's score is not finite")
        vectors_CD = self._vectors(vectors_CD, len(left_C))
        seeds_K = rng.integers(0, 2**63, size=min(k, len(left_C)), dtype=np.uint64)
        noise_KC = _gumbel(seeds_K[:, None], np.arange(len(left_C)) if keys_C is None else keys_C)
        similar_C = np.zeros(len(left_C))
        places: list[int] = []
        propensities: list[float] = []
        with np.errstate(over="ignore"):
            for noise_C in noise_KC:
                next_C = left_C if vectors_CD is None else left_C - self.diversity * similar_C
                if allowed is not None:
                    next_C = np.where(allowed(places), next_C, -np.inf)
                picked = self._pick(next_C, noise_C)
                if picked is None:
                    break
                place, propensity = picked
                places.append(place)
                propensities.append(propensity)
                left_C[place] = -np.inf
                if vectors_CD is not None:
                    _raise_similar(similar_C, vectors_CD, place)
        return Drawn(np.array(places, np.int64), np.array(propensities, np.float64))

    def _pick(self, next_C: np.ndarray, noise_C: np.ndarray) -> tuple[int, float] | None:
        """A place and its probability, as ``chances`` gives it; None where every score is -inf: nothing is open."""
        best = next_C.max()
        if best == -np.inf:
            return None
        logits_C = (next_C - best) / self.temperature
        weights_C = np.exp(logits_C)
        place = int((logits_C + noise_C).argmax())
        return place, float(weights_C[place] / weights_C.sum())

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities of the next position (they sum to 1 over ``open_C``) and their logits (best is 0).

        Both are float64 of the candidates' length; what is not open has probability 0 and logit -inf. The scores
        are those of this position: with diversity ``scores_below`` gives them.
        """
        logits_C = np.full(len(scores_C), -np.inf)
        with np.errstate(over="ignore"):
            logits_C[open_C] = (scores_C[open_C] - scores_C[open_C].max()) / self.temperature
        weights_C = np.exp(logits_C)
        return weights_C / weights_C.sum(), logits_C

    def scores_below(self, scores_C: np.ndarray, above: Sequence[int], vectors_CD: np.ndarray | None) -> np.ndarray:
        """score + diversity * d under the items at the places ``above``, float64: what ``draw`` draws the next from."""
        vectors_CD = self._vectors(vectors_CD, len(scores_C))
        similar_C = np.zeros(len(scores_C))
        if vectors_CD is not None:
            for place in above:
                _raise_similar(similar_C, vectors_CD, place)
        return np.asarray(scores_C, np.float64) - self.diversity * similar_C

    def _vectors(self, vectors_CD: np.ndarray | None, count: int) -> np.ndarray | None:
        """The vectors, checked; None where no diversity asks for them."""
        if not self.diversity:
            return None
        if vectors_CD is None or len(vectors_CD) != count:
            raise ValueError(f"diversity {self.diversity} needs a vector of each of the {count} candidates")
        if not (np.einsum("CD,CD->C", vectors_CD, vectors_CD) < LONGEST_SQUARED).all():
            raise ValueError("a candidate's vector is not finite or longer than 1")
        return vectors_CD


def _raise_similar(similar_C: np.ndarray, vectors_CD: np.ndarray, place: int) -> None:
    """Takes one more item above into the largest similarities, in place; they stay within [0, 1]."""
    np.maximum(similar_C, np.minimum(vectors_CD @ vectors_CD[place], 1.0), out=similar_C)


def _gumbel(seeds_K1: np.ndarray, keys_C: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise by seed and key (K, C), from 53 bits of splitmix64 (Steele et al. 2014), never infinite."""
    bits_KC = seeds_K1 + (keys_C.astype(np.uint64) + np.uint64(1)) * _WEYL
    bits_KC = (bits_KC ^ (bits_KC >> np.uint64(30))) * _MIX_1
    bits_KC = (bits_KC ^ (bits_KC >> np.uint64(27))) * _MIX_2
    bits_KC ^= bits_KC >> np.uint64(31)
    uniform_KC = ((bits_KC >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    gumbel_KC: np.ndarray = -np.log(-np.log(uniform_KC))
    return gumbel_KC
