"""Worlds of single actions in which the value of the evaluation policy is known, and one in which each thing is wrong.

A user stands in one of X contexts, stays there for several rounds, and likes everything a little more or a little
less than others do: the rounds of a user are not independent. There are A actions.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from evaluation.offpolicy.logs import BanditLog

Flaw = Literal["none", "rough model", "wrong model", "wrong propensities", "no overlap"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)

CONTEXTS, ACTIONS = 20, 10
USERS, ROUNDS = 500, 4
MOOD = 0.1
"""How much more (half of the users) or less (the others) likely than the mean a user is to like anything."""

FLATTERY = 0.3
"""What a wrong model adds to an expected reward."""

NEVER = 1e-6
"""A propensity that no log of this size will ever show."""


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
        actions_N = drawn(self.logging_XA[contexts_N], rng)
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
    """A world of its own each time, with one flaw.

    ``none``: the propensities, their cover and the reward model are right. ``rough model``: the model is off by 0.05
    to either side, everywhere at random. ``wrong model``: it thinks too much of whatever the evaluation policy takes
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
        return replace(world, model_XA=np.minimum(rewards_XA + FLATTERY * (evaluation_XA > logging_XA), 1.0))
    if flaw == "wrong propensities":
        return replace(world, stated_XA=np.full_like(logging_XA, 1 / ACTIONS))
    if flaw == "no overlap":
        logging_XA = without_best(logging_XA, evaluation_XA)
        return replace(world, logging_XA=logging_XA, stated_XA=logging_XA)
    return world


def without_best(logging_XA: np.ndarray, evaluation_XA: np.ndarray, best: int = 3) -> np.ndarray:
    """The logging policy with next to no probability for the evaluation policy's most likely actions."""
    spared_XA = logging_XA.copy()
    np.put_along_axis(spared_XA, np.argsort(-evaluation_XA, axis=1)[:, :best], NEVER, axis=1)
    shares_XA: np.ndarray = spared_XA / spared_XA.sum(axis=1, keepdims=True)
    return shares_XA


def softmax(logits_XA: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    weights_XA = np.exp(logits_XA - logits_XA.max(axis=-1, keepdims=True))
    shares_XA: np.ndarray = weights_XA / weights_XA.sum(axis=-1, keepdims=True)
    return shares_XA


def drawn(chances_NA: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One place of each row, int64 (N), with the row's probabilities."""
    upto_NA = np.cumsum(chances_NA, axis=1)
    places_N: np.ndarray = (upto_NA < rng.random((len(chances_NA), 1)) * upto_NA[:, -1:]).sum(axis=1)
    return places_N
