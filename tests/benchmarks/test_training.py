"""The parts of `python -m benchmarks training` on tiny worlds: what they count, and that both sides answer."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from attune.errors import AttuneError
from benchmarks import training_growth, training_peer
from benchmarks.training_peer import ATTUNE, SCRIPT

RECIPE = {
    "network": {"width": 16, "blocks": 1, "heads": 2, "context": 16, "dropout": 0.2},
    "batch": 8,
    "learning_rate": 1e-3,
    "loss": "full",
}
OURS = [sys.executable, *ATTUNE]
RECTOOLS_PYTHON = os.environ.get("RECTOOLS_PYTHON")


def events(users: int = 30, each: int = 20) -> dict:
    rng = np.random.default_rng(0)
    owners = np.append(np.repeat(np.arange(users), each), users)  # the last one has a single event
    return {
        "users_E": owners,
        "items_E": rng.integers(0, 50, len(owners)),
        "times_E": rng.integers(0, 1_000, len(owners)),
        "items": 50,
    }


def test_a_world_has_the_latest_events_of_users_that_have_several() -> None:
    given = events()
    world = training_peer.latest(given, np.random.default_rng(0), users=100, most=9)
    assert np.bincount(world["users_E"]).tolist() == [9] * 30
    assert (np.diff(world["times_E"]) > 0).all()
    for user in range(30):
        rows = np.flatnonzero(given["users_E"] == user)
        rows = rows[np.argsort(given["times_E"][rows], kind="stable")][-9:]
        assert world["items_E"][world["users_E"] == user].tolist() == given["items_E"][rows].tolist()
    assert len(np.unique(training_peer.latest(given, np.random.default_rng(0), 7, 9)["users_E"])) == 7


def test_the_sides_train_in_turn_and_say_what_it_costs() -> None:
    world = training_peer.latest(events(), np.random.default_rng(0), users=30, most=16)
    programs = {"attune": (OURS, RECIPE), "attune, sampled": (OURS, {**RECIPE, "loss": "sampled", "negatives": 8})}
    if RECTOOLS_PYTHON:
        programs = {"RecTools": ([RECTOOLS_PYTHON, "-I", SCRIPT], RECIPE), **programs}
    figures = {figure.name: figure for figure in training_peer.compare("3 tiny", world, programs, rounds=2)}
    for name in programs:
        rate = figures[f"3 tiny: {name}, targets a CPU second"]
        assert rate.value > 0
        assert "in 2 epochs of 450;" in rate.note  # 30 users, 16 events, of which the first is no target
        assert figures[f"3 tiny: {name}, peak memory, MiB"].value > 50
    assert figures["3 tiny: sampled loss over full softmax"].value > 0
    assert ("3 tiny: attune's rate over RecTools'" in figures) == bool(RECTOOLS_PYTHON)


def test_a_side_that_ends_is_told(tmp_path: Path) -> None:
    with training_peer.side([sys.executable, "-c", "pass"], tmp_path, {}) as one, pytest.raises(AttuneError, match="0"):
        one._answer()


def test_growth_is_told_over_the_smallest() -> None:
    figures = training_growth.measure(seed=0, users=8, rounds=1, catalogues=(200, 400))
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names) == 2 * len(training_growth.TIMES) + 2
    assert "2,048 events" in figures[-3].note
    assert [figure.limit for figure in figures[2:8]] == [training_growth.MOST_AWAY] * 6
    assert figures[-1].limit == training_growth.MOST_STEP
