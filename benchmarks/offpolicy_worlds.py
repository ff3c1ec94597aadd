"""Simulated logs of bandits and of slates in which the evaluation policy's value is known, with one flaw at a time."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from typing import Literal, get_args

import numpy as np

from evaluation.offpolicy.logs import BanditLog, SlateLog

Flaw = Literal["none", "rough model", "wrong model", "wrong propensities", "no overlap"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
SlateFlaw = Literal["none", "wrong model", "wrong propensities", "no overlap", "no cascade"]
SLATE_FLAWS: tuple[SlateFlaw, ...] = get_args(SlateFlaw)

CONTEXTS, ACTIONS = 20, 10
USERS, ROUNDS = 500, 4
MOOD = 0.1
"""How much more (half of the users) or less (the others) likely than the mean a user is to like anything."""

OVERRATED = 0.3
"""What a wrong model adds to an expected reward."""

NEVER = 1e-6
"""A propensity that no log of this size will ever show."""

SLATE_CONTEXTS, ITEMS, POSITIONS = 10, 5, 3
SLATE_USERS, SLATE_ROUNDS = 600, 3
SHADOW = 0.35
"""By how much an item that the evaluation policy prefers lowers the expected reward of its neighbour."""

SLATE_MOOD = 0.05
"""How much more (half of the users) or less (the others) likely than the mean a user is to like an item."""


@dataclass(frozen=True)
class BanditWorld:
    """Expected rewards, both policies' probabilities, the propensities that are written down, and a reward model."""

    rewards_XA: np.ndarray
    logging_XA: np.ndarray
    evaluation_XA: np.ndarray
    stated_XA: np.ndarray
    model_XA: np.ndarray

    @property
    def value(self) -> float:
        """The mean reward of a round under the evaluation policy, exactly; contexts are equally likely."""
        return float((self.evaluation_XA * self.rewards_XA).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator, users: int = USERS, rounds: int = ROUNDS) -> BanditLog:
        """A log of ``users * rounds`` rounds of the logging policy, rewards 0 or 1."""
        users_N = np.repeat(np.arange(users), rounds)
        contexts_N = rng.integers(0, len(self.rewards_XA), users)[users_N]
        moods_N = np.where(rng.random(users) < 0.5, MOOD, -MOOD)[users_N]
        actions_N = draw_places(self.logging_XA[contexts_N], rng)
        at_N = (contexts_N, actions_N)
        return BanditLog(
            rewards_N=(rng.random(len(users_N)) < self.rewards_XA[at_N] + moods_N).astype(np.float64),
            propensities_N=self.stated_XA[at_N],
            chances_N=self.evaluation_XA[at_N],
            predicted_N=self.model_XA[at_N],
            expected_N=(self.evaluation_XA * self.model_XA).sum(axis=1)[contexts_N],
            users_N=users_N,
        )


def bandit_world(flaw: Flaw, rng: np.random.Generator) -> BanditWorld:
    """A new world of single actions with one flaw.

    A user stands in one of X contexts, stays there for several rounds, and likes everything a little more or a little
    less than others do: the rounds of a user are not independent. There are A actions.

    ``none``: the propensities, their cover and the reward model are right. ``rough model``: the model is off by 0.05
    to either side, everywhere at random. ``wrong model``: it overrates the actions that the evaluation policy takes
    more often. ``wrong propensities``: uniform ones are written down. ``no overlap``: the logging policy never takes
    the three actions that the evaluation policy takes mostly.
    """
    rewards_XA = rng.uniform(0.15, 0.85, (CONTEXTS, ACTIONS))
    tastes_XA = rng.normal(size=(CONTEXTS, ACTIONS))
    logging_XA = softmax(tastes_XA)
    evaluation_XA = softmax(0.7 * tastes_XA + 2.0 * rewards_XA + 0.5 * rng.normal(size=(CONTEXTS, ACTIONS)))
    world = BanditWorld(rewards_XA, logging_XA, evaluation_XA, logging_XA, rewards_XA)
    if flaw == "rough model":
        return replace(world, model_XA=rewards_XA + 0.05 * rng.choice([-1.0, 1.0], rewards_XA.shape))
    if flaw == "wrong model":
        return replace(world, model_XA=np.minimum(rewards_XA + OVERRATED * (evaluation_XA > logging_XA), 1.0))
    if flaw == "wrong propensities":
        return replace(world, stated_XA=np.full_like(logging_XA, 1 / ACTIONS))
    if flaw == "no overlap":
        logging_XA = avoid_best(logging_XA, evaluation_XA)
        return replace(world, logging_XA=logging_XA, stated_XA=logging_XA)
    return world


def avoid_best(logging_XA: np.ndarray, evaluation_XA: np.ndarray, best: int = 3) -> np.ndarray:
    """The logging policy with next to no probability for the evaluation policy's most likely actions."""
    lowered_XA = logging_XA.copy()
    np.put_along_axis(lowered_XA, np.argsort(-evaluation_XA, axis=1)[:, :best], NEVER, axis=1)
    shares_XA: np.ndarray = lowered_XA / lowered_XA.sum(axis=1, keepdims=True)
    return shares_XA


