"""From a folder to a bundle: what it declares is what was asked, what it was trained on is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import model_card, workshop
from models.bundle import Bundle
from models.evaluation.judging import judge_folders
from models.learning import training
from models.learning.dataset import TrainingSet
from models.learning.windows import share_out
from models.network.config import Recipe
from models.ranking.policies import Exploration


@pytest.fixture(autouse=True)
def quick_recipe(monkeypatch: pytest.MonkeyPatch, quick: Recipe) -> None:
    monkeypatch.setattr(workshop, "RECIPES", {"quick": lambda: quick})


@pytest.fixture
def data(tastes: TrainingSet, write_training_set, tmp_path: Path) -> Path:
    return write_training_set(tastes, tmp_path / "set")


def lineage(bundle: Path, data: Path) -> str:
    gates = judge_folders(bundle, None, None, data).gates
    return next(gate.verdict for gate in gates if gate.name == "lineage")


def test_a_training_keeps_to_what_it_declares(tastes: TrainingSet, data: Path, tmp_path: Path) -> None:
    windows = share_out(tastes.positions)
    folder = workshop.train_bundle(data, tmp_path / "bundles", "quick", seed=1)
    bundle = Bundle.load(folder)
    assert bundle.holdout_after == windows.validate_upto >= bundle.trained_upto > windows.train_upto
    assert lineage(folder, data) == "pass"
    tuned_folder = workshop.finetune_bundle(folder, data, tmp_path / "bundles", seed=1, hold_back=0.3)
    tuned, later = Bundle.load(tuned_folder), np.sort(tastes.positions[tastes.positions > bundle.holdout_after])
    assert tuned.holdout_after == later[round(len(later) * 0.7) - 1] >= tuned.trained_upto > bundle.trained_upto
    assert lineage(tuned_folder, data) == "pass"


def test_a_training_that_reads_further_than_it_declares_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = training.learnable
    monkeypatch.setattr(training, "learnable", lambda training_set, upto: honest(training_set, upto + 40))
    folder = workshop.train_bundle(data, tmp_path / "bundles", "quick", seed=1)
    bundle = Bundle.load(folder)
    assert bundle.trained_upto > bundle.holdout_after
    assert lineage(folder, data) == "fail"


def test_a_model_draws_by_the_policy_that_was_chosen_and_so_does_what_is_tuned_from_it(
    data: Path, tmp_path: Path
) -> None:
    bundles, chosen = tmp_path / "bundles", Exploration("thompson", budget=7, days=2.0, least_quality=0.5)
    folder = workshop.train_bundle(data, bundles, "quick", seed=1, exploration=chosen)
    bundle = Bundle.load(folder)
    assert bundle.policy == chosen.of(tuple(bundle.hybrid.source_weights))
    assert (bundle.policy.budget, bundle.policy.days) == (7, 2.0)
    assert set(bundle.policy.features) == set(bundle.hybrid.source_weights)
    assert workshop.train_bundle(data, bundles, "quick", seed=1) != folder, "another policy is another bundle"
    tuned = Bundle.load(workshop.finetune_bundle(folder, data, bundles, seed=1, hold_back=0.3))
    assert tuned.policy == bundle.policy


def test_figures_at_earlier_moments_join_the_report_and_the_card(data: Path, tmp_path: Path) -> None:
    bundle = workshop.train_bundle(data, tmp_path / "bundles", "quick", 0)
    workshop.cross_validate(data, bundle, "quick", 0, 2)
    report = json.loads(workshop.report_file(bundle).read_text())
    assert len(report["origins"]) == 2
    assert {"ndcg@10", "ndcg@10 sd"} <= report["cross_validation"]["model"].keys()
    assert "At earlier moments" in model_card.render({}, report, None)
