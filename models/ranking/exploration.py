"""Policies that explore not at all or evenly (greedy, epsilon-greedy), and limits on the exploration of any policy.

The limits are a budget for each user and a floor under the slate's quality.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np

from models.ranking.policy import Draw, Policy, Pool

Chances = Callable[[np.ndarray], np.ndarray]
"""Given which candidates are open at the next position (bool, C; one at least), their probabilities (float64, C)."""


class PositionByPosition(Policy, Protocol):
    """A policy whose probabilities at a position follow from the scores of what is open there alone."""

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> np.ndarray:
        """The probabilities of the next position, float64 (C); they sum to 1 over ``open_C``."""

    def draw_many(self, pools: Sequence[Pool]) -> list[Draw]:
        """See ``Policy``. Raises ValueError for a score that is not finite."""
        return [in_order(pool, partial(self.chances, pool.scores_C)) for pool in pools]

    def propensities_of(self, pools: Sequence[Pool], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = zip(pools, places, strict=True)
        return [given(pool, partial(self.chances, pool.scores_C), places_K) for pool, places_K in rows]


@dataclass(frozen=True)
class Greedy(PositionByPosition):
    """Shows the best that the rules allow at each position, always; equal scores go by the candidates' order.

    Its propensities are 1, and no other policy can be judged by what it shows: it shows nothing else. Its slates say so
    (``evaluable`` is False). Raises ValueError for a depth that is not positive.
    """

    depth: int = 100

    def __post_init__(self) -> None:
        check_depth(self.depth)

    def describe(self) -> dict[str, Any]:
        return {"name": "greedy", "candidates": self.depth, "evaluable": False}

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Greedy":
        return Greedy(int(described["candidates"]))

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> np.ndarray:
        return best_alone(scores_C, open_C)


@dataclass(frozen=True)
class Epsilon(PositionByPosition):
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
        return {"name": "epsilon", "epsilon": self.epsilon, "candidates": self.depth}

    @staticmethod
    def restore(described: Mapping[str, Any]) -> "Epsilon":
        return Epsilon(float(described["epsilon"]), int(described["candidates"]))

    def chances(self, scores_C: np.ndarray, open_C: np.ndarray) -> np.ndarray:
        evenly_C = open_C / np.count_nonzero(open_C)
        return (1.0 - self.epsilon) * best_alone(scores_C, open_C) + self.epsilon * evenly_C


def in_order(pool: Pool, chances: Chances) -> Draw:
    """One slate by ``chances`` of what is left and allowed. Raises ValueError for a score that is not finite."""
    noise_KC = pool.noise()

    def picked(position: int, chances_C: np.ndarray) -> int:
        with np.errstate(divide="ignore"):
            return int((np.log(chances_C) + noise_KC[position]).argmax())  # the Gumbel-max trick

    places, propensities = _down(pool, chances, len(noise_KC), picked)
    return Draw(np.array(places, np.int64), np.array(propensities, np.float64))


def given(pool: Pool, chances: Chances, places_K: np.ndarray) -> np.ndarray:
    """The probability of each place given those above it (float64, K), by ``chances``; raises as ``in_order`` does."""
    _, propensities = _down(pool, chances, len(places_K), lambda position, _: int(places_K[position]))
    return np.array(propensities + [0.0] * (len(places_K) - len(propensities)))


def _down(
    pool: Pool, chances: Chances, most: int, pick: Callable[[int, np.ndarray], int]
) -> tuple[list[int], list[float]]:
    """What ``pick`` takes position after position, given the chances there, and how probable it was."""
    if not np.isfinite(pool.scores_C).all():
        raise ValueError("a candidate's score is not finite")
    left_C = np.ones(len(pool.scores_C), bool)
    places: list[int] = []
    propensities: list[float] = []
    for position in range(most):
        open_C = left_C if pool.allowed is None else left_C & pool.allowed(places)
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


@dataclass(frozen=True)
class Bounded(Policy):
    """Another policy, kept within limits; both are rules of the draw, so propensities stay exact.

    A position explores when its item is worth less than the best that the rules allow there, as far as the policy
    within knows (``Policy.worth``: acting on what was learned is no exploration). ``budget`` is how many positions of
    one user may explore within any ``days``, counted from ``Pool.explored`` on (the caller counts back); None: any
    number. Once it is spent, only the best are left to draw from. A bundle, and each slate, records both.

    Scores have no zero of their own, so worth is counted from the worst candidate. At every position only what is
    worth ``least_quality`` (0 to 1) times the best one there may be drawn. Without rules, or under one cap, the slate
    is then worth at least that share of the greedy slate (sets under one cap are a matroid); under several caps the
    share holds at every position, by what is left there.

    Raises ValueError for a negative budget, days that are not positive, and a share outside 0 to 1.
    """

    inner: Policy
    budget: int | None = None
    least_quality: float = 0.0
    days: float = 1.0

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 0:
            raise ValueError(f"budget must not be negative, not {self.budget}")
        if not (np.isfinite(self.days) and self.days > 0):
            raise ValueError(f"days must be positive and finite, not {self.days}")
        if not 0 <= self.least_quality <= 1:
            raise ValueError(f"least_quality must lie between 0 and 1, not {self.least_quality}")

    @property
    def depth(self) -> int:
        return self.inner.depth

    @property
    def needs_vectors(self) -> bool:
        return self.inner.needs_vectors

    @property
    def features(self) -> tuple[str, ...]:
        return self.inner.features

    def at_depth(self, depth: int) -> Self:
        return replace(self, inner=self.inner.at_depth(depth))

    def worth(self, pool: Pool) -> np.ndarray:
        return self.inner.worth(pool)

    def describe(self) -> dict[str, Any]:
        limits = {"budget": self.budget, "days": self.days, "least_quality": self.least_quality}
        return self.inner.describe() | limits

    def draw_many(self, pools: Sequence[Pool]) -> list[Draw]:
        """See ``Policy``; ``notes`` tell how many positions explored, how many had before, and the slate's quality."""
        limits = [_Limit(pool, self) for pool in pools]
        draws = self.inner.draw_many([replace(pool, allowed=limit) for pool, limit in zip(pools, limits, strict=True)])
        return [replace(draw, notes=limit.notes(draw)) for draw, limit in zip(draws, limits, strict=True)]

    def propensities_of(self, pools: Sequence[Pool], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.inner.propensities_of([replace(pool, allowed=_Limit(pool, self)) for pool in pools], places)


@dataclass(frozen=True)
class _Open:
    """What the rules leave below some items: a mask, the best worth in it, and how many of those above explored."""

    open_C: np.ndarray
    best: float
    explored: int


class _Limit:
    """The rule of one draw. What it keeps are results alone: it says the same of the same items above, always."""

    def __init__(self, pool: Pool, bounds: Bounded) -> None:
        self._pool = pool
        self._worth_C = bounds.inner.worth(pool)
        self._worst = float(np.min(self._worth_C, initial=np.inf))
        self._left = np.inf if bounds.budget is None else max(bounds.budget - pool.explored, 0)
        self._share = bounds.least_quality
        self._below: dict[tuple[int, ...], _Open] = {}

    def __call__(self, above: Sequence[int]) -> np.ndarray:
        """Which candidates may come next (bool, C)."""
        below = self._at(tuple(above))
        if below.explored >= self._left:
            return np.asarray(below.open_C & (self._worth_C >= below.best))
        return np.asarray(below.open_C & (self._worth_C - self._worst >= self._share * (below.best - self._worst)))

    def notes(self, drawn: Draw) -> dict[str, Any]:
        """What was used of the limits; the quality is the slate's worth as a share of the greedy one's."""
        places = tuple(drawn.places_K.tolist())
        greedy: tuple[int, ...] = ()
        while len(greedy) < len(places) and (below := self._at(greedy)).open_C.any():
            greedy = (*greedy, int(np.where(below.open_C, self._worth_C, -np.inf).argmax()))
        worth, best = ((self._worth_C[list(chosen)] - self._worst).sum() for chosen in (places, greedy))
        quality = float(worth / best) if best > 0 else 1.0
        used = {"explored": self._at(places).explored, "explored_before": self._pool.explored, "quality": quality}
        return {**drawn.notes, **used}

    def _at(self, above: tuple[int, ...]) -> _Open:
        if above not in self._below:
            explored = 0
            if above:
                before = self._at(above[:-1])
                explored = before.explored + int(self._worth_C[above[-1]] < before.best)
            allowed, count = self._pool.allowed, len(self._worth_C)
            open_C = np.ones(count, bool) if allowed is None else allowed(list(above)).copy()
            open_C[list(above)] = False
            best = float(self._worth_C[open_C].max(initial=-np.inf))
            self._below[above] = _Open(open_C, best, explored)
        return self._below[above]
