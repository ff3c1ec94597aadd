"""Logs are checked when they are built: what is wrong, where, and what to do."""

from typing import Any

import numpy as np
import pytest

from attune.errors import DataContractError
from evaluation.offpolicy.logs import BanditLog, SlateLog

RIGHT: dict[str, Any] = {
    "rewards_N": np.array([0.0, 1.0]),
    "propensities_N": np.array([0.5, 1.0]),
    "chances_N": np.array([0.0, 1.0]),
}
SLATES: dict[str, Any] = {
    "rewards_SK": np.array([[1.0, 0.0], [0.5, np.nan]]),
    "propensities_SK": np.array([[0.5, 0.5], [0.5, np.nan]]),
    "chances_SK": np.array([[0.25, 1.0], [0.5, 7.0]]),
}


@pytest.mark.parametrize(
    ("name", "found", "says"),
    [
        ("rewards_N", [0.0, 1.5], r"rewards_N\[1\] is 1.5 .* \[0, 1\]"),
        ("rewards_N", [-1.5, 0.0], r"rewards_N\[0\] is -1.5"),
        ("rewards_N", [np.nan, 0.0], r"rewards_N\[0\] is nan"),
        ("propensities_N", [0.5, 0.0], r"propensities_N\[1\] is 0.0 .* leave out the rounds that no policy drew"),
        ("propensities_N", [1.01, 0.5], r"propensities_N\[0\] is 1.01"),
        ("propensities_N", [np.nan, np.nan], r"\(2 such\)"),
        ("chances_N", [-0.1, 0.5], r"chances_N\[0\] is -0.1"),
        ("chances_N", [0.1, 1.5], r"chances_N\[1\] is 1.5"),
        ("chances_N", [0.1], r"shape \(1,\)"),
        ("users_N", ["a"], "users_N has the shape"),
        ("expected_N", [0.1, 0.1], "reward model needs both"),
    ],
)
def test_what_is_wrong_in_a_bandit_log_is_named(name: str, found: list[Any], says: str) -> None:
    with pytest.raises(DataContractError, match=says):
        BanditLog(**{**RIGHT, name: np.array(found)})


def test_a_prediction_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataContractError, match=r"predicted_N\[1\] is inf"):
        BanditLog(**RIGHT, predicted_N=np.array([0.0, np.inf]), expected_N=np.zeros(2))


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_an_empty_log_is_refused(shape: tuple[int, ...]) -> None:
    make: Any = BanditLog if len(shape) == 1 else SlateLog
    with pytest.raises(DataContractError, match="empty"):
        make(*[np.zeros(shape)] * 3)


def test_an_error_names_the_field_and_the_rule_without_the_value() -> None:
    with pytest.raises(DataContractError) as caught:
        BanditLog(**{**RIGHT, "rewards_N": np.array([3.0, 0.0])})
    assert caught.value.field == "rewards_N"
    assert "3.0" not in caught.value.rule


def test_what_stands_below_a_slates_end_is_not_looked_at() -> None:
    log = SlateLog(**SLATES)
    assert log.prefixes_SK.tolist() == [[0.5, 1.0], [1.0, 1.0]]
    assert log.shown_SK.tolist() == [[True, True], [True, False]]
    assert len(log) == 2


@pytest.mark.parametrize(
    ("name", "found", "says"),
    [
        ("rewards_SK", [[1.0, 0.0], [np.nan, np.nan]], "slate 1 has no position"),
        ("rewards_SK", [[np.nan, 0.0], [1.0, 1.0]], "slate 0 has no position"),
        ("rewards_SK", [[1.0, 2.0], [1.0, np.nan]], r"rewards_SK\[0, 1\] is 2.0"),
        ("propensities_SK", [[0.5, 0.0], [0.5, np.nan]], r"propensities_SK\[0, 1\] is 0.0"),
        ("chances_SK", [[0.5, 0.5], [1.5, np.nan]], r"chances_SK\[1, 0\] is 1.5"),
        ("rewards_SK", [1.0, 0.0], "2 dimensions"),
    ],
)
def test_what_is_wrong_in_a_slate_log_is_named(name: str, found: list[Any], says: str) -> None:
    with pytest.raises(DataContractError, match=says):
        SlateLog(**{**SLATES, name: np.array(found)})


def test_a_hole_in_a_slate_is_refused() -> None:
    with pytest.raises(DataContractError, match="slate 0 goes on below"):
        SlateLog(np.array([[1.0, np.nan, 0.0]]), np.ones((1, 3)), np.ones((1, 3)))


def test_the_top_of_a_slate_log_is_one_too() -> None:
    log = SlateLog(**SLATES, predicted_SK=np.zeros((2, 2)), expected_SK=np.zeros((2, 2)), users_S=np.array(["a", "b"]))
    top = log.top(1)
    assert top.rewards_SK.tolist() == [[1.0], [0.5]]
    assert top.predicted_SK is None
    assert top.users_S is not None
    with pytest.raises(ValueError, match="at least 1"):
        log.top(0)
