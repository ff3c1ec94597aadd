"""The last step of a slate: which items stand where, and with what probability.

A policy explores on purpose, and says how probable its choice was, so that what was shown can be judged later.
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
    """Fills positions in order; each draws from softmax(score / temperature) over what the rules still allow.

    ``temperature`` is in units of the scores. ``depth`` is how many of the best candidates it may draw from.
    Plackett (1975), "The analysis of permutations"; drawn with the Gumbel-max trick, fresh noise a position, so
    that the draw stays exact when a rule allows an item at one position that it forbade at an earlier one.
    Raises ValueError for a temperature or depth that is not positive.
    """

    temperature: float = DEFAULT_TEMPERATURE
    depth: int = 100

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be positive and finite, not {self.temperature}")
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}")

    def describe(self) -> dict[str, Any]:
        """What a slate records of the policy."""
        return {"name": "plackett-luce", "temperature": self.temperature, "candidates": self.depth}

    def draw(
        self,
        scores_C: np.ndarray,
        k: int,
        rng: np.random.Generator,
        allowed: Allowed | None = None,
        keys_C: np.ndarray | None = None,
    ) -> Drawn:
        """At most ``k`` distinct places of the C candidates, fewer when the rules leave fewer.

        ``keys_C`` (integers) ties an item's noise to its identity instead of its place: under one seed two
        slates then differ only as far as the scores do. Raises ValueError for a score that is not finite.
        """
        scores_C = np.asarray(scores_C, np.float64)
        if not np.isfinite(scores_C).all():
            raise ValueError("a candidate's score is not finite")
        keys_C = np.arange(len(scores_C)) if keys_C is None else keys_C
        seeds_K = rng.integers(0, 2**63, size=min(k, len(scores_C)), dtype=np.uint64)
        free_C = np.ones(len(scores_C), bool)
        places: list[int] = []
        propensities: list[float] = []
        for seed in seeds_K:
            open_C = free_C if allowed is None else free_C & allowed(places)
            if not open_C.any():
                break
            chances_C, logits_C = self.chances(scores_C, open_C)
            place = int(np.argmax(logits_C + _gumbel(seed, keys_C)))
            places.append(place)
            propensities.append(float(chances_C[place]))
            free_C[place] = False
        return Drawn(np.array(places, np.int64), np.array(propensities, np.float64))

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities of the next position (they sum to 1 over ``open_C``) and their logits (best is 0).

        Both are float64 of the candidates' length; what is not open has probability 0 and logit -inf.
        """
        logits_C = np.full(len(scores_C), -np.inf)
        with np.errstate(over="ignore"):
            logits_C[open_C] = (scores_C[open_C] - scores_C[open_C].max()) / self.temperature
        weights_C = np.exp(logits_C)
        return weights_C / weights_C.sum(), logits_C


def _gumbel(seed: np.uint64, keys_C: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise by key, from 53 bits of splitmix64 (Steele et al. 2014), never infinite."""
    with np.errstate(over="ignore"):
        bits_C = seed + (keys_C.astype(np.uint64) + np.uint64(1)) * _WEYL
        bits_C = (bits_C ^ (bits_C >> np.uint64(30))) * _MIX_1
        bits_C = (bits_C ^ (bits_C >> np.uint64(27))) * _MIX_2
        bits_C ^= bits_C >> np.uint64(31)
    uniform_C = ((bits_C >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform_C))
