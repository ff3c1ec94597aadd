"""Limits on exploration: a user's budget is never exceeded, and no slate falls below its floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_worlds import draw

from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy, Pool
from models.ranking.thompson import LinearPosterior, Thompson

INNER = st.sampled_from([PlackettLuce(0.5), PlackettLuce(100.0), Epsilon(1.0), Epsilon(0.3), Greedy()])
SCORES = st.lists(st.floats(-2, 2), min_size=1, max_size=25)


def explored_by_hand(scores_C: np.ndarray, places: list[int], allowed=None) -> int:
    """Positions whose item scores less than the best that was open."""
    found = 0
    for position, place in enumerate(places):
        open_C = np.ones(len(scores_C), bool) if allowed is None else allowed(places[:position]).copy()
        open_C[places[:position]] = False
        found += bool(scores_C[place] < scores_C[open_C].max())
    return found


@given(inner=INNER, scores=SCORES, budget=st.integers(0, 12), seed=st.integers(0, 2**32))
def test_a_users_budget_is_never_exceeded_however_many_slates(
    capped, inner: Policy, scores: list[float], budget: int, seed: int
) -> None:
    scores_C, explored = np.array(scores), 0
    rule = capped((np.arange(len(scores)) % 5, 2))
    for turn in range(6):
        pool = Pool(scores_C, 5, np.random.default_rng([seed, turn]), rule, explored=explored)
        (drawn,) = Bounded(inner, budget=budget).draw_many([pool])
        assert drawn.notes["explored_before"] == explored
        assert drawn.notes["explored"] == explored_by_hand(scores_C, drawn.places_K.tolist(), rule)
        explored += drawn.notes["explored"]
    assert explored <= budget


def test_a_budget_that_is_spent_before_leaves_the_ranking() -> None:
    scores_C = np.linspace(1, 0, 30)
    policy = Bounded(PlackettLuce(100.0), budget=4)
    fresh, spent = (
        policy.draw_many([Pool(scores_C, 10, np.random.default_rng(0), explored=explored)])[0] for explored in (0, 9)
    )
    assert fresh.notes["explored"] == 4
    assert spent.places_K.tolist() == list(range(10))
    assert (spent.propensities_K == 1.0).all()


@given(
    inner=INNER, scores=SCORES, share=st.floats(0, 1), k=st.integers(1, 12), limit=st.integers(1, 25),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_a_slate_is_worth_its_share_of_the_greedy_one_under_a_cap_as_without(
    capped, inner: Policy, scores: list[float], share: float, k: int, limit: int, seed: int
) -> None:
    scores_C, rule = np.array(scores), capped((np.arange(len(scores)) % 3, limit))
    pool = Pool(scores_C, k, np.random.default_rng(seed), rule)
    (drawn,) = Bounded(inner, least_quality=share).draw_many([pool])
    greedy = draw(Greedy(), scores_C, k, np.random.default_rng(0), rule)
    worth_C = scores_C - scores_C.min()
    best = worth_C[greedy.places_K].sum()
    assert len(drawn.places_K) == len(greedy.places_K)
    assert worth_C[drawn.places_K].sum() >= share * best - 1e-9
    assert drawn.notes["quality"] == pytest.approx(worth_C[drawn.places_K].sum() / best if best else 1.0)


@given(inner=INNER, scores=SCORES, k=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_without_limits_it_draws_as_the_policy_within(inner: Policy, scores: list[float], k: int, seed: int) -> None:
    alone = draw(inner, np.array(scores), k, np.random.default_rng(seed))
    bounded = draw(Bounded(inner), np.array(scores), k, np.random.default_rng(seed))
    assert bounded.places_K.tolist() == alone.places_K.tolist()
    np.testing.assert_allclose(bounded.propensities_K, alone.propensities_K, rtol=1e-12)


def test_propensities_are_those_over_what_the_floor_leaves() -> None:
    scores_C = np.array([1.0, 0.9, 0.5, 0.0])
    drawn = draw(Bounded(Epsilon(1.0), least_quality=0.8), scores_C, 3, np.random.default_rng(1))
    assert drawn.propensities_K.tolist() == [0.5, 1.0, 1.0]  # of 1.0 and 0.9, then what is left, then 0.5 over 0.0


@pytest.mark.parametrize("named", [{"budget": -1}, {"least_quality": -0.1}, {"least_quality": 1.1}])
def test_limits_out_of_range_are_refused(named: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(named))):
        Bounded(Greedy(), **named)


def test_it_asks_for_what_the_policy_within_needs() -> None:
    assert Bounded(PlackettLuce(diversity=0.2)).needs_vectors
    assert not Bounded(PlackettLuce()).needs_vectors
    assert Bounded(Greedy(7)).depth == 7
    assert Bounded(Greedy(7)).features == ()


def test_acting_on_what_was_learned_is_no_exploration() -> None:
    """A spent budget leaves the best by all that is known, and not by a mix that reactions have proved wrong."""
    scores_C, features_CF = np.array([0.3, 0.2, 0.1]), np.array([[0.0], [0.5], [1.0]])
    learned = Thompson(LinearPosterior((0.5,), ((100.0,),)), ("item-knn",))
    pool = Pool(scores_C, 3, np.random.default_rng(0), features_CF=features_CF)
    (drawn,) = Bounded(learned, budget=0).draw_many([pool])
    assert drawn.places_K.tolist() == [2, 1, 0]
    assert drawn.propensities_K.tolist() == [1.0, 1.0, 1.0]
    assert drawn.notes["explored"] == 0
    assert drawn.notes["quality"] == 1.0
    (unlearned,) = Bounded(Thompson(LinearPosterior.prior(1, 0.1), ("item-knn",)), budget=0).draw_many([pool])
    assert unlearned.places_K.tolist() == [0, 1, 2]
