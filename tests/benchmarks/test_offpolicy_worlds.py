"""Worlds whose truth is known: intervals hold it where they should, and logs that cannot answer are refused."""

import numpy as np
import pytest

from benchmarks.offpolicy_coverage import CLAIMS, COVERED, LEAST_REFUSED, WORLDS, Claim, count_worlds
from benchmarks.offpolicy_worlds import (
    BanditWorld,
    SlateWorld,
    bandit_world,
    expected_rewards_below,
    plackett_luce,
    slate_world,
)

FEW = 40
NAMES = [f"{claim.shape}, {claim.flaw}" for claim in CLAIMS]


def check(claim: Claim, worlds: int, low: float, high: float) -> None:
    coverages = count_worlds(claim.shape, claim.flaw, worlds)
    for name in claim.covers:
        assert low <= coverages[name].covered <= high, f"{name} covers {coverages[name].covered}"
    for name in claim.refuses:
        assert coverages[name].refused >= LEAST_REFUSED, f"{name} is refused in {coverages[name].refused}"


@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_claims_hold_on_a_few_worlds(claim: Claim) -> None:
    check(claim, FEW, 0.85, 1.0)  # of 40 worlds one in a hundred tries covers less than 34


@pytest.mark.long
@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_claims_hold_on_all_worlds(claim: Claim) -> None:
    check(claim, WORLDS, *COVERED)


def test_the_truth_of_a_bandit_world_is_what_its_evaluation_policy_gets() -> None:
    rng = np.random.default_rng(0)
    world = bandit_world("none", rng)
    shown = BanditWorld(
        world.rewards_XA, world.evaluation_XA, world.evaluation_XA, world.evaluation_XA, world.rewards_XA
    )
    assert shown.draw(rng, users=20_000).rewards_N.mean() == pytest.approx(world.value, abs=0.008)


def test_the_truth_of_a_slate_world_is_what_its_evaluation_policy_gets() -> None:
    rng = np.random.default_rng(1)
    world = slate_world("none", rng)
    shown = SlateWorld(
        world.rewards_XLK, world.evaluation_XLK, world.evaluation_XLK, world.evaluation_XLK, world.rewards_XLK
    )
    seen_SK = shown.draw(rng, users=20_000).rewards_SK
    assert np.nansum(seen_SK, axis=1).mean() == pytest.approx(world.value, abs=0.015)


def test_the_chances_of_all_slates_sum_to_one_and_a_model_ends_in_the_value() -> None:
    world = slate_world("none", np.random.default_rng(2))
    assert np.prod(world.logging_XLK, axis=2).sum(axis=1) == pytest.approx(np.ones(len(world.logging_XLK)))
    _, expected_XLK = expected_rewards_below(world.rewards_XLK, world.evaluation_XLK)
    assert expected_XLK[:, :, 0].mean() == pytest.approx(world.value)
    uniform_XLK = plackett_luce(np.ones((1, 5)))
    assert uniform_XLK[0, 0] == pytest.approx([1 / 5, 1 / 4, 1 / 3])
