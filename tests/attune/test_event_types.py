"""The reward table, kind by kind, and what every kind keeps to."""

import json
import math
from hashlib import sha256

import numpy as np
import pytest

from attune.event_types import KINDS, RETRACT, REWARD_TABLE_VERSION, SILENCE, centred, reward


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("impression", None, 0.5),
        ("view", None, 0.75),
        ("click", None, 1.0),
        ("like", None, 1.0),
        ("dislike", None, 0.0),
        ("hide", None, 0.0),
        ("skip", None, 0.25),
        ("rating", 0.5, 0.0),
        ("rating", 1.0, 0.0),
        ("rating", 3.0, 0.5),
        ("rating", 4.0, 0.75),
        ("rating", 5.0, 1.0),
        ("watch", 0.0, 0.0),
        ("watch", 0.9, 0.9),
        ("dwell", 0.0, 0.5),
        ("dwell", 30.0, 0.75),
        ("dwell", 3_600.0, 1.0),
        ("survey", 0.2, 0.2),
        ("favourite", None, 1.0),
        ("cart", None, 1.0),
        ("purchase", None, 1.0),
        ("share", None, 1.0),
        ("comment", None, 0.75),
        ("retract", None, 0.5),
    ],
)
def test_what_each_is_worth(kind: str, value: float | None, expected: float) -> None:
    assert reward(kind, value) == pytest.approx(expected)


@pytest.mark.parametrize("name", KINDS)
def test_every_reward_lies_between_0_and_1(name: str) -> None:
    kind = KINDS[name]
    low, high = (max(min(bound, 1e6), -1e6) for bound in (kind.low, kind.high))
    for value in (None, low, (low + high) / 2, high):
        assert 0.0 <= reward(name, value) <= 1.0


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.needs_value])
def test_more_is_never_worth_less(name: str) -> None:
    kind = KINDS[name]
    high = kind.high if math.isfinite(kind.high) else 1e4
    rewards = [reward(name, kind.low + (high - kind.low) * step / 100) for step in range(101)]
    assert rewards == sorted(rewards)
    assert rewards[0] < rewards[-1]


def test_the_kinds_stand_in_the_order_that_bundles_number_them_by() -> None:
    """models.history numbers them: new ones go to the end."""
    assert " ".join(KINDS) == (
        "impression view click like dislike hide skip rating watch dwell survey favourite cart purchase share comment"
        " retract"
    )


def test_a_table_that_is_worth_something_else_has_another_version() -> None:
    """Bundles name the version that they learned by: a changed reward needs a new number, and its line here."""
    steps = [step / 8 for step in range(-1, 8 * 70)]
    table = {
        name: [reward(name), *(reward(name, value) for value in steps if kind.low <= value <= kind.high)]
        for name, kind in KINDS.items()
    }
    digest = sha256(json.dumps(table).encode()).hexdigest()[:16]
    assert {REWARD_TABLE_VERSION: digest} == {1: "d02427a86a3ffcd4"}


def test_silence_says_nothing() -> None:
    assert centred(np.array(SILENCE)) == 0
    assert reward("impression") == SILENCE


def test_centred_rewards_lie_around_silence() -> None:
    found = centred(np.array([[0.0, 0.25], [SILENCE, 1.0]], np.float32))
    assert found.tolist() == [[-1.0, -0.5], [0.0, 1.0]]
    assert found.dtype == np.float64


def test_what_does_not_mark_seen() -> None:
    assert {name for name, kind in KINDS.items() if not kind.marks_seen} == {"impression", RETRACT}


def test_an_unknown_kind() -> None:
    with pytest.raises(KeyError):
        reward("likes")
