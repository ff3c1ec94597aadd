"""Limits on exploration that hold for any policy: a budget for each user, and a floor under the slate's quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from models.ranking.policy import Drawn, Lot, Policy


@dataclass(frozen=True)
class Bounded(Policy):
    """Another policy, kept within limits; both are rules of the draw, so propensities stay exact.

    A position explores when its item is worth less than the best that the rules allow there, as far as the policy
    within knows (``Policy.worth``: acting on what was learned is no exploration). ``budget`` is how many positions of
    one user may explore within any ``days``, counted from ``Lot.explored`` on (whoever asks counts back); None: any
    number. Once it is spent, only the best are left to draw from. The period stands here and not in a setting since the
    number means nothing without it: a bundle, and each slate, says what its users were promised.

    Scores have no zero of their own, so worth is counted from the worst candidate. At every position only what is
    worth ``least_quality`` (0 to 1) times the best one there may be drawn. The slate is then worth at least that share
    of the greedy slate, whenever the rules are none or one cap: whatever stands above, something as good as the greedy
    slate's item of this position is still allowed (sets under one cap are a matroid). Under several caps it holds at
    every position, by what is left there.

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
        """That of the policy within."""
        return self.inner.depth

    @property
    def needs_vectors(self) -> bool:
        """As the policy within."""
        return self.inner.needs_vectors

    @property
    def features(self) -> tuple[str, ...]:
        """Those of the policy within."""
        return self.inner.features

    def at_depth(self, depth: int) -> Self:
        """The same, drawing from so many candidates."""
        return replace(self, inner=self.inner.at_depth(depth))

    def worth(self, lot: Lot) -> np.ndarray:
        """As the policy within."""
        return self.inner.worth(lot)

    def describe(self) -> dict[str, Any]:
        """What the policy within says, and the limits."""
        limits = {"budget": self.budget, "days": self.days, "least_quality": self.least_quality}
        return {**self.inner.describe(), **limits}

    def draw_many(self, lots: Sequence[Lot]) -> list[Drawn]:
        """See ``Policy``; ``notes`` tell how many positions explored, how many had before, and the slate's quality."""
        limits = self._limits(lots)
        drawn = self.inner.draw_many([replace(lot, allowed=limit) for lot, limit in zip(lots, limits, strict=True)])
        return [replace(one, notes=limit.notes(one)) for one, limit in zip(drawn, limits, strict=True)]

    def propensities_of(self, lots: Sequence[Lot], places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See ``Policy``."""
        limited = [replace(lot, allowed=limit) for lot, limit in zip(lots, self._limits(lots), strict=True)]
        return self.inner.propensities_of(limited, places)

    def _limits(self, lots: Sequence[Lot]) -> list["_Limit"]:
        return [_Limit(lot, self.inner.worth(lot), self.budget, self.least_quality) for lot in lots]


@dataclass(frozen=True)
class _Open:
    """What the rules leave below some items: a mask, the best worth in it, and how many of those above explored."""

    open_C: np.ndarray
    best: float
    explored: int


class _Limit:
    """The rule of one draw. What it keeps are results alone: it says the same of the same items above, always."""

    def __init__(self, lot: Lot, worth_C: np.ndarray, budget: int | None, least_quality: float) -> None:
        self._lot = lot
        self._worth_C = worth_C
        self._worst = float(np.min(worth_C, initial=np.inf))
        self._left = np.inf if budget is None else max(budget - lot.explored, 0)
        self._share = least_quality
        self._below: dict[tuple[int, ...], _Open] = {}

    def __call__(self, above: Sequence[int]) -> np.ndarray:
        """Which candidates may come next (bool, C)."""
        found = self._at(tuple(above))
        if found.explored >= self._left:
            return np.asarray(found.open_C & (self._worth_C >= found.best))
        return np.asarray(found.open_C & (self._worth_C - self._worst >= self._share * (found.best - self._worst)))

    def notes(self, drawn: Drawn) -> dict[str, Any]:
        """What was used of the limits; the quality is the slate's worth as a share of the greedy one's."""
        places = tuple(drawn.places_K.tolist())
        greedy: tuple[int, ...] = ()
        while len(greedy) < len(places) and (found := self._at(greedy)).open_C.any():
            greedy = (*greedy, int(np.where(found.open_C, self._worth_C, -np.inf).argmax()))
        worth, best = ((self._worth_C[list(chosen)] - self._worst).sum() for chosen in (places, greedy))
        quality = float(worth / best) if best > 0 else 1.0
        used = {"explored": self._at(places).explored, "explored_before": self._lot.explored, "quality": quality}
        return {**drawn.notes, **used}

    def _at(self, above: tuple[int, ...]) -> _Open:
        if above not in self._below:
            explored = 0
            if above:
                before = self._at(above[:-1])
                explored = before.explored + int(self._worth_C[above[-1]] < before.best)
            allowed, count = self._lot.allowed, len(self._worth_C)
            open_C = np.ones(count, bool) if allowed is None else allowed(list(above)).copy()
            open_C[list(above)] = False
            best = float(self._worth_C[open_C].max(initial=-np.inf))
            self._below[above] = _Open(open_C, best, explored)
        return self._below[above]
