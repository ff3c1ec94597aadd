"""From a folder to a bundle: what it declares is what was asked, what it was trained on is measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation import origins
from evaluation.case import Case
from evaluation.judge import judge
from models import model_card, training_job
from models.bundle import Bundle
from models.learning import training
from models.learning.dataset import TrainingSet, split_windows
from models.network.config import RECIPES, Recipe, base, mini, recipe_for, small
from models.ranking.policy_registry import Exploration


@pytest.fixture(autouse=True)
def quick_recipe(monkeypatch: pytest.MonkeyPatch, quick: Recipe) -> None:
    monkeypatch.setitem(RECIPES, "quick", lambda: quick)


@pytest.fixture
def data(tastes: TrainingSet, write_training_set, tmp_path: Path) -> Path:
    return write_training_set(tastes, tmp_path / "set")


def lineage(bundle: Path, data: Path) -> str:
    gates = judge(Case.load(data, bundle)).verdicts
    return next(gate.verdict for gate in gates if gate.name == "lineage")


def test_a_training_keeps_to_what_it_declares(tastes: TrainingSet, data: Path, tmp_path: Path) -> None:
    windows = split_windows(tastes.times)
    folder = training_job.train_bundle(data, tmp_path / "bundles", "quick", seed=1)
    bundle = Bundle.load(folder)
    assert bundle.holdout_after_time == windows.validate_upto >= bundle.trained_upto_time > windows.train_upto
    assert lineage(folder, data) == "pass"
    tuned_folder = training_job.finetune_bundle(folder, data, tmp_path / "bundles", seed=1, hold_back=0.3)
    tuned, later = Bundle.load(tuned_folder), np.sort(tastes.times[tastes.times > bundle.holdout_after_time])
    assert tuned.holdout_after_time == pytest.approx(later[round(len(later) * 0.7) - 1], abs=1_000_000)
    assert tuned.holdout_after_time >= tuned.trained_upto_time > bundle.trained_upto_time
    assert lineage(tuned_folder, data) == "pass"


def test_a_training_that_reads_further_than_it_declares_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = training.learnable
    monkeypatch.setattr(training, "learnable", lambda training_set, upto: honest(training_set, upto + 20_000_000))
    folder = training_job.train_bundle(data, tmp_path / "bundles", "quick", seed=1)
    bundle = Bundle.load(folder)
    assert bundle.trained_upto_time > bundle.holdout_after_time
    assert lineage(folder, data) == "fail"


def test_a_model_draws_by_the_policy_that_was_chosen_and_so_does_what_is_tuned_from_it(
    data: Path, tmp_path: Path
) -> None:
    bundles, chosen = tmp_path / "bundles", Exploration("thompson", budget=7, days=2.0, least_quality=0.5)
    folder = training_job.train_bundle(data, bundles, "quick", seed=1, exploration=chosen)
    bundle = Bundle.load(folder)
    assert bundle.policy == chosen.of(tuple(bundle.hybrid.source_weights))
    assert (bundle.policy.budget, bundle.policy.days) == (7, 2.0)
    assert set(bundle.policy.features) == set(bundle.hybrid.source_weights)
    assert training_job.train_bundle(data, bundles, "quick", seed=1) != folder, "another policy is another bundle"
    tuned = Bundle.load(training_job.finetune_bundle(folder, data, bundles, seed=1, hold_back=0.3))
    assert tuned.policy == chosen.of(tuple(tuned.hybrid.source_weights))


def test_a_policy_that_learns_is_given_reactions_up_to_the_hold_out(
    tastes: TrainingSet, data: Path, tmp_path: Path
) -> None:
    bundles, asked = tmp_path / "bundles", []

    def gather(upto: int, moment: int) -> Path:
        """Slates of five in which what the mix trusts most praises is liked, what the last source praises is not."""
        assert upto == tastes.window["last_position"]
        asked.append(moment)
        random = np.random.default_rng(len(asked))
        features_RF = random.uniform(-1.0, 1.0, (2_000, len(sources)))
        worth_R = features_RF[:, strongest] - 0.5 * features_RF[:, -1] + random.normal(0.0, 0.3, 2_000)
        frame = pd.DataFrame({"slate_id": np.repeat(np.arange(400), 5).astype(str), "rank": np.tile(range(1, 6), 400)})
        users = np.repeat([f"u{number % 50}" for number in range(400)], 5)
        frame = frame.assign(user_id=users, event_timestamp=0, reward=np.clip((worth_R + 1.5) / 3.0, 0.0, 1.0))
        frame = frame.assign(sources=[list(sources)] * 2_000, features=features_RF.tolist())
        frame.to_parquet(tmp_path / f"reactions-{len(asked)}.parquet")
        return tmp_path / f"reactions-{len(asked)}.parquet"

    plain = Bundle.load(training_job.train_bundle(data, bundles, "quick", seed=1, gather=gather))
    sources = tuple(plain.hybrid.source_weights)
    strongest = int(np.argmax(list(plain.hybrid.source_weights.values())))
    assert strongest < len(sources) - 1
    assert asked == [], "plackett-luce learns nothing"
    chosen = Exploration("thompson", least_quality=0.5)
    folder = training_job.train_bundle(data, bundles, "quick", seed=1, exploration=chosen, gather=gather)
    learned, prior = Bundle.load(folder), chosen.of(sources)
    assert learned.policy.inner.posterior.mean != prior.inner.posterior.mean
    assert asked == [learned.holdout_after_time], "what the gates judge on taught nothing"
    tuned = Bundle.load(training_job.finetune_bundle(folder, data, bundles, seed=1, hold_back=0.3, gather=gather))
    assert asked == [learned.holdout_after_time, tuned.holdout_after_time]
    assert tuned.policy.least_quality == 0.5
    assert tuned.policy.inner.posterior not in (prior.inner.posterior, learned.policy.inner.posterior)


def test_figures_at_earlier_moments_join_the_report_and_the_card(data: Path, tmp_path: Path) -> None:
    bundle = training_job.train_bundle(data, tmp_path / "bundles", "quick", 0)
    origins.cross_validate(data, bundle, "quick", 0, 2)
    report = json.loads(training_job.report_file(bundle).read_text())
    assert len(report["origins"]) == 2
    assert {"ndcg@10", "ndcg@10 sd"} <= report["cross_validation"]["model"].keys()
    assert "At earlier moments" in model_card.render({}, report, None)


def test_the_data_chooses_the_recipe() -> None:
    demo, shop, films, streams = (
        recipe_for(events, length, has_accelerator=False)
        for events, length in ((80_000, 480), (150_000, 9), (1_000_000, 530), (10_000_000, 60))
    )
    assert demo == mini()
    assert (shop.name, shop.network.context, shop.batch) == ("mini", 16, 36)
    assert films == small()
    assert (streams.name, streams.network.context, streams.epochs) == ("small", 64, 3)
    assert streams.batch * streams.network.context == small().batch * small().network.context
    assert recipe_for(1_000_000, 530, has_accelerator=True) == base()
    assert recipe_for(1, 1, has_accelerator=True).network.context == 16


def test_a_bundle_is_named_by_the_recipe_that_auto_chose(
    data: Path, tmp_path: Path, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles, chosen = tmp_path / "bundles", [quick, replace(quick, epochs=1)]  # as on a machine and on another
    monkeypatch.setattr(training_job, "recipe_for", lambda *given: chosen[0])
    first = training_job.train_bundle(data, bundles, "auto", seed=1)
    assert training_job.train_bundle(data, bundles, "quick", seed=1) == first
    chosen.pop(0)
    assert training_job.train_bundle(data, bundles, "auto", seed=1) != first
