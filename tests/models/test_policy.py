"""Plackett-Luce: exact propensities, positions in order, rules obeyed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.ranking.policy import PlackettLuce

FINITE = st.floats(-1e30, 1e30, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(1, 25), st.integers(0, 2**32), st.floats(1e-3, 1e3))
def test_never_an_item_twice_and_propensities_are_those_of_the_definition(
    scores: list[float], k: int, seed: int, temperature: float
) -> None:
    drawn = PlackettLuce(temperature).draw(np.array(scores), k, np.random.default_rng(seed))
    assert len(drawn.places_K) == min(k, len(scores)) == len(set(drawn.places_K.tolist()))
    left = list(range(len(scores)))
    for place, propensity in zip(drawn.places_K, drawn.propensities_K, strict=True):
        best = max(scores[other] for other in left)
        weights = {other: np.exp((scores[other] - best) / temperature) for other in left}
        assert np.isfinite(propensity)
        assert 0 < propensity <= 1
        assert propensity == pytest.approx(weights[int(place)] / sum(weights.values()), rel=1e-9)
        left.remove(int(place))


@given(st.lists(FINITE, min_size=1, max_size=50), st.data())
def test_the_chances_of_a_position_sum_to_one_over_what_is_open(scores: list[float], data: st.DataObject) -> None:
    open_C = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    open_C[0] = True
    chances_C, _ = PlackettLuce(0.5).chances(np.array(scores), open_C)
    assert chances_C.sum() == pytest.approx(1.0, abs=1e-12)
    assert (chances_C[~open_C] == 0).all()


@given(st.lists(st.integers(0, 2), min_size=3, max_size=20), st.integers(0, 2**32))
def test_a_rule_that_looks_at_the_items_above_is_obeyed(groups: list[int], seed: int) -> None:
    group_C = np.array(groups)

    def no_group_twice_in_a_row(above: list[int]) -> np.ndarray:
        return np.ones(len(groups), bool) if not above else group_C != group_C[above[-1]]

    drawn = PlackettLuce(1.0).draw(np.zeros(len(groups)), 20, np.random.default_rng(seed), no_group_twice_in_a_row)
    of_slate = group_C[drawn.places_K]
    assert (of_slate[1:] != of_slate[:-1]).all()
    assert len(set(drawn.places_K.tolist())) == len(drawn.places_K)


def test_ten_thousand_draws_agree_with_the_stated_propensities() -> None:
    scores_C, policy = np.array([2.0, 1.0, 0.5, 0.0, -1.0]), PlackettLuce(0.7)

    def never_last(above: list[int]) -> np.ndarray:
        return np.array([True, True, True, True, len(above) > 0])  # allowed again from the second position on

    counts: dict[tuple[int, ...], int] = {}
    stated: dict[tuple[int, ...], float] = {}
    for seed in range(10_000):
        drawn = policy.draw(scores_C, 2, np.random.default_rng(seed), never_last)
        pair = tuple(drawn.places_K.tolist())
        counts[pair] = counts.get(pair, 0) + 1
        stated[pair] = float(np.prod(drawn.propensities_K))
    assert len(stated) == 4 * 4
    assert sum(stated.values()) == pytest.approx(1.0, abs=1e-12)
    expected = np.array(list(stated.values())) * 10_000
    assert chisquare(list(counts.values()), expected * 10_000 / expected.sum()).pvalue > 0.001


def test_the_noise_follows_the_key_so_that_a_small_change_of_scores_is_a_small_change_of_the_slate() -> None:
    rng = np.random.default_rng(5)
    scores_C, keys_C = rng.normal(size=100), rng.integers(0, 10_000, 100)
    order = np.argsort(rng.random(100))
    one = PlackettLuce(1.0).draw(scores_C, 10, np.random.default_rng(1), keys_C=keys_C)
    two = PlackettLuce(1.0).draw(scores_C[order], 10, np.random.default_rng(1), keys_C=keys_C[order])
    assert keys_C[one.places_K].tolist() == keys_C[order][two.places_K].tolist()


def test_the_same_seed_gives_the_same_slate_and_another_seed_another() -> None:
    policy, scores_C = PlackettLuce(1.0), np.zeros(50)
    slates = [policy.draw(scores_C, 10, np.random.default_rng(seed)).places_K.tolist() for seed in (1, 1, 2)]
    assert slates[0] == slates[1] != slates[2]


@pytest.mark.parametrize("scores", [[1e308, -1e308], [0.0, -1e-320], [5e-324, 0.0]])
def test_extreme_scores_give_finite_propensities(scores: list[float]) -> None:
    drawn = PlackettLuce(1e-3).draw(np.array(scores), 2, np.random.default_rng(0))
    assert np.isfinite(drawn.propensities_K).all()
    assert drawn.propensities_K[-1] == 1.0


def test_nothing_allowed_is_an_empty_slate() -> None:
    drawn = PlackettLuce(1.0).draw(np.zeros(3), 2, np.random.default_rng(0), lambda above: np.zeros(3, bool))
    assert len(drawn.places_K) == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        PlackettLuce(temperature)


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        PlackettLuce(1.0).draw(np.array([0.0, np.nan]), 1, np.random.default_rng(0))
