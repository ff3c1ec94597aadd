"""The estimators against values made by hand, and what must hold of them on every log."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.offpolicy.estimate import terms_of
from evaluation.offpolicy.estimators import (
    BANDIT_ESTIMATORS,
    SLATE_ESTIMATORS,
    Weighting,
    bootstrap,
    cascade_dr,
    doubly_robust,
    effective,
)
from evaluation.offpolicy.logs import BanditLog, SlateLog
from models.ranking.policy import PlackettLuce, Pool

PLAIN = Weighting()

BY_HAND = BanditLog(
    rewards_N=np.array([1.0, 0.0, 1.0, 1.0]),
    propensities_N=np.array([0.5, 0.5, 0.25, 0.1]),
    chances_N=np.array([0.25, 0.5, 0.5, 0.4]),  # weights 0.5, 1, 2, 4
    predicted_N=np.array([0.5, 0.5, 0.75, 0.25]),
    expected_N=np.array([0.5, 0.25, 0.5, 0.75]),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dm", 2.0 / 4),
        ("ips", 6.5 / 4),
        ("snips", 6.5 / 7.5),
        ("dr", 2.0 / 4 + (0.25 - 0.5 + 0.5 + 3.0) / 4),
        ("sndr", 2.0 / 4 + 3.25 / 7.5),
        ("switch-dr", 2.0 / 4 + 0.25 / 4),
    ],
)
def test_bandit_estimators_equal_the_values_made_by_hand(name: str, value: float) -> None:
    assert BANDIT_ESTIMATORS[name](BY_HAND, Weighting(switch=2.0)).value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "value"), [("ips", 4.5 / 4), ("snips", 4.5 / 5.5), ("dr", 0.5 + 1.75 / 4)])
def test_clipped_weights_count_as_the_clip(name: str, value: float) -> None:
    assert BANDIT_ESTIMATORS[name](BY_HAND, Weighting(clip=2.0)).value == pytest.approx(value, abs=1e-12)


SLATES = SlateLog(
    rewards_SK=np.array([[1.0, 0.5], [0.0, 1.0], [1.0, np.nan]]),
    propensities_SK=np.array([[0.5, 0.5], [0.5, 0.25], [0.5, 1.0]]),
    chances_SK=np.array([[0.25, 1.0], [1.0, 0.5], [0.25, 1.0]]),  # down to each: 0.5, 1; 2, 4; 0.5
    predicted_SK=np.array([[1.0, 0.5], [0.5, 0.5], [0.5, 9.0]]),
    expected_SK=np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 9.0]]),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slate-ips", (1.5 + 4.0 + 0.5) / 3),
        ("rips", ((0.5 + 0.5) + 4.0 + 0.5) / 3),
        ("cascade-dr", ((0.75 + 0.0 + 0.125 + 0.0) + (0.75 - 1.0 + 0.5 + 2.0) + (0.5 + 0.25)) / 3),
    ],
)
def test_slate_estimators_equal_the_values_made_by_hand(name: str, value: float) -> None:
    assert SLATE_ESTIMATORS[name](SLATES, PLAIN).value == pytest.approx(value, abs=1e-12)


def test_without_a_reward_model_what_needs_one_says_so() -> None:
    log = BanditLog(BY_HAND.rewards_N, BY_HAND.propensities_N, BY_HAND.chances_N)
    assert set(terms_of(log)) == {"ips", "snips"}
    assert set(terms_of(SLATES.top(2))) == {"slate-ips", "rips"}
    with pytest.raises(ValueError, match="predicted_N"):
        doubly_robust(log)
    with pytest.raises(ValueError, match="predicted_SK"):
        cascade_dr(SLATES.top(2))


@st.composite
def bandit_logs(draw: st.DrawFn, on_policy: bool = False) -> BanditLog:
    """Any log of at most 30 rounds."""
    count = draw(st.integers(1, 30))

    def column(low: float, high: float) -> np.ndarray:
        return np.array(draw(st.lists(st.floats(low, high), min_size=count, max_size=count)))

    propensities_N = column(0.01, 1.0)
    return BanditLog(
        rewards_N=column(-1.0, 1.0),
        propensities_N=propensities_N,
        chances_N=propensities_N if on_policy else column(0.0, 1.0),
        predicted_N=column(-1.0, 1.0),
        expected_N=column(-1.0, 1.0),
    )


@given(bandit_logs(on_policy=True))
def test_a_policy_that_is_its_own_logger_is_worth_the_plain_mean(log: BanditLog) -> None:
    for name in ("ips", "snips"):
        assert BANDIT_ESTIMATORS[name](log, PLAIN).value == pytest.approx(log.rewards_N.mean(), abs=1e-12)
    assert effective(log.weights_N) == pytest.approx(len(log))


@given(bandit_logs())
def test_a_model_that_says_nothing_makes_doubly_robust_what_weights_alone_give(log: BanditLog) -> None:
    silent = BanditLog(log.rewards_N, log.propensities_N, log.chances_N, 0 * log.rewards_N, 0 * log.rewards_N)
    values = {name: terms.value for name, terms in terms_of(silent).items()}
    assert values["dr"] == pytest.approx(values["ips"], abs=1e-12)
    assert values["sndr"] == pytest.approx(values["snips"], abs=1e-12)
    assert values["dm"] == 0


@given(bandit_logs())
def test_a_model_that_leaves_no_residual_makes_every_doubly_robust_one_the_direct_method(log: BanditLog) -> None:
    exact = BanditLog(log.rewards_N, log.propensities_N, log.chances_N, log.rewards_N, log.expected_N)
    values = {name: terms.value for name, terms in terms_of(exact).items()}
    for name in ("dr", "sndr", "switch-dr"):
        assert values[name] == pytest.approx(values["dm"], abs=1e-12)


@given(bandit_logs())
def test_self_normalised_values_lie_within_the_rewards(log: BanditLog) -> None:
    value = BANDIT_ESTIMATORS["snips"](log, PLAIN).value
    assert min(log.rewards_N.min(), 0) - 1e-12 <= value <= max(log.rewards_N.max(), 0) + 1e-12


@given(bandit_logs(), st.floats(0.01, 100.0))
def test_clipping_never_takes_more_than_the_weight_above_the_clip(log: BanditLog, clip: float) -> None:
    whole, clipped = (BANDIT_ESTIMATORS["ips"](log, one).value for one in (PLAIN, Weighting(clip=clip)))
    taken = np.maximum(log.weights_N - clip, 0).mean()
    assert abs(whole - clipped) <= taken + 1e-9
    assert abs(clipped) <= clip + 1e-9


@given(bandit_logs())
def test_a_switch_above_every_weight_is_doubly_robust_and_one_below_the_direct_method(log: BanditLog) -> None:
    of = BANDIT_ESTIMATORS
    assert of["switch-dr"](log, Weighting(switch=1e9)).value == pytest.approx(of["dr"](log, PLAIN).value)
    if (log.weights_N > 1e-6).all():
        assert of["switch-dr"](log, Weighting(switch=1e-6)).value == pytest.approx(of["dm"](log, PLAIN).value)


@given(bandit_logs(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_says_nothing(log: BanditLog, random: Any) -> None:
    order = list(range(len(log)))
    random.shuffle(order)
    mixed = BanditLog(*(getattr(log, name)[order] for name in list(log.__dataclass_fields__)[:5]))
    before, after = terms_of(log), terms_of(mixed)
    for name, terms in before.items():
        assert after[name].value == pytest.approx(terms.value, rel=1e-9, abs=1e-9)


@given(bandit_logs())
def test_a_slate_of_one_position_is_a_bandit(log: BanditLog) -> None:
    columns = [getattr(log, name)[:, None] for name in list(log.__dataclass_fields__)[:5]]
    slates, rounds = terms_of(SlateLog(*columns)), terms_of(log)
    for of_slate, of_round in (("slate-ips", "ips"), ("rips", "ips"), ("cascade-dr", "dr")):
        assert slates[of_slate].value == pytest.approx(rounds[of_round].value, abs=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_the_effective_sample_size_lies_between_none_and_all(weights: list[float]) -> None:
    assert 0 <= effective(np.array(weights)) <= len(weights) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["clip", "switch"])
def test_a_largest_weight_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Weighting(**{name: 0.0})


def test_the_bootstrap_equals_one_written_with_loops_over_users() -> None:
    rng = np.random.default_rng(4)
    users_N = rng.integers(0, 15, 60)
    log = BanditLog(rng.random(60), rng.uniform(0.2, 1, 60), rng.random(60), rng.random(60), rng.random(60), users_N)
    names = np.unique(users_N.astype(str))
    places_RU = rng.integers(0, len(names), (5, len(names)))
    found = bootstrap(terms_of(log), users_N, replicates=5, draw=lambda rows, below: places_RU)
    for replicate, places_U in enumerate(places_RU):
        rows = np.concatenate([np.flatnonzero(users_N.astype(str) == names[place]) for place in places_U])
        again = BanditLog(*(getattr(log, name)[rows] for name in list(log.__dataclass_fields__)[:5]))
        for name, terms in terms_of(again).items():
            assert found.drawn[name][replicate] == pytest.approx(terms.value, abs=1e-12)


def test_slates_that_the_policy_drew_tell_what_another_temperature_is_worth() -> None:
    likes_C, scores_C = np.array([0.9, 0.6, 0.5, 0.3, 0.1]), np.array([0.2, 0.5, 0.3, 0.6, 0.1])
    warm, cool = PlackettLuce(1.0), PlackettLuce(0.5)
    rng, slates, k = np.random.default_rng(9), 3000, 3
    logged = warm.draw_many([Pool(scores_C, k, rng) for _ in range(slates)])
    chances = {places: _chances(cool, scores_C, places) for places in permutations(range(5), k)}
    value = sum(np.prod(down) * likes_C[list(places)].sum() for places, down in chances.items())
    places_SK = np.stack([one.places_K for one in logged])
    log = SlateLog(
        rewards_SK=(rng.random((slates, k)) < likes_C[places_SK]).astype(float),
        propensities_SK=np.stack([one.propensities_K for one in logged]),
        chances_SK=np.array([chances[tuple(places_K)] for places_K in places_SK.tolist()]),
    )
    found = bootstrap(terms_of(log))
    for name in ("slate-ips", "rips"):
        interval = found.interval(name)
        assert interval.low <= value <= interval.high


def _chances(policy: PlackettLuce, scores_C: np.ndarray, places: tuple[int, ...]) -> list[float]:
    """The policy's probability of each place of a slate given those above it."""
    pool = Pool(scores_C, len(places), np.random.default_rng(0))
    return policy.propensities_of([pool], [np.array(places)])[0].tolist()
