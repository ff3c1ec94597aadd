"""What is compared with the champion is what people get, however busy one account among them is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.case import Case, CaseLimits
from evaluation.gates.calibration import Calibration
from evaluation.gates.panel import Panel
from evaluation.gates.variety import diversity, genre_vectors, novelty, self_information
from evaluation.judge import judge
from evaluation.replay import replay
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.metrics import CUT, Chances, Evaluation

USERS, EACH, BUSY = 2_000, 40, 200_000
LIMITS = CaseLimits()
PANEL = Panel()


def evaluation(name: str, hits_E: np.ndarray, users: np.ndarray) -> Evaluation:
    """Whoever hits does so with the first item."""
    count = len(hits_E)
    events = pd.DataFrame({
        "group": np.arange(count), "user_id": users, "position": np.arange(count), "reward": 1.0,
        "rank": np.where(hits_E, 1.0, np.inf), "candidates": 1_000,
    })  # fmt: skip
    return Evaluation(name, events, pd.DataFrame(), np.zeros((0, CUT), int), 1_000, 0, 0, 0, 0.0)


@pytest.mark.parametrize("always_hit", [True, False])
@pytest.mark.parametrize(("lost", "verdict"), [(0.2, "fail"), (0.01, "pass")])
def test_a_busy_account_moves_the_panel_by_one_user_alone(always_hit: bool, lost: float, verdict: str) -> None:
    """One that is always hit had made every loss small, one that never is had made the smallest loss large."""
    random = np.random.default_rng(1)
    theirs_E = random.random(USERS * EACH) < 0.1
    ours_E = theirs_E & (random.random(USERS * EACH) >= lost)
    users = np.repeat([f"u{place}" for place in range(USERS)], EACH)
    alone, count = PANEL.change(evaluation("ours", ours_E, users), evaluation("theirs", theirs_E, users), "ndcg@10")
    assert count == USERS
    assert alone.value == pytest.approx(-lost, abs=0.005)
    busy = np.concatenate([users, np.full(BUSY, "busy")])
    pair = [evaluation("x", np.concatenate([one, np.full(BUSY, always_hit)]), busy) for one in (ours_E, theirs_E)]
    among, _ = PANEL.change(*pair, "ndcg@10")
    for bound in ("value", "low", "high"):
        assert getattr(among, bound) == pytest.approx(getattr(alone, bound), rel=0.01, abs=1e-9)
    assert PANEL.of_change("no_harm_to_panel", among, count, "ndcg@10").verdict == verdict


def test_where_the_champion_hits_nothing_or_nobody_came_there_is_nothing_to_say() -> None:
    users, nothing = np.array(["u0", "u1"]), np.zeros(2, bool)
    for count in (2, 0):
        pair = [evaluation(name, nothing[:count], users[:count]) for name in ("ours", "theirs")]
        assert PANEL.change(*pair, "ndcg@10") == "the champion hits nothing of the panel's"


def test_of_lists_one_user_makes_up_no_more_than_the_cap(bundle_folder: Path, planted: TrainingSet, cut: int) -> None:
    came_often = (planted.users % 2 == 0) | (planted.positions % 5 == 0)
    uneven, bundle = planted.select((planted.times <= cut) | came_often), Bundle.load(bundle_folder)
    found = judge(Case.load(uneven, bundle_folder, bundle_folder, limits=replace(LIMITS, user_cap=1)))
    measured = {gate.name: gate.measured for gate in found.verdicts}
    replayed = replay(bundle.hybrid, uneven, cut, int(uneven.times.max()), catalogue=bundle.catalogue)
    users_G, lists_GK = replayed.groups["user_id"], replayed.lists_GK
    bits_N = self_information(planted.select(planted.times <= cut))
    told = {"diversity": diversity(lists_GK, genre_vectors(planted.catalogue)), "novelty": novelty(lists_GK, bits_N)}
    for name, found_G in told.items():
        of_users = pd.Series(found_G).groupby(users_G).mean()
        assert measured[name] == pytest.approx(of_users.mean())
        assert measured[name] != pytest.approx(found_G.mean(), rel=1e-4)


@pytest.mark.parametrize(("wrong_by", "of_busy"), [(0.0, 0.25), (0.25, 0.0)])
def test_a_busy_account_neither_hides_an_error_of_chances_nor_makes_one(wrong_by: float, of_busy: float) -> None:
    random, people, busy = np.random.default_rng(2), 20_000, 100_000
    chance_E = random.uniform(0.3, 0.6, people + busy)
    came_E = random.random(people + busy) < chance_E - np.repeat([wrong_by, of_busy], [people, busy])
    users_E = np.array([*(f"u{place // 50}" for place in range(people)), *["busy"] * busy], object)
    count = people + busy
    chances = Chances(np.arange(count), users_E, np.ones(count), chance_E, came_E, chance_E, came_E)
    one = replace(evaluation("ours", came_E, users_E), chances=chances)
    measured = {cap: Calibration().of_replays({"challenger": one}, cap).measured for cap in (100, np.inf)}
    assert measured[100] == pytest.approx(wrong_by, abs=0.02)
    assert abs(measured[np.inf] - wrong_by) > 0.1
