"""The last step of a slate: which items stand where, and with what probability.

A policy explores on purpose, keeps a slate from repeating itself, and records how probable its choice was, so that
the slate can be judged later. This file holds the protocol and the policy of the recipes; ``models.ranking.thompson``
and ``models.ranking.exploration`` hold the others, and the limits on any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np

Allowed = Callable[[Sequence[int]], np.ndarray]
"""A rule: given the places drawn so far (top first), a boolean mask over the candidates that may come next."""

Rule = Callable[[np.ndarray], Allowed]
"""A rule before the candidates are known: given their places in the catalogue (int64, C), what it says of them."""

Pick = Callable[[int, np.ndarray], np.ndarray]
"""Given a position and its logits (B, C), the place (int64, B) that each pool has there."""

DEFAULT_TEMPERATURE = 0.05
"""For scores in [-1, 1], as the hybrid gives: of ten items shown about seven are of the ten best, the average
place is about the tenth, and the best item stands first in half of the slates (measured on MovieLens, see
docs/adr/0006-slates-and-propensities.md)."""

LONGEST_SQUARED = 1.001  # a unit vector's squared length, with room for rounding

_WEYL, _MIX_1, _MIX_2 = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Pool:
    """What one slate of at most ``k`` items is drawn from: C candidates, by their scores.

    ``keys_C`` (integers) ties an item's noise to its identity instead of its place: under one seed two slates then
    differ only as far as the scores do. ``vectors_CD`` has rows of length 1, or 0 where an item resembles nothing;
    without diversity it is not looked at. ``features_CF`` is what the policy's ``features`` say of the candidates.
    ``explored`` is how many positions this user was given for exploration already, as far as whoever asks counts back.
    """

    scores_C: np.ndarray
    k: int
    rng: np.random.Generator
    allowed: Allowed | None = None
    keys_C: np.ndarray | None = None
    vectors_CD: np.ndarray | None = None
    features_CF: np.ndarray | None = None
    explored: int = 0

    @property
    def most(self) -> int:
        return min(self.k, len(self.scores_C))

    def noise(self) -> np.ndarray:
        """Standard Gumbel noise (most, C) by seed and key, from 53 bits of splitmix64 (Steele et al. 2014); finite."""
        seeds_K = self.rng.integers(0, 2**63, size=self.most, dtype=np.uint64)
        keys_C = np.arange(len(self.scores_C)) if self.keys_C is None else self.keys_C
        bits_KC = seeds_K[:, None] + (keys_C.astype(np.uint64) + np.uint64(1)) * _WEYL
        bits_KC = (bits_KC ^ (bits_KC >> np.uint64(30))) * _MIX_1
        bits_KC = (bits_KC ^ (bits_KC >> np.uint64(27))) * _MIX_2
        bits_KC ^= bits_KC >> np.uint64(31)
        uniform_KC = ((bits_KC >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return -np.log(-np.log(uniform_KC))


@dataclass(frozen=True)
class Draw:
    """K positions, top first: the candidates' places (int64) and their conditional propensities (float64).

    ``notes`` are JSON values that the slate records beside what ``Policy.describe`` says: what held for this draw.
    """

    places_K: np.ndarray
    propensities_K: np.ndarray
    notes: Mapping[str, Any] = field(default_factory=dict)


class Policy(Protocol):
    """Draws slates from the ``depth`` best candidates; a frozen dataclass of settings, without state."""

    @property
    def depth(self) -> int: ...

    @property
    def needs_vectors(self) -> bool:
        """Whether its pools must have ``vectors_CD``."""
        return False

    @property
    def features(self) -> tuple[str, ...]:
        """The sources whose scores of the candidates its pools must have, in the order of ``features_CF``."""
        return ()

    @property
    def budget(self) -> int | None:
        """How many positions of one user may explore within ``days``; None: any number, nobody need count."""
        return None

    @property
    def days(self) -> float:
        """What a budget is for."""
        return 1.0

    def worth(self, pool: Pool) -> np.ndarray:
        """What each candidate is worth as far as is known, float64 (C): the scores, with what the policy learned."""
        return np.asarray(pool.scores_C, np.float64)

    def at_depth(self, depth: int) -> Self:
        """The same, drawing from so many candidates."""
        return replace(self, depth=depth)  # type: ignore[type-var]

    def describe(self) -> dict[str, Any]:
        """What a slate and a bundle record of it, as JSON values: ``name`` and all that ``restore`` needs.

        ``evaluable`` is False where what it shows cannot judge other policies; without it, it can.
        """

    def draw_many(self, pools: Sequence[Pool]) -> list[Draw]:
        """From each pool at most ``k`` distinct places, fewer when the rules leave fewer; each drawn for itself."""

    def propensities_of(self, pools: Sequence[Pool], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The probability of each place of a list given those above it; a list of distinct places a pool, top first.

        Float64, K: what ``draw_many`` states where it draws that very list, and 0 where it never would. A policy that
        estimates its chances by draws makes those that ``draw_many`` makes under the pool's seed.
        """