def softmax(logits_XA: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    weights_XA = np.exp(logits_XA - logits_XA.max(axis=-1, keepdims=True))
    shares_XA: np.ndarray = weights_XA / weights_XA.sum(axis=-1, keepdims=True)
    return shares_XA


def draw_places(chances_NA: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One place of each row, int64 (N), with the row's probabilities."""
    upto_NA = np.cumsum(chances_NA, axis=1)
    places_N: np.ndarray = (upto_NA < rng.random((len(chances_NA), 1)) * upto_NA[:, -1:]).sum(axis=1)
    return places_N


@dataclass(frozen=True)
class SlateWorld:
    """Rewards of every slate, NaN below its end, and both policies' conditional probabilities at its positions."""

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

    def draw(self, rng: np.random.Generator, users: int = SLATE_USERS, rounds: int = SLATE_ROUNDS) -> SlateLog:
        """A log of ``users * rounds`` slates of the logging policy, a reward of 0 or 1 at each position."""
        users_S = np.repeat(np.arange(users), rounds)
        contexts_S = rng.integers(0, len(self.rewards_XLK), users)[users_S]
        moods_S1 = np.where(rng.random(users) < 0.5, SLATE_MOOD, -SLATE_MOOD)[users_S][:, None]
        at_S = (contexts_S, draw_places(_slate_chances(self.logging_XLK)[contexts_S], rng))
        expected_SK = self.rewards_XLK[at_S]
        liked_SK = (rng.random(expected_SK.shape) < expected_SK + moods_S1).astype(np.float64)
        predicted_XLK, mean_XLK = expected_rewards_below(self.model_XLK, self.evaluation_XLK)
        return SlateLog(
            rewards_SK=np.where(np.isnan(expected_SK), np.nan, liked_SK),
            propensities_SK=self.stated_XLK[at_S],
            chances_SK=self.evaluation_XLK[at_S],
            predicted_SK=predicted_XLK[at_S],
            expected_SK=mean_XLK[at_S],
            users_S=users_S,
        )


def slate_world(flaw: SlateFlaw, rng: np.random.Generator) -> SlateWorld:
    """A new world of slates with one flaw.

    Both policies are sequential Plackett-Luce (``models/ranking/policy.py``) over so few items that every slate can be
    listed: L slates of K positions, of A items, in X contexts. A user reads from the top, and some items lower the
    reward of the one below them; in half of the contexts a slate has a position less. ``none``, ``wrong propensities``
    and ``no overlap`` are as in ``bandit_world``; in ``wrong model`` the reward model is the opposite of the truth; in
    ``no cascade`` the item below lowers a position's reward instead of the one above.
    """
    likes_XA = rng.uniform(0.45, 0.85, (SLATE_CONTEXTS, ITEMS))
    tastes_XA = 0.7 * rng.normal(size=(SLATE_CONTEXTS, ITEMS))
    logging_XA, evaluation_XA = softmax(tastes_XA), softmax(0.5 * tastes_XA + 2.0 * likes_XA)
    if flaw == "no overlap":
        logging_XA = avoid_best(logging_XA, evaluation_XA, best=2)
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


def expected_rewards_below(rewards_XLK: np.ndarray, evaluation_XLK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By this reward model, the reward from each position down that the evaluation policy expects, twice (X, L, K).

    First given the items down to this position, then given those above it alone.
    """
    chances_XL = _slate_chances(evaluation_XLK)
    tails_XLK = np.cumsum(np.nan_to_num(rewards_XLK)[:, :, ::-1], axis=2)[:, :, ::-1]
    slates_LK, expected = _slates(), []
    for given in (1, 0):
        means_XLK = np.empty_like(tails_XLK)
        for k in range(slates_LK.shape[1]):
            above = slice(0, k + given)
            alike_LL = (slates_LK[:, None, above] == slates_LK[None, :, above]).all(axis=2)
            means_XLK[:, :, k] = (chances_XL * tails_XLK[:, :, k]) @ alike_LL / (chances_XL @ alike_LL)
        expected.append(means_XLK)
    return expected[0], expected[1]


@cache
def _slates() -> np.ndarray:
    """Every slate (L, K) of the items."""
    return np.array(list(permutations(range(ITEMS), POSITIONS)))


def _slate_chances(chances_XLK: np.ndarray) -> np.ndarray:
    """The probability of each slate (X, L), which sums to 1."""
    return np.prod(chances_XLK, axis=2)


def _rewards(likes_XA: np.ndarray, shadows_XA: np.ndarray, from_below: bool) -> np.ndarray:
    """The reward of each position: its item's, less the shadow of the neighbour above, or below (X, L, K)."""
    rewards_XLK, shadows_XLK = likes_XA[:, _slates()], shadows_XA[:, _slates()]
    rewards_XLK[::2, :, -1] = np.nan
    shadows_XLK[::2, :, -1] = 0.0  # an item that is not shown lowers nothing
    if from_below:
        rewards_XLK[:, :, :-1] -= shadows_XLK[:, :, 1:]
    else:
        rewards_XLK[:, :, 1:] -= shadows_XLK[:, :, :-1]
    return rewards_XLK
