"""Policies that explore not at all, or evenly: the deterministic one and epsilon-greedy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np

from models.ranking.policy import Drawn, Lot, Policy

Chances = Callable[[np.ndarray], np.ndarray]
"""Given which candidates are open at the next position (bool, C; one at least), their probabilities (float64, C)."""


@dataclass(frozen=True)
class Greedy(Policy):
    """Shows the best that the rules allow at each position, always; equal scores go by the candidates' order.

    Its propensities are 1, and no other policy can be judged by what it shows: it shows nothing else. Its slates say so
    (``evaluable`` is False). Raises ValueError for a depth that is not positive.
    """

    depth: int = 100

    def __post_init__(self) -> None:
        check_depth(self.depth)

    def describe(self) -> dict[str, Any]:
        """What a slate records of the policy."""
        return {"name": "greedy", "candidates": self.depth, "evaluable": False}

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Greedy":
        """What ``describe`` told."""
        return Greedy(int(described["candidates"]))

    def at_depth(self, depth: int) -> Self:
        """The same, drawing from so many candidates."""
        return replace(self, depth=depth)

    def draw_many(self, lots: Sequence[Lot]) -> list[Drawn]:
        """See ``Policy``. Raises ValueError for a score that is not finite."""
        return [in_order(lot, partial(best_alone, lot.scores_C)) for lot in lots]

    def propensities_of(self, lots: Sequence[Lot], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See ``Policy``: 1 as long as the list is the ranking."""
        return [given(lot, partial(best_alone, lot.scores_C), one) for lot, one in zip(lots, places, strict=True)]


@dataclass(frozen=True)
class Epsilon(Policy):
    """The best that the rules allow at each position, and with probability ``epsilon`` any of them, all alike.

    So an open candidate has the propensity epsilon / n among n, and the best 1 - epsilon more: a small share of
    exploration, blind to how good the items are, with weights of at most n / epsilon for whoever evaluates by it.
    Sutton and Barto (2018), "Reinforcement learning", section 2.2, at every position. Raises ValueError for an
    epsilon outside (0, 1] and for a depth that is not positive.
    """

    epsilon: float = 0.1
    depth: int = 100

    def __post_init__(self) -> None:
        check_depth(self.depth)
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon must lie above 0 and be 1 at most, not {self.epsilon}; without, use Greedy")

    def describe(self) -> dict[str, Any]:
        """What a slate records of the policy."""
        return {"name": "epsilon", "epsilon": self.epsilon, "candidates": self.depth}

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Epsilon":
        """What ``describe`` told."""
        return Epsilon(float(described["epsilon"]), int(described["candidates"]))

    def at_depth(self, depth: int) -> Self:
        """The same, drawing from so many candidates."""
        return replace(self, depth=depth)

    def draw_many(self, lots: Sequence[Lot]) -> list[Drawn]:
        """See ``Policy``. Raises ValueError for a score that is not finite."""
        return [in_order(lot, partial(self.chances, lot.scores_C)) for lot in lots]

    def propensities_of(self, lots: Sequence[Lot], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See ``Policy``."""
        return [given(lot, partial(self.chances, lot.scores_C), one) for lot, one in zip(lots, places, strict=True)]

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> np.ndarray:
        """The probabilities of the next position, float64 (C); they sum to 1 over ``open_C``."""
        evenly_C = open_C / np.count_nonzero(open_C)
        chances_C: np.ndarray = (1.0 - self.epsilon) * best_alone(scores_C, open_C) + self.epsilon * evenly_C
        return chances_C


def in_order(lot: Lot, chances: Chances) -> Drawn:
    """One slate, position after position by ``chances`` of what is left and allowed; noise belongs to the items.

    Raises ValueError for a score that is not finite.
    """
    noise_KC = lot.noise()

    def picked(position: int, chances_C: np.ndarray) -> int:
        with np.errstate(divide="ignore"):
            return int((np.log(chances_C) + noise_KC[position]).argmax())  # the Gumbel-max trick

    places, propensities = _down(lot, chances, len(noise_KC), picked)
    return Drawn(np.array(places, np.int64), np.array(propensities, np.float64))


def given(lot: Lot, chances: Chances, places_K: np.ndarray) -> np.ndarray:
    """The probability of each place of a list given those above it (float64, K), by ``chances`` as ``in_order`` has it.

    Raises ValueError for a score that is not finite.
    """
    found_K = np.zeros(len(places_K))
    _, propensities = _down(lot, chances, len(places_K), lambda position, _: int(places_K[position]))
    found_K[: len(propensities)] = propensities
    return found_K


def _down(
    lot: Lot, chances: Chances, most: int, pick: Callable[[int, np.ndarray], int]
) -> tuple[list[int], list[float]]:
    """What ``pick`` takes position after position, given the chances there, and how probable it was."""
    if not np.isfinite(lot.scores_C).all():
        raise ValueError("a candidate's score is not finite")
    left_C = np.ones(len(lot.scores_C), bool)
    places: list[int] = []
    propensities: list[float] = []
    for position in range(most):
        open_C = left_C if lot.allowed is None else left_C & lot.allowed(places)
        if not open_C.any():
            break
        chances_C = chances(open_C)
        places.append(pick(position, chances_C))
        propensities.append(float(chances_C[places[-1]]))
        left_C[places[-1]] = False
    return places, propensities


def best_alone(scores_C: np.ndarray, open_C: np.ndarray) -> np.ndarray:
    """Probability 1 for the first of the best that are open, float64."""
    chances_C = np.zeros(len(scores_C))
    chances_C[np.where(open_C, scores_C, -np.inf).argmax()] = 1.0
    return chances_C


def check_depth(depth: int) -> None:
    """Raises ValueError for a depth that is not positive."""
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
