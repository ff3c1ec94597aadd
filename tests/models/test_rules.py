"""Caps hold at every draw, and cost no item that could have stood there."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from model_worlds import draw

from models.ranking.policy import PlackettLuce
from serving.caps import at_most_each

GROUPS = st.lists(st.integers(-2, 4), max_size=30)


def drawn(count: int, k: int, seed: int, rule, diversity: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors_CD = rng.normal(size=(count, 3))
    vectors_CD /= np.linalg.norm(vectors_CD, axis=1, keepdims=True)
    policy = PlackettLuce(0.5, diversity=diversity)
    return draw(policy, rng.normal(size=count), k, rng, rule, vectors_CD=vectors_CD).places_K


def largest(groups_K: np.ndarray) -> int:
    grouped = groups_K[groups_K >= 0]
    return int(np.unique(grouped, return_counts=True)[1].max(initial=0))


@given(GROUPS, st.integers(0, 4), st.integers(0, 30), st.integers(0, 2**32), st.sampled_from([0.0, 1.0]))
def test_a_cap_holds_and_a_slate_is_full_whenever_the_candidates_suffice(
    capped, groups: list[int], limit: int, k: int, seed: int, diversity: float
) -> None:
    groups_C = np.array(groups, np.int64)
    places_K = drawn(len(groups), k, seed, capped((groups_C, limit)), diversity)
    assert largest(groups_C[places_K]) <= limit
    assert len(places_K) == len(set(places_K.tolist())) == min(k, capped.room(groups_C, limit))


@given(GROUPS, GROUPS, st.integers(1, 2), st.integers(1, 2), st.integers(1, 10), st.integers(0, 2**32))
def test_two_caps_hold_together_and_fill_the_slate_when_twice_as_many_would_fit(
    capped, ones: list[int], others: list[int], one_limit: int, other_limit: int, k: int, seed: int
) -> None:
    count = min(len(ones), len(others), 10)
    one_C, other_C = np.array(ones[:count], np.int64), np.array(others[:count], np.int64)
    places_K = drawn(count, k, seed, capped((one_C, one_limit), (other_C, other_limit)))
    assert largest(one_C[places_K]) <= one_limit
    assert largest(other_C[places_K]) <= other_limit

    def fits(size: int) -> bool:
        sets = (list(chosen) for chosen in combinations(range(count), size))
        return any(largest(one_C[s]) <= one_limit and largest(other_C[s]) <= other_limit for s in sets)

    most = max(size for size in range(count + 1) if fits(size))
    assert min(k, (most + 1) // 2) <= len(places_K) <= min(k, most)


HELD = st.lists(st.sets(st.integers(0, 5), max_size=3), max_size=20)


@given(HELD, st.lists(st.integers(1, 3), min_size=6, max_size=6), st.integers(0, 20), st.integers(0, 2**32))
def test_items_of_several_values_are_capped_by_each_of_them(
    held: list[set[int]], limits: list[int], k: int, seed: int
) -> None:
    pairs = np.array([(place, value) for place, values in enumerate(held) for value in values], np.int64).reshape(-1, 2)
    rule = at_most_each(pairs[:, 0], pairs[:, 1], np.array(limits), len(held))
    places = drawn(len(held), k, seed, rule).tolist()

    def fits(place: int, above: list[int]) -> bool:
        return all(sum(value in held[one] for one in above) < limits[value] for value in held[place])

    for position in range(len(places) + 1):
        above = places[:position]
        assert rule(above).tolist() == [fits(place, above) for place in range(len(held))]
    assert all(fits(place, places[:position]) for position, place in enumerate(places))
    assert len(places) == k or not any(fits(place, places) for place in set(range(len(held))) - set(places))


def test_ten_of_a_hundred_are_found_under_two_ordinary_caps(capped) -> None:
    rng = np.random.default_rng(0)
    genres_C, makers_C = rng.integers(0, 8, 100), rng.integers(-1, 40, 100)
    for seed in range(50):
        places_K = drawn(100, 10, seed, capped((genres_C, 2), (makers_C, 1)), 0.5)
        assert len(places_K) == 10
        assert largest(genres_C[places_K]) <= 2
        assert largest(makers_C[places_K]) <= 1


def test_a_rule_holds_no_state_and_serves_many_draws(capped) -> None:
    rule = capped((np.array([7, 7, -1, 9]), 1))
    assert rule([]).tolist() == [True, True, True, True]
    assert rule([0]).tolist() == [False, False, True, True]
    assert rule([]).tolist() == [True, True, True, True]
    assert rule([2, 3]).tolist() == [True, True, True, False]
