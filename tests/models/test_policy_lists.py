"""How probable a given list is: what a draw of that very list states, whatever the policy; all lists share one."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy, Pool
from models.ranking.thompson import LinearPosterior, Thompson

THOMPSON = Thompson(LinearPosterior.prior(3, 0.3), ("sequence", "item-knn", "popularity"), samples=64, floor=1e-3)
POLICIES: dict[str, Policy] = {
    "plackett-luce": PlackettLuce(0.3),
    "diverse": PlackettLuce(0.3, diversity=0.5),
    "greedy": Greedy(),
    "epsilon": Epsilon(0.2),
    "thompson": THOMPSON,
    "bounded plackett-luce": Bounded(PlackettLuce(0.3), budget=3, least_quality=0.5),
    "bounded thompson": Bounded(THOMPSON, budget=1),
}
every = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


def lot_of(scores: Sequence[float], k: int, seed: int, allowed=None) -> Pool:
    rng = np.random.default_rng(seed + 1)
    vectors_CD = rng.normal(size=(len(scores), 4))
    vectors_CD /= np.linalg.norm(vectors_CD, axis=1, keepdims=True) * (1 + 1e-9)
    features_CF = rng.uniform(-1, 1, (len(scores), 3))
    own = np.random.default_rng(seed)
    return Pool(np.array(scores, np.float64), k, own, allowed, None, vectors_CD, features_CF, explored=seed % 3)


@every
@given(
    pools=st.lists(
        st.tuples(st.lists(st.floats(-2, 2), min_size=1, max_size=20), st.integers(1, 12), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    start=st.integers(0, 2**32),
)
def test_the_policy_that_drew_a_list_gives_it_the_propensities_that_it_stated(
    capped, policy: Policy, pools: list[tuple[list[float], int, bool]], start: int
) -> None:
    def made() -> list[Pool]:
        rules = [capped((np.arange(len(scores)) % 4, 2)) if ruled else None for scores, _, ruled in pools]
        return [lot_of(*one[:2], start + at, rule) for at, (one, rule) in enumerate(zip(pools, rules, strict=True))]

    drawn = policy.draw_many(made())
    found = policy.propensities_of(made(), [one.places_K for one in drawn])
    for propensities_K, one in zip(found, drawn, strict=True):
        np.testing.assert_allclose(propensities_K, one.propensities_K, rtol=1e-12)


@every
def test_the_lists_of_a_length_share_all_of_the_probability(policy: Policy) -> None:
    """Thompson's chances are shares of draws, so lists share it if they are told under one seed, down the same list."""
    scores, lists = [0.5, 0.3, 0.0, -0.4], [np.array(one) for one in permutations(range(4), 2)]
    found = policy.propensities_of([lot_of(scores, 2, 0) for _ in lists], lists)
    assert sum(float(np.prod(one)) for one in found) == pytest.approx(1.0, abs=1e-9)


@every
def test_what_a_rule_forbids_and_what_stands_there_already_has_no_chance(policy: Policy) -> None:
    def odd_first(above: Sequence[int]) -> np.ndarray:
        return np.arange(4) % 2 == (len(above) + 1) % 2

    scores = [0.5, 0.3, 0.0, -0.4]
    forbidden, twice = policy.propensities_of(
        [lot_of(scores, 3, 0, odd_first), lot_of(scores, 3, 0)], [np.array([0, 1]), np.array([0, 0, 1])]
    )
    assert forbidden[0] == 0
    assert twice[1] == 0


@every
def test_below_the_end_of_what_is_allowed_nothing_has_a_chance(policy: Policy) -> None:
    def one_item(above: Sequence[int]) -> np.ndarray:
        return np.full(3, not above)

    (found,) = policy.propensities_of([lot_of([0.1, 0.2, 0.3], 3, 0, one_item)], [np.array([2, 1, 0])])
    assert found[0] > 0
    assert found[1:].tolist() == [0.0, 0.0]
