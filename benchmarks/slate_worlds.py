"""Worlds of slates in which the value of the evaluation policy is known, and one in which each thing is wrong.

Both policies are sequential Plackett-Luce (``models/ranking/policy.py``) over so few items that every slate can be
named: L slates of K positions, of A items, in X contexts. A user reads from the top, and some items spoil the one
below them; in half of the contexts a slate has a position less.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from typing import Literal, get_args

import numpy as np

from benchmarks.bandit_worlds import drawn, softmax, without_best
from evaluation.offpolicy.logs import SlateLog

SlateFlaw = Literal["none", "wrong model", "wrong propensities", "no overlap", "no cascade"]
SLATE_FLAWS: tuple[SlateFlaw, ...] = get_args(SlateFlaw)

CONTEXTS, ITEMS, POSITIONS = 10, 5, 3
USERS, ROUNDS = 600, 3
SHADOW = 0.35
"""What an item that the evaluation policy shows more often takes from its neighbour's expected reward."""

MOOD = 0.05
"""How much more (half of the users) or less (the others) likely than the mean a user is to like an item."""


@dataclass(frozen=True)
class SlateWorld:
    """Rewards of every slate, NaN below its end, and both policies' conditional probabilities down it."""

    rewards_XLK: np.ndarray
    logging_XLK: np.ndarray
    evaluation_XLK: np.ndarray
    stated_XLK: np.ndarray
    model_XLK: np.ndarray

    @property
    def value(self) -> float:
        """The mean summed reward of a slate under the evaluation policy, exactly; contexts are equally likely."""
        rewards_XL = np.nansum(self.rewards_XLK, axis=2)
        return float((_slate_chances(self.evaluation_XLK) * rewards_XL).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator, users: int = USERS, rounds: int = ROUNDS) -> SlateLog:
        """A log of ``users * rounds`` slates of the logging policy, a reward of 0 or 1 at each position."""
        users_S = np.repeat(np.arange(users), rounds)
        contexts_S = rng.integers(0, len(self.rewards_XLK), users)[users_S]
        moods_S1 = np.where(rng.random(users) < 0.5, MOOD, -MOOD)[users_S][:, None]
        at_S = (contexts_S, drawn(_slate_chances(self.logging_XLK)[contexts_S], rng))
        expected_SK = self.rewards_XLK[at_S]
        liked_SK = (rng.random(expected_SK.shape) < expected_SK + moods_S1).astype(np.float64)
        predicted_XLK, mean_XLK = to_the_end(self.model_XLK, self.evaluation_XLK)
        return SlateLog(
            rewards_SK=np.where(np.isnan(expected_SK), np.nan, liked_SK),
            propensities_SK=self.stated_XLK[at_S],
            chances_SK=self.evaluation_XLK[at_S],
            predicted_SK=predicted_XLK[at_S],
            expected_SK=mean_XLK[at_S],
            users_S=users_S,
        )


def slate_world(flaw: SlateFlaw, rng: np.random.Generator) -> SlateWorld:
    """A world of its own each time, with one flaw.

    ``none``, ``wrong propensities`` and ``no overlap`` as in ``bandit_world``; in ``wrong model`` what it likes is
    disliked; in ``no cascade`` the item below takes from a position instead of the one above.
    """
    likes_XA = rng.uniform(0.45, 0.85, (CONTEXTS, ITEMS))
    tastes_XA = 0.7 * rng.normal(size=(CONTEXTS, ITEMS))
    logging_XA, evaluation_XA = softmax(tastes_XA), softmax(0.5 * tastes_XA + 2.0 * likes_XA)
    if flaw == "no overlap":
        logging_XA = without_best(logging_XA, evaluation_XA, best=2)
    shadows_XA = SHADOW * (evaluation_XA > logging_XA)
    rewards_XLK = _rewards(likes_XA, shadows_XA, flaw == "no cascade")
    logging_XLK, evaluation_XLK = plackett_luce(logging_XA), plackett_luce(evaluation_XA)
    world = SlateWorld(rewards_XLK, logging_XLK, evaluation_XLK, logging_XLK, rewards_XLK)
    if flaw == "wrong model":
        return replace(world, model_XLK=1 - rewards_XLK)
    if flaw == "wrong propensities":
        return replace(world, stated_XLK=plackett_luce(np.ones_like(logging_XA)))
    return world


def plackett_luce(weights_XA: np.ndarray) -> np.ndarray:
    """The probability of each item of each slate given those above it (X, L, K)."""
    picked_XLK = weights_XA[:, _slates()]
    gone_XLK = np.cumsum(picked_XLK, axis=2) - picked_XLK
    chances_XLK: np.ndarray = picked_XLK / (weights_XA.sum(axis=1)[:, None, None] - gone_XLK)
    return np.minimum(chances_XLK, 1.0)


def to_the_end(rewards_XLK: np.ndarray, evaluation_XLK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the evaluation policy makes of a slate from each position on, by this model of the rewards (X, L, K).

    First given the items down to this position, then given those above it alone.
    """
    chances_XL = _slate_chances(evaluation_XLK)
    tails_XLK = np.cumsum(np.nan_to_num(rewards_XLK)[:, :, ::-1], axis=2)[:, :, ::-1]
    slates_LK, found = _slates(), []
    for given in (1, 0):
        means_XLK = np.empty_like(tails_XLK)
        for k in range(slates_LK.shape[1]):
            above = slice(0, k + given)
            alike_LL = (slates_LK[:, None, above] == slates_LK[None, :, above]).all(axis=2)
            means_XLK[:, :, k] = (chances_XL * tails_XLK[:, :, k]) @ alike_LL / (chances_XL @ alike_LL)
        found.append(means_XLK)
    return found[0], found[1]


@cache
def _slates() -> np.ndarray:
    """Every slate (L, K) of the items."""
    return np.array(list(permutations(range(ITEMS), POSITIONS)))


def _slate_chances(chances_XLK: np.ndarray) -> np.ndarray:
    """The probability of each slate (X, L), which sums to 1."""
    return np.prod(chances_XLK, axis=2)


def _rewards(likes_XA: np.ndarray, shadows_XA: np.ndarray, from_below: bool) -> np.ndarray:
    """What a position gives: its item's own, less the shadow of its neighbour above, or below (X, L, K)."""
    rewards_XLK, shadows_XLK = likes_XA[:, _slates()], shadows_XA[:, _slates()]
    rewards_XLK[::2, :, -1] = np.nan
    shadows_XLK[::2, :, -1] = 0.0  # what is not shown takes from nothing
    if from_below:
        rewards_XLK[:, :, :-1] -= shadows_XLK[:, :, 1:]
    else:
        rewards_XLK[:, :, 1:] -= shadows_XLK[:, :, :-1]
    return rewards_XLK
