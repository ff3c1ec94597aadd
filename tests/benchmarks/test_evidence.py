"""Worlds of no gain: intervals of the floor's users hold the truth, and few lie wholly on the good side."""

import numpy as np
import pytest

from benchmarks.evidence import CHANGES, COUNTS, COVERED, WRONG, evidence


@pytest.mark.parametrize("change", CHANGES)
def test_a_challenger_that_is_no_better_seldom_passes(change: str) -> None:
    rates = evidence(60, COUNTS["equal"], CHANGES[change], 100, np.random.default_rng(3))
    assert rates["effective"] == pytest.approx(60)
    assert rates["wrong"] <= WRONG + 3 * np.sqrt(WRONG * (1 - WRONG) / 100)
    assert rates["covered"] >= COVERED - 3 * np.sqrt(COVERED * (1 - COVERED) / 100)


@pytest.mark.parametrize("change", CHANGES)
def test_what_some_gain_others_lose(change: str) -> None:
    assert CHANGES[change](200_000, np.random.default_rng(0)).mean() == pytest.approx(0.0, abs=0.005)