@dataclass(frozen=True)
class PlackettLuce(Policy):
    """Fills positions in order; each draws from softmax((score + diversity * d) / temperature) over what is allowed.

    ``temperature`` is in units of the scores. ``depth`` is how many of the best candidates it may draw from.
    ``diversity``, in units of the scores too, is what a copy of an item above loses: d in [-1, 0] is minus the largest
    similarity (cosine, not below 0) to the items above, and 0 at the top; a mean would hide one near-copy. That is the
    marginal relevance of Carbonell and Goldstein (1998), "The use of MMR", section 2, as a term of the draw.
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

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "PlackettLuce":
        temperature, diversity = float(described["temperature"]), float(described.get("diversity", 0.0))
        return PlackettLuce(temperature, int(described["candidates"]), diversity)

    @property
    def needs_vectors(self) -> bool:
        return self.diversity > 0

    def draw_many(self, pools: Sequence[Pool]) -> list[Draw]:
        """See ``Policy``. Raises ValueError for a score, or with diversity a vector, that is missing or not finite."""
        left_BC, most_B = _laid_out(pools)
        noise_BKC = np.zeros((len(pools), most_B.max(), left_BC.shape[1]))
        for noise_KC, pool in zip(noise_BKC, pools, strict=True):
            noise_KC[: pool.most, : len(pool.scores_C)] = pool.noise()

        def picked(position: int, logits_BC: np.ndarray) -> np.ndarray:
            return (logits_BC + noise_BKC[:, position]).argmax(axis=1)

        rows = zip(*self._down(pools, left_BC, most_B, picked), strict=True)
        return [Draw(places_K[:length], propensities_K[:length]) for places_K, propensities_K, length in rows]

    def propensities_of(self, pools: Sequence[Pool], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        left_BC, _ = _laid_out(pools)
        counts_B = np.array([len(places_K) for places_K in places], np.int64)
        given_BK = np.zeros((len(pools), counts_B.max()), np.int64)
        for given_K, places_K in zip(given_BK, places, strict=True):
            given_K[: len(places_K)] = places_K
        _, chances_BK, lengths_B = self._down(pools, left_BC, counts_B, lambda position, _: given_BK[:, position])
        chances_BK = np.where(np.arange(given_BK.shape[1]) < lengths_B[:, None], chances_BK, 0.0)
        return [chances_K[:count] for chances_K, count in zip(chances_BK, counts_B, strict=True)]

    def _down(
        self, pools: Sequence[Pool], left_BC: np.ndarray, most_B: np.ndarray, pick: Pick
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position after position, what ``pick`` takes: places (B, K), their chances, and how long each list could be.

        ``left_BC`` (see ``_laid_out``) is used up; ``most_B`` is how many positions each pool is asked for.
        """
        vectors: list[np.ndarray] = []
        for pool in pools if self.diversity else ():
            vectors_CD, count = pool.vectors_CD, len(pool.scores_C)
            if vectors_CD is None or len(vectors_CD) != count:
                raise ValueError(f"diversity {self.diversity} needs a vector of each of the {count} candidates")
            if not (np.einsum("CD,CD->C", vectors_CD, vectors_CD) < LONGEST_SQUARED).all():
                raise ValueError("a candidate's vector is not finite or longer than 1")
            vectors.append(vectors_CD)
        ruled = [(row, pool.allowed) for row, pool in enumerate(pools) if pool.allowed is not None]
        shape = (len(pools), int(most_B.max()), left_BC.shape[1])
        rows, similar_BC = np.arange(len(pools)), np.zeros(left_BC.shape)
        logits_BKC, places_BK = np.empty(shape), np.zeros(shape[:2], np.int64)
        is_drawn_BK = np.arange(shape[1]) < most_B[:, None]
        with np.errstate(over="ignore", invalid="ignore"):  # of a row that is -inf all over nothing is drawn
            for position in range(shape[1]):
                next_BC = left_BC - self.diversity * similar_BC if self.diversity else left_BC
                next_BC, logits_BC = next_BC.copy() if ruled else next_BC, logits_BKC[:, position]
                for row, allowed in ruled:
                    closed_C = ~allowed(places_BK[row, :position].tolist())
                    next_BC[row, : len(pools[row].scores_C)][closed_C] = -np.inf
                best_B1 = next_BC.max(axis=1, keepdims=True)
                np.subtract(next_BC, best_B1, out=logits_BC)
                np.divide(logits_BC, self.temperature, out=logits_BC)
                picked_B = pick(position, logits_BC)
                is_drawn_BK[:, position] &= best_B1[:, 0] > -np.inf
                places_BK[:, position], left_BC[rows, picked_B] = picked_B, -np.inf
                for row in np.flatnonzero(is_drawn_BK[:, position]).tolist() if self.diversity else ():
                    similar_C, vectors_CD = similar_BC[row, : len(vectors[row])], vectors[row]
                    np.maximum(similar_C, np.minimum(vectors_CD @ vectors_CD[picked_B[row]], 1.0), out=similar_C)
            weights_BKC = np.exp(logits_BKC)
            drawn_BK = np.take_along_axis(weights_BKC, places_BK[:, :, None], axis=2)[:, :, 0]
            propensities_BK = drawn_BK / weights_BKC.sum(axis=2)
        lengths_B = np.logical_and.accumulate(is_drawn_BK, axis=1).sum(axis=1)  # what a rule ended stays ended
        return places_BK, propensities_BK, lengths_B


def _laid_out(pools: Sequence[Pool]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B, C), -inf where a pool has fewer candidates, and how many items each pool can give."""
    left_BC = np.full((len(pools), max(len(pool.scores_C) for pool in pools)), -np.inf)
    for left_C, pool in zip(left_BC, pools, strict=True):
        if not np.isfinite(pool.scores_C).all():
            raise ValueError("a candidate's score is not finite")
        left_C[: len(pool.scores_C)] = pool.scores_C
    return left_BC, np.array([pool.most for pool in pools], np.int64)
