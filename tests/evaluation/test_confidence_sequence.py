"""An interval that may be looked at after every user errs in few worlds at any look; the usual one in many."""

import math

import numpy as np
import pytest

from evaluation import intervals
from evaluation.gates.panel import PanelLimits
from evaluation.intervals import Interval

WORLDS, USERS = 400, 1_000
LIMITS = PanelLimits()


def confidence_sequence(value_U: np.ndarray, level: float = LIMITS.level) -> Interval:
    return intervals.confidence_sequence(value_U, level, LIMITS.narrowest, LIMITS.least_users)


def ever_missed(bounds, looks: range, random: np.random.Generator) -> float:
    missed = 0
    for _ in range(WORLDS):
        given_U = random.exponential(size=USERS) - 1.0  # skewed, of mean 0
        missed += any(not low <= 0.0 <= high for low, high in (bounds(given_U[:count]) for count in looks))
    return missed / WORLDS


def test_it_covers_the_truth_at_every_look_while_the_usual_interval_does_not() -> None:
    def sequence(given_U: np.ndarray) -> tuple[float, float]:
        found = confidence_sequence(given_U)
        return found.low, found.high

    def usual(given_U: np.ndarray) -> tuple[float, float]:
        half = 1.96 * given_U.std(ddof=1) / np.sqrt(len(given_U))
        return given_U.mean() - half, given_U.mean() + half

    looks = range(LIMITS.least_users, USERS, 25)
    assert ever_missed(sequence, looks, np.random.default_rng(1)) <= 0.05
    assert ever_missed(usual, looks, np.random.default_rng(1)) > 0.15


def test_versions_have_a_level_each_and_spending_it_over_them_would_widen_the_interval() -> None:
    """The figures that the decision on gates rests on: 500 users, and the hundredth version."""
    users, versions = 500, 100
    given_U = np.tile([1.0, -1.0], users // 2)
    half = confidence_sequence(given_U).high
    missed = math.erfc(half * math.sqrt(users) / given_U.std(ddof=1) / math.sqrt(2))
    assert missed == pytest.approx(0.0024, abs=1e-4)
    assert 1 - (1 - missed) ** versions == pytest.approx(0.21, abs=0.005)
    alpha = 6 * (1 - LIMITS.level) / (math.pi * versions) ** 2
    spent = confidence_sequence(given_U, 1 - alpha).high
    assert spent / half == pytest.approx(1.8, abs=0.01)


def test_it_gets_narrower_and_finds_what_is_there() -> None:
    given_U = np.random.default_rng(2).normal(0.5, 1.0, 4_000)
    found = [confidence_sequence(given_U[:count]) for count in (100, 1_000, 4_000)]
    widths = [one.high - one.low for one in found]
    assert widths == sorted(widths, reverse=True)
    assert found[-1].low > 0.3


def test_a_handful_of_users_has_no_interval() -> None:
    found = confidence_sequence(np.ones(LIMITS.least_users - 1))
    assert (found.value, found.low, found.high) == (1.0, -np.inf, np.inf)
    assert confidence_sequence(np.zeros(0)).value == 0.0


@pytest.mark.parametrize(("given_U", "level"), [(np.array([1.0, np.nan]), 0.95), (np.ones(3), 1.0), (np.ones(3), 0.0)])
def test_what_cannot_be_is_refused(given_U: np.ndarray, level: float) -> None:
    with pytest.raises(ValueError, match=r"finite|level"):
        confidence_sequence(given_U, level)
