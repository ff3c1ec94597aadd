"""Plackett-Luce: exact propensities, positions in order, rules obeyed, variety as a term of the draw."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_worlds import draw
from scipy.stats import chisquare

from models.ranking.policy import PlackettLuce, Pool
from models.ranking.preference import unit_rows

FINITE = st.floats(-1e30, 1e30, allow_nan=False)


def chances_below(policy, scores_C, above, allowed=None, vectors_CD=None) -> np.ndarray:
    """The chance of each candidate to stand below the places ``above``: 0 for these themselves."""
    count, chances_C = len(scores_C), np.zeros(len(scores_C))
    left = np.setdiff1d(np.arange(count), above)
    pool = Pool(scores_C, count, np.random.default_rng(0), allowed, vectors_CD=vectors_CD)
    lists = [np.array([*above, place]) for place in left]
    chances_C[left] = [chances_K[-1] for chances_K in policy.propensities_of([pool] * len(left), lists)]
    return chances_C


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(1, 25), st.integers(0, 2**32), st.floats(1e-3, 1e3))
def test_never_an_item_twice_and_propensities_are_those_of_the_definition(
    scores: list[float], k: int, seed: int, temperature: float
) -> None:
    drawn = draw(PlackettLuce(temperature), np.array(scores), k, np.random.default_rng(seed))
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
    chances_C = chances_below(PlackettLuce(0.5), np.array(scores), [], lambda above: open_C)
    assert chances_C.sum() == pytest.approx(1.0, abs=1e-12)
    assert (chances_C[~open_C] == 0).all()


@given(st.lists(st.integers(0, 2), min_size=3, max_size=20), st.integers(0, 2**32))
def test_a_rule_that_looks_at_the_items_above_is_obeyed(groups: list[int], seed: int) -> None:
    group_C = np.array(groups)

    def no_group_twice_in_a_row(above: list[int]) -> np.ndarray:
        return np.ones(len(groups), bool) if not above else group_C != group_C[above[-1]]

    drawn = draw(PlackettLuce(1.0), np.zeros(len(groups)), 20, np.random.default_rng(seed), no_group_twice_in_a_row)
    of_slate = group_C[drawn.places_K]
    assert (of_slate[1:] != of_slate[:-1]).all()
    assert len(set(drawn.places_K.tolist())) == len(drawn.places_K)


def test_ten_thousand_draws_agree_with_the_stated_propensities() -> None:
    scores_C, policy = np.array([2.0, 1.0, 0.5, 0.0, -1.0]), PlackettLuce(0.7)

    def never_last(above: list[int]) -> np.ndarray:
        return np.array([True, True, True, True, len(above) > 0])  # allowed again from the second position on

    counts: dict[tuple[int, ...], int] = {}
    stated: dict[tuple[int, ...], float] = {}
    pools = [Pool(scores_C, 2, np.random.default_rng(seed), never_last) for seed in range(10_000)]
    for drawn in policy.draw_many(pools):
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
    one = draw(PlackettLuce(1.0), scores_C, 10, np.random.default_rng(1), keys_C=keys_C)
    two = draw(PlackettLuce(1.0), scores_C[order], 10, np.random.default_rng(1), keys_C=keys_C[order])
    assert keys_C[one.places_K].tolist() == keys_C[order][two.places_K].tolist()


def test_the_same_seed_gives_the_same_slate_and_another_seed_another() -> None:
    policy, scores_C = PlackettLuce(1.0), np.zeros(50)
    slates = [draw(policy, scores_C, 10, np.random.default_rng(seed)).places_K.tolist() for seed in (1, 1, 2)]
    assert slates[0] == slates[1] != slates[2]


@pytest.mark.parametrize("scores", [[1e308, -1e308], [0.0, -1e-320], [5e-324, 0.0]])
def test_extreme_scores_give_finite_propensities(scores: list[float]) -> None:
    drawn = draw(PlackettLuce(1e-3), np.array(scores), 2, np.random.default_rng(0))
    assert np.isfinite(drawn.propensities_K).all()
    assert drawn.propensities_K[-1] == 1.0


def test_nothing_allowed_is_an_empty_slate() -> None:
    drawn = draw(PlackettLuce(1.0), np.zeros(3), 2, np.random.default_rng(0), lambda above: np.zeros(3, bool))
    assert len(drawn.places_K) == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        PlackettLuce(temperature)


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        draw(PlackettLuce(1.0), np.array([0.0, np.nan]), 1, np.random.default_rng(0))


def test_draws_are_those_of_the_slates_that_were_logged_before() -> None:
    scores_C, places_C = np.linspace(0.3, -0.3, 40), np.arange(40)
    plain = draw(PlackettLuce(0.1), scores_C, 6, np.random.default_rng(7))
    assert plain.places_K.tolist() == [5, 12, 14, 4, 7, 0]
    stated = [0.06621538304613193, 0.02415518849419715, 0.018197033815442604]
    np.testing.assert_allclose(plain.propensities_K[:3], stated, rtol=1e-12)
    by_turns = draw(
        PlackettLuce(0.1),
        scores_C,
        6,
        np.random.default_rng(8),
        lambda above: places_C % 2 == len(above) % 2,
        keys_C=places_C * 37,
    )
    assert by_turns.places_K.tolist() == [0, 1, 2, 19, 4, 11]


def unit_vectors(count: int, width: int, seed: int) -> np.ndarray:
    vectors_CD = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors_CD / np.linalg.norm(vectors_CD, axis=1, keepdims=True)


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(1, 25), st.integers(0, 2**32))
def test_without_diversity_vectors_change_nothing(scores: list[float], k: int, seed: int) -> None:
    policy, vectors_CD = PlackettLuce(0.5, diversity=0.0), unit_vectors(len(scores), 3, seed)
    one = draw(policy, np.array(scores), k, np.random.default_rng(seed))
    two = draw(policy, np.array(scores), k, np.random.default_rng(seed), vectors_CD=vectors_CD)
    assert one.places_K.tolist() == two.places_K.tolist()
    assert one.propensities_K.tolist() == two.propensities_K.tolist()


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=20),
    st.integers(1, 25),
    st.integers(0, 2**32),
    st.floats(1e-2, 1e2),
    st.floats(0, 1e3),
    st.integers(1, 3),
)
def test_with_diversity_propensities_are_those_of_the_definition(
    capped, scores: list[float], k: int, seed: int, temperature: float, diversity: float, limit: int
) -> None:
    count = len(scores)
    scores_C, vectors_CD, groups_C = np.array(scores), unit_vectors(count, 3, seed), np.arange(count) % 4
    policy = PlackettLuce(temperature, diversity=diversity)
    rule, vectors = capped((groups_C, limit)), vectors_CD if diversity else None
    drawn = draw(policy, scores_C, k, np.random.default_rng(seed), rule, vectors_CD=vectors)
    pool = Pool(scores_C, k, np.random.default_rng(seed), rule, vectors_CD=vectors)
    np.testing.assert_allclose(drawn.propensities_K, policy.propensities_of([pool], [drawn.places_K])[0], rtol=1e-9)
    looked_at = seed % max(len(drawn.places_K), 1)
    above: list[int] = []
    for place, propensity in zip(drawn.places_K.tolist(), drawn.propensities_K, strict=True):
        counts_G = np.bincount(groups_C[above], minlength=4)
        open_C = (counts_G < limit)[groups_C] & ~np.isin(np.arange(count), above)
        cosine_AC = np.clip(vectors_CD[above] @ vectors_CD.T, 0, 1)
        value_C = scores_C - diversity * cosine_AC.max(axis=0, initial=0.0)
        weights_C = np.where(open_C, np.exp((value_C - value_C[open_C].max()) / temperature), 0.0)
        if len(above) == looked_at:  # at one position what is left may come instead
            chances_C = chances_below(policy, scores_C, above, rule, vectors)
            assert chances_C.sum() == pytest.approx(1.0, abs=1e-12)
            assert (chances_C[~open_C] == 0).all()
            assert propensity == pytest.approx(chances_C[place], rel=1e-9)
        assert propensity > 0
        slack = 1e-6 * (1 + diversity / temperature)
        assert propensity == pytest.approx(weights_C[place] / weights_C.sum(), rel=slack)
        above.append(place)
    assert len(above) == min(k, int(np.minimum(np.bincount(groups_C), limit).sum()))


def test_twenty_thousand_draws_agree_with_the_exact_probabilities_of_each_slate(capped) -> None:
    angles_C = np.array([0.0, 0.2, 0.9, 2.0, 4.0])
    vectors_CD = np.stack([np.cos(angles_C), np.sin(angles_C)], axis=1)
    scores_C, groups_C = np.array([0.5, 0.4, 0.3, 0.0, -0.2]), np.array([0, 0, 0, 1, -1])
    policy, rule = PlackettLuce(0.4, diversity=0.5), capped((np.array([0, 0, 0, 1, -1]), 2))

    def probability(slate: tuple[int, ...]) -> float:
        product = 1.0
        for position, place in enumerate(slate):
            above = slate[:position]
            weights = {}
            for other in set(range(5)) - set(above):
                if groups_C[other] != 0 or sum(groups_C[one] == 0 for one in above) < 2:
                    nearest = max([0.0, *(float(np.cos(angles_C[other] - angles_C[one])) for one in above)])
                    weights[other] = np.exp((scores_C[other] - 0.5 * nearest) / 0.4)
            product *= weights.get(place, 0.0) / sum(weights.values())
        return float(product)

    exact = {slate: probability(slate) for slate in permutations(range(5), 3)}
    rngs = map(np.random.default_rng, range(20_000))
    drawn = policy.draw_many([Pool(scores_C, 3, rng, rule, vectors_CD=vectors_CD) for rng in rngs])
    slates = [tuple(one.places_K.tolist()) for one in drawn]
    counts = {**dict.fromkeys(exact, 0), **Counter(slates)}
    stated = [np.prod(one.propensities_K) for one in drawn]
    np.testing.assert_allclose(stated, [exact[slate] for slate in slates], rtol=1e-9)
    possible = [slate for slate in exact if exact[slate] > 0]
    assert len(possible) == 54
    assert sum(counts[slate] for slate in possible) == 20_000
    assert sum(exact.values()) == pytest.approx(1.0, abs=1e-12)
    expected = 20_000 * np.array([exact[slate] for slate in possible])
    assert chisquare([counts[slate] for slate in possible], expected * 20_000 / expected.sum()).pvalue > 0.001


def test_diversity_draws_a_slate_apart_and_the_more_so_the_larger_it_is() -> None:
    rng = np.random.default_rng(2)
    cluster_C = np.repeat(np.arange(5), 20)
    vectors_CD = unit_vectors(5, 16, 1)[cluster_C] + 0.05 * rng.normal(size=(100, 16))
    vectors_CD /= np.linalg.norm(vectors_CD, axis=1, keepdims=True)
    scores_C = -0.1 * cluster_C + 0.02 * rng.normal(size=100)

    def distance(diversity: float) -> float:
        found = []
        for seed in range(100):
            policy = PlackettLuce(0.05, diversity=diversity)
            slate_KD = vectors_CD[
                draw(policy, scores_C, 5, np.random.default_rng(seed), vectors_CD=vectors_CD).places_K
            ]
            found.append((1 - slate_KD @ slate_KD.T)[np.triu_indices(5, 1)].mean())
        return float(np.mean(found))

    plain, some, much = distance(0.0), distance(0.3), distance(1.0)
    assert plain + 0.1 < some
    assert some + 0.05 < much


def test_an_item_that_was_not_above_is_drawn_as_before() -> None:
    vectors_CD = np.eye(6)
    plain, apart = (
        draw(
            PlackettLuce(0.2, diversity=diversity),
            np.arange(6) / 10,
            6,
            np.random.default_rng(4),
            vectors_CD=vectors_CD,
        )
        for diversity in (0.0, 3.0)
    )
    assert plain.places_K.tolist() == apart.places_K.tolist()
    np.testing.assert_allclose(plain.propensities_K, apart.propensities_K, rtol=1e-12)


def test_an_item_that_no_model_knows_resembles_nothing() -> None:
    vectors_CD = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    chances_C = chances_below(PlackettLuce(1.0, diversity=0.5), np.zeros(3), [0], vectors_CD=vectors_CD)
    alike, unlike = np.exp(-0.5), 1.0
    assert chances_C.tolist() == pytest.approx([0.0, alike / (alike + unlike), unlike / (alike + unlike)], rel=1e-12)


def test_the_slate_records_the_diversity_that_it_was_drawn_with() -> None:
    assert PlackettLuce(0.2, 50, 0.3).describe()["diversity"] == 0.3
    assert PlackettLuce(0.2, 50).describe() == {"name": "plackett-luce", "temperature": 0.2, "candidates": 50}


@pytest.mark.parametrize("diversity", [-0.1, float("nan"), float("inf")])
def test_a_diversity_that_is_not_finite_or_negative_is_refused(diversity: float) -> None:
    with pytest.raises(ValueError, match="diversity"):
        PlackettLuce(1.0, diversity=diversity)


@pytest.mark.parametrize("vectors_CD", [None, np.eye(3)[:2], np.full((3, 2), np.nan), 2 * np.eye(3)])
def test_diversity_without_sound_vectors_is_refused(vectors_CD: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="vector"):
        draw(PlackettLuce(1.0, diversity=0.5), np.zeros(3), 2, np.random.default_rng(0), vectors_CD=vectors_CD)


@given(
    pools=st.lists(st.tuples(st.lists(st.floats(-2, 2), max_size=8), st.integers(0, 10), st.booleans()), min_size=1),
    diversity=st.sampled_from([0.0, 0.5]),
)
def test_slates_are_drawn_together_as_each_alone(pools: list[tuple[list[float], int, bool]], diversity: float) -> None:
    policy = PlackettLuce(0.3, diversity=diversity)

    def drawn_from(seed: int) -> Pool:
        scores, k, ruled = pools[seed]
        vectors_CD = unit_rows(np.random.default_rng(seed).normal(size=(len(scores), 3)).astype(np.float32))
        rule = (lambda above: np.arange(len(scores)) % 2 == len(above) % 2) if ruled else None
        return Pool(np.array(scores), k, np.random.default_rng(seed), rule, vectors_CD=vectors_CD)

    together = policy.draw_many([drawn_from(seed) for seed in range(len(pools))])
    for seed, drawn in enumerate(together):
        (alone,) = policy.draw_many([drawn_from(seed)])
        assert drawn.places_K.tolist() == alone.places_K.tolist()
        np.testing.assert_allclose(drawn.propensities_K, alone.propensities_K, rtol=1e-12)
