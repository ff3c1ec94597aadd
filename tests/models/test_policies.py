"""What every policy keeps to, and the ones that explore not at all, evenly, or within limits."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_worlds import draw
from scipy.stats import chisquare

from attune.errors import ConfigError
from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy, Pool
from models.ranking.policy_registry import DEFAULTS, Exploration, restore
from models.ranking.thompson import LinearPosterior, Thompson

SOURCES = ("sequence", "item-knn", "popularity")
THOMPSON = Thompson(LinearPosterior.prior(3, 0.3), SOURCES, samples=64, floor=1e-3)
POLICIES: dict[str, Policy] = {
    "plackett-luce": PlackettLuce(0.3),
    "greedy": Greedy(),
    "epsilon": Epsilon(0.2),
    "thompson": THOMPSON,
    "bounded plackett-luce": Bounded(PlackettLuce(0.3), budget=3, least_quality=0.5),
    "bounded epsilon": Bounded(Epsilon(0.5), least_quality=0.8),
    "bounded thompson": Bounded(THOMPSON, budget=1),
}
every = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())

SCORES = st.lists(st.floats(-2, 2), min_size=1, max_size=20)


def lot_of(scores: Sequence[float], k: int, seed: int, allowed=None, keys_C=None) -> Pool:
    features_CF = np.random.default_rng(seed + 1).uniform(-1, 1, (len(scores), 3)).astype(np.float32)
    rng = np.random.default_rng(seed)
    return Pool(np.array(scores, np.float64), k, rng, allowed, keys_C, features_CF=features_CF)


@every
@given(scores=SCORES, k=st.integers(1, 25), limit=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_slates_are_full_distinct_and_within_the_caps(
    capped, policy: Policy, scores: list[float], k: int, limit: int, seed: int
) -> None:
    groups_C = np.arange(len(scores)) % 4
    (drawn,) = policy.draw_many([lot_of(scores, k, seed, capped((groups_C, limit)))])
    places = drawn.places_K.tolist()
    assert len(places) == len(set(places)) == min(k, capped.room(groups_C, limit))
    assert np.bincount(groups_C[places]).max(initial=0) <= limit
    assert ((drawn.propensities_K > 0) & (drawn.propensities_K <= 1 + 1e-12)).all()


@every
@given(groups=st.lists(st.integers(0, 2), min_size=1, max_size=15), seed=st.integers(0, 2**32))
def test_a_rule_that_looks_at_the_items_above_is_obeyed(policy: Policy, groups: list[int], seed: int) -> None:
    group_C = np.array(groups)

    def no_group_twice_in_a_row(above: Sequence[int]) -> np.ndarray:
        return np.ones(len(groups), bool) if not above else group_C != group_C[above[-1]]

    scores = np.random.default_rng(seed).normal(size=len(groups))
    (drawn,) = policy.draw_many([lot_of(scores, 10, seed, no_group_twice_in_a_row)])
    of_slate = group_C[drawn.places_K]
    assert (of_slate[1:] != of_slate[:-1]).all()


@every
@given(pools=st.lists(st.tuples(SCORES, st.integers(0, 10), st.booleans()), min_size=1, max_size=5))
def test_slates_are_drawn_together_as_each_alone(
    policy: Policy, pools: list[tuple[list[float], int, bool]]
) -> None:  # fmt: skip
    def made(seed: int) -> Pool:
        scores, k, ruled = pools[seed]
        rule = (lambda above: np.arange(len(scores)) % 2 == len(above) % 2) if ruled else None
        return lot_of(scores, k, seed, rule)

    together = policy.draw_many([made(seed) for seed in range(len(pools))])
    for seed, drawn in enumerate(together):
        (alone,) = policy.draw_many([made(seed)])
        assert drawn.places_K.tolist() == alone.places_K.tolist()
        np.testing.assert_allclose(drawn.propensities_K, alone.propensities_K, rtol=1e-12)
        assert drawn.notes == alone.notes


@every
def test_one_seed_is_one_slate(policy: Policy) -> None:
    scores = np.linspace(0.5, -0.5, 30)
    one, two = (policy.draw_many([lot_of(scores, 10, 3)])[0] for _ in range(2))
    assert one.places_K.tolist() == two.places_K.tolist()
    assert one.propensities_K.tolist() == two.propensities_K.tolist()


@every
def test_what_describes_a_policy_restores_it(policy: Policy) -> None:
    described = json.loads(json.dumps({**policy.describe(), "seed": 3, "explored": 2}))
    assert restore(described) == policy
    assert policy.at_depth(7).depth == policy.at_depth(7).describe()["candidates"] == 7


def test_an_unknown_policy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'clairvoyant': this version knows plackett-luce, greedy"):
        restore({"name": "clairvoyant"})


@every
def test_a_score_that_is_not_finite_is_refused(policy: Policy) -> None:
    with pytest.raises(ValueError, match="finite"):
        policy.draw_many([lot_of([0.0, float("nan")], 1, 0)])


@given(scores=SCORES, k=st.integers(1, 25), seed=st.integers(0, 2**32))
def test_the_deterministic_policy_is_the_ranking_itself(scores: list[float], k: int, seed: int) -> None:
    drawn = draw(Greedy(), np.array(scores), k, np.random.default_rng(seed))
    assert drawn.places_K.tolist() == np.argsort(-np.array(scores), kind="stable")[:k].tolist()
    assert (drawn.propensities_K == 1.0).all()


def test_only_the_deterministic_policy_says_that_its_slates_judge_nothing() -> None:
    assert Greedy().describe() == {"name": "greedy", "candidates": 100, "evaluable": False}
    assert Bounded(Greedy()).describe()["evaluable"] is False
    assert all("evaluable" not in POLICIES[name].describe() for name in POLICIES if name != "greedy")


@given(scores=SCORES, k=st.integers(1, 25), seed=st.integers(0, 2**32), epsilon=st.floats(0.01, 1.0))
def test_epsilons_propensities_are_those_of_the_definition(
    scores: list[float], k: int, seed: int, epsilon: float
) -> None:  # fmt: skip
    drawn = draw(Epsilon(epsilon), np.array(scores), k, np.random.default_rng(seed))
    left = list(range(len(scores)))
    for place, propensity in zip(drawn.places_K.tolist(), drawn.propensities_K, strict=True):
        is_best = place == max(left, key=lambda other: (scores[other], -other))
        assert propensity == pytest.approx((1 - epsilon) * is_best + epsilon / len(left), rel=1e-12)
        left.remove(place)


@given(scores=SCORES, data=st.data())
def test_the_chances_of_a_position_sum_to_one_over_what_is_open(scores: list[float], data: st.DataObject) -> None:
    open_C = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    open_C[data.draw(st.integers(0, len(scores) - 1))] = True
    found = [Epsilon(0.3).chances(np.array(scores), open_C), THOMPSON.chances(lot_of(scores, 1, 0), open_C)[0]]
    for chances_C in found:
        assert chances_C.sum() == pytest.approx(1.0, abs=1e-12)
        assert (chances_C[~open_C] == 0).all()
        assert (chances_C[open_C] > 0).all()


@pytest.mark.parametrize(
    "policy",
    [Epsilon(0.4), Bounded(Epsilon(0.6), least_quality=0.4), Bounded(PlackettLuce(0.7), budget=1)],
    ids=["epsilon", "bounded epsilon", "bounded plackett-luce"],
)
def test_ten_thousand_draws_agree_with_the_stated_propensities(policy: Policy) -> None:
    scores_C = np.array([2.0, 1.0, 0.5, 0.0, -1.0])

    def not_first(above: Sequence[int]) -> np.ndarray:
        return np.array([True, len(above) > 0, True, True, True])  # allowed again from the second position on

    counts: dict[tuple[int, ...], int] = {}
    stated: dict[tuple[int, ...], float] = {}
    rngs = map(np.random.default_rng, range(10_000))
    for drawn in policy.draw_many([Pool(scores_C, 2, rng, not_first, np.arange(5) * 7) for rng in rngs]):
        pair = tuple(drawn.places_K.tolist())
        counts[pair] = counts.get(pair, 0) + 1
        stated[pair] = float(np.prod(drawn.propensities_K))
    assert sum(stated.values()) == pytest.approx(1.0, abs=1e-9)
    expected = np.array(list(stated.values())) * 10_000
    assert chisquare(list(counts.values()), expected * 10_000 / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.1, float("nan")])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        Epsilon(epsilon)


@pytest.mark.parametrize("make", [Greedy, lambda depth: Epsilon(depth=depth), THOMPSON.at_depth])
def test_a_depth_that_is_not_positive_is_refused(make) -> None:
    with pytest.raises(ValueError, match="depth"):
        make(0)


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_chosen_by_name_is_what_the_bundle_says(name: str) -> None:
    policy = Exploration(name).of(SOURCES)
    assert policy.describe()["name"] == name
    assert policy.budget is None
    assert restore(json.loads(json.dumps(policy.describe()))) == policy


def test_limits_are_chosen_with_the_policy() -> None:
    policy = Exploration("thompson", budget=0, days=7.0).of(SOURCES)
    assert policy == Bounded(policy.inner, budget=0, days=7.0)
    assert policy.features == SOURCES
    assert restore(policy.describe()) == policy
    assert Exploration(least_quality=0.9).of(SOURCES) == Bounded(PlackettLuce(), least_quality=0.9)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"policy": "ucb"}, "no policy 'ucb': choose one of plackett-luce, greedy, epsilon, thompson"),
        ({"policy": "greedy", "budget": 3}, "explores nothing"),
        ({"budget": -1}, "budget"),
        ({"days": 0.0}, "days"),
        ({"least_quality": 1.2}, "quality"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(chosen: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Exploration(**chosen)
