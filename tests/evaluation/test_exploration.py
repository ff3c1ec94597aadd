"""What a policy keeps of a model's ranking."""

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.case import user_states
from evaluation.gates.exploration import Exploration, worth_kept
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.ranking.exploration import Greedy
from models.ranking.policy import PlackettLuce


def test_the_blinder_the_draw_the_less_is_kept(bundle_folder: Path, planted: TrainingSet, cut: int) -> None:
    bundle, states = Bundle.load(bundle_folder), user_states(planted, cut, 20)
    policies = (Greedy(), PlackettLuce(0.01), PlackettLuce(0.1), PlackettLuce(100.0))
    kept = [worth_kept(replace(bundle, policy=policy), states, 10**15) for policy in policies]
    assert kept[0] == pytest.approx(1.0)
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < 0.75 < kept[1]
    assert worth_kept(bundle, [], 10**15) is None


def test_the_gate_asks_for_a_share() -> None:
    gate = Exploration(worth_kept=0.7)
    assert [gate.verdict(kept).verdict for kept in (0.7, 0.69, None)] == ["pass", "fail", "not_applicable"]
