"""Budgets of exploration that run out within slates: what is left decides, rightly, and intervals hold the truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

import numpy as np
import pytest

from evaluation.gates.off_policy_value import OffPolicyValue
from evaluation.offpolicy.estimators import rips
from evaluation.offpolicy.logged_policy import LoggedSlates, free
from evaluation.offpolicy.logs import SlateLog
from evaluation.offpolicy.value_change import ValueChange, value_change
from models.ranking.exploration import Bounded
from models.ranking.policy import Draw, PlackettLuce, Pool

CONTEXTS, CANDIDATES, POSITIONS, BUDGET = 4, 4, 3, 4
USERS, ROUNDS, WORLDS = 300, 4, 40
POLICY = Bounded(PlackettLuce(0.5), budget=BUDGET)
LISTS_LK = np.array(list(permutations(range(CANDIDATES), POSITIONS)))


@dataclass(frozen=True)
class World:
    """How often an item pleases in a context, and what champion and challenger think of it."""

    likes_XC: np.ndarray
    theirs_XC: np.ndarray
    ours_XC: np.ndarray

    @cached_property
    def change_XEK(self) -> np.ndarray:
        """What the challenger brings more on free positions down to each, by context and positions explored before."""
        return self._values_XEK(self.ours_XC) - self._values_XEK(self.theirs_XC)

    def _values_XEK(self, scores_XC: np.ndarray) -> np.ndarray:
        """By every list that could be shown."""
        values_XEK = np.zeros((CONTEXTS, BUDGET, POSITIONS))
        for x, explored in np.ndindex(CONTEXTS, BUDGET):
            chances_L = np.prod(chances_of(scores_XC[x], explored), axis=1)
            is_free_K = np.arange(POSITIONS) < free(POSITIONS, BUDGET, explored)
            values_XEK[x, explored] = np.cumsum(chances_L @ self.likes_XC[x][LISTS_LK] * is_free_K)
        return values_XEK


@dataclass(frozen=True)
class Shown:
    """Whole slates, how many positions explored before each, and what is true of the free ones down to each."""

    log: SlateLog
    explored_S: np.ndarray
    truth_K: np.ndarray

    @property
    def free_S(self) -> np.ndarray:
        return np.array([free(POSITIONS, BUDGET, explored) for explored in self.explored_S])


def pool(scores_C: np.ndarray, explored: int) -> Pool:
    return Pool(scores_C, POSITIONS, np.random.default_rng(0), explored=explored)


def chances_of(scores_C: np.ndarray, explored: int) -> np.ndarray:
    """Of every list that could be shown, the probability of each item given those above it (L, K)."""
    return np.stack(POLICY.propensities_of([pool(scores_C, explored)] * len(LISTS_LK), list(LISTS_LK)))


def show(world: World, rng: np.random.Generator) -> Shown:
    """The champion's slates to everybody, round by round, until a user's budget is spent."""
    context_U, spent_U = rng.integers(0, CONTEXTS, USERS), np.zeros(USERS, int)
    rows: list[tuple[int, int, Draw]] = []
    for _ in range(ROUNDS):
        asking = np.flatnonzero(spent_U < BUDGET)
        pools = [replace(pool(world.theirs_XC[context_U[u]], int(spent_U[u])), rng=rng) for u in asking]
        drawn = POLICY.draw_many(pools)
        rows += [(int(u), int(spent_U[u]), one) for u, one in zip(asking, drawn, strict=True)]
        spent_U[asking] += [one.notes["explored"] for one in drawn]
    users_S, explored_S = (np.array([row[place] for row in rows]) for place in (0, 1))
    truth_K = world.change_XEK[context_U[users_S], explored_S].mean(axis=0)
    return Shown(logged(world, context_U[users_S], rows, rng), explored_S, truth_K)


def logged(
    world: World, contexts_S: np.ndarray, rows: Sequence[tuple[int, int, Draw]], rng: np.random.Generator
) -> SlateLog:
    """The slates (user, explored before, drawn) as a log for the challenger."""
    places_SK = np.stack([drawn.places_K for _, _, drawn in rows])
    asked = [pool(world.ours_XC[x], explored) for x, (_, explored, _) in zip(contexts_S, rows, strict=True)]
    liked_SK = world.likes_XC[contexts_S[:, None], places_SK]
    return SlateLog(
        rewards_SK=(rng.random(liked_SK.shape) < liked_SK).astype(float),
        propensities_SK=np.stack([drawn.propensities_K for _, _, drawn in rows]),
        chances_SK=np.minimum(np.stack(POLICY.propensities_of(asked, list(places_SK))), 1.0),
        users_S=np.array([user for user, _, _ in rows]),
    )


def judged(log: SlateLog) -> ValueChange:
    return value_change(LoggedSlates(log, {}, len(log), len(log)), replicates=500)


def in_worlds(kind: str, count: int) -> Iterator[Shown]:
    for seed in range(count):
        rng = np.random.default_rng([seed, 7])
        shown = show(world_of(kind, rng), rng)
        assert (shown.free_S < POSITIONS).mean() > 0.2, "budgets run out within slates"
        yield shown


def world_of(kind: str, rng: np.random.Generator) -> World:
    """One side knows what pleases and the other thinks the opposite; ``alike``: everything pleases, they differ."""
    likes_XC = rng.permuted(np.tile([0.1, 0.2, 0.8, 0.9], (CONTEXTS, 1)), axis=1)
    right_XC, wrong_XC = 0.6 * likes_XC, -0.6 * likes_XC
    if kind == "alike":
        return World(np.full_like(likes_XC, 0.6), right_XC, wrong_XC)
    return World(likes_XC, right_XC, wrong_XC) if kind == "worse" else World(likes_XC, wrong_XC, right_XC)


@pytest.mark.parametrize("explored", range(BUDGET))
def test_over_everything_that_could_have_been_drawn_the_free_positions_have_no_bias(explored: int) -> None:
    """And whole slates have one, as soon as the budget can run out within them."""
    world = world_of("better", np.random.default_rng(1))
    ours_LK, theirs_LK = (np.minimum(chances_of(s[0], explored), 1.0) for s in (world.ours_XC, world.theirs_XC))
    drawn_L, own_L = np.prod(theirs_LK, axis=1), np.prod(ours_LK, axis=1)
    likes_LK, is_possible_L = world.likes_XC[0][LISTS_LK], drawn_L > 0
    log = SlateLog(likes_LK[is_possible_L], theirs_LK[is_possible_L], ours_LK[is_possible_L])
    left = free(POSITIONS, BUDGET, explored)
    expected = drawn_L[is_possible_L] @ rips(log.upto(np.full(len(log), left))).plain_N
    assert expected == pytest.approx(own_L @ likes_LK[:, :left].sum(axis=1))
    whole = drawn_L[is_possible_L] @ rips(log).plain_N
    assert (whole == pytest.approx(own_L @ likes_LK.sum(axis=1))) == (left == POSITIONS)


KINDS = pytest.mark.parametrize(("kind", "verdict"), [("better", "pass"), ("worse", "fail"), ("alike", "pass")])


def gates_in(kind: str, count: int) -> list[tuple[str, bool]]:
    """The verdict in so many worlds, and whether the interval holds the truth."""
    found: list[tuple[str, bool]] = []
    for shown in in_worlds(kind, count):
        change = judged(shown.log.upto(shown.free_S))
        gate = OffPolicyValue().verdict(change)
        found.append((gate.verdict, change.change.low <= shown.truth_K[change.top - 1] <= change.change.high))
    return found


@KINDS
def test_the_gate_decides_rightly(kind: str, verdict: str) -> None:
    told = [one for one, _ in gates_in(kind, 8)]
    assert told.count(verdict) >= 6, told
    assert {"pass": "fail", "fail": "pass"}[verdict] not in told


@pytest.mark.long
@KINDS
def test_the_gate_decides_rightly_and_its_interval_holds_the_truth(kind: str, verdict: str) -> None:
    """Of forty 95 % intervals, fewer than 34 hold the truth in less than one of a hundred tries."""
    found = gates_in(kind, WORLDS)
    assert sum(holds for _, holds in found) >= 34
    told = [one for one, _ in found]
    assert told.count(verdict) >= 34, told
    assert told.count({"pass": "fail", "fail": "pass"}[verdict]) <= 2


def test_without_an_end_for_each_slate_the_depth_ends_where_the_weights_miss_something() -> None:
    """Further down some budgets ran out: the champion never shows there what the challenger would."""
    for shown in in_worlds("better", 5):
        change = judged(shown.log)
        assert change.top < POSITIONS
        assert not any("mean importance weight" in reason for reason in change.reasons)


def test_what_is_left_of_a_budget_ends_a_slate() -> None:
    assert [free(3, None, 50), free(3, 20, 0), free(3, 20, 18), free(3, 20, 20), free(3, 20, 25)] == [3, 3, 2, 0, 0]
