"""Harm to a slice is found though the mean hides it, and many slices without harm raise no alarm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.case import CaseLimits
from evaluation.gates.slices import Slices, holm
from evaluation.intervals import REPLICATES
from models.metrics import CUT, Evaluation

USERS, EACH = 500, 10
GATE, LIMITS = Slices(), CaseLimits()


def evaluation(rank_E: np.ndarray, name: str = "one") -> Evaluation:
    count = len(rank_E)
    events = pd.DataFrame({
        "group": np.arange(count), "user_id": [f"u{place // EACH}" for place in range(count)],
        "position": np.arange(1, count + 1), "reward": 1.0, "rank": rank_E, "candidates": 100,
    })  # fmt: skip
    return Evaluation(name, events, pd.DataFrame(), np.zeros((0, CUT), np.int32), 100, 0, 0, 0, 0.0)


def ranks(share_E: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Hits at the top with each event's own chance, else a miss."""
    return np.where(random.random(len(share_E)) < share_E, 1.0, 50.0)


def test_a_slice_that_is_harmed_is_found_though_the_mean_gained() -> None:
    random = np.random.default_rng(0)
    is_small_E = np.arange(USERS * EACH) < 0.2 * USERS * EACH
    champion = evaluation(ranks(np.full(USERS * EACH, 0.4), random))
    challenger = evaluation(ranks(np.where(is_small_E, 0.2, 0.5), random))
    slices = {"small": is_small_E, "large": ~is_small_E, "nobody": np.zeros(USERS * EACH, bool)}
    slices["few"] = np.arange(USERS * EACH) < 49 * EACH
    found = GATE.harms(challenger, champion, slices, LIMITS)
    assert {name: one.is_harmed for name, one in found.items()} == {"small": True, "large": False}
    assert found["small"].change.high < -0.05 < found["large"].change.low
    assert (found["small"].users, found["small"].events) == (100, 1_000)


def test_ten_slices_without_harm_raise_few_alarms() -> None:
    alarms = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        share_E = np.full(USERS * EACH, 0.4)
        pair = evaluation(ranks(share_E, random)), evaluation(ranks(share_E, random))
        slices = {str(place): np.arange(USERS * EACH) // EACH % 10 == place for place in range(10)}
        alarms += any(one.is_harmed for one in replace(GATE, slice_change=0.0).harms(*pair, slices, LIMITS).values())
    assert alarms <= 4, "at most one in forty is meant"


def test_of_too_many_slices_the_first_are_tested() -> None:
    random = np.random.default_rng(0)
    pair = [evaluation(ranks(np.full(USERS * EACH, 0.4), random)) for _ in range(2)]
    slices = {f"first {users}": np.arange(USERS * EACH) < users * EACH for users in range(10, 200)}
    most = GATE.slices.most
    assert list(GATE.harms(pair[0], pair[1], slices, LIMITS)) == [f"first {users}" for users in range(50, 50 + most)]
    assert GATE.slices.level / most >= 1 / (1 + REPLICATES), "or no slice could ever be shown to be harmed"


def test_one_user_counts_for_no_more_than_the_cap() -> None:
    random = np.random.default_rng(1)
    users = [f"u{place}" for place in range(100) for _ in range(5)] + ["bot"] * 2_000
    pair = []
    for bots in (0.9, 0.1):
        one = evaluation(ranks(np.concatenate([np.full(500, 0.4), np.full(2_000, bots)]), random))
        pair.append(Evaluation("x", one.events.assign(user_id=users), *list(vars(one).values())[2:]))
    champion, challenger = pair
    everybody = {"all": np.ones(2_500, bool)}
    (freely,) = GATE.harms(challenger, champion, everybody, replace(LIMITS, user_cap=np.inf)).values()
    (capped,) = GATE.harms(challenger, champion, everybody, replace(LIMITS, user_cap=5)).values()
    assert freely.change.value < -0.5
    assert abs(capped.change.value) < 0.2
    assert not capped.is_harmed


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_the_least_likely_first(chances: dict[str, float], level: float) -> None:
    levels, rejected = holm(chances, level)
    assert levels.keys() == chances.keys()
    assert all(level / len(chances) <= one <= level for one in levels.values())
    assert {name for name in chances if chances[name] <= level / len(chances)} <= rejected
    assert all(chances[name] <= level for name in rejected)
    standing = chances.keys() - rejected
    assert not standing or max((chances[name] for name in rejected), default=0.0) <= min(map(chances.get, standing))


def test_other_events_are_no_comparison() -> None:
    one, other = evaluation(np.ones(20)), evaluation(np.ones(30))
    with pytest.raises(ValueError, match="same events"):
        GATE.harms(one, other, {}, LIMITS)
