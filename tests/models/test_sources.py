"""What is registered by name: a source of one's own joins the hybrid; unknown names are refused with the known ones."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from model_worlds import three_parts

from attune.errors import BundleError, ConfigError
from attune.user_state import UserState
from models.bundle import CONFIG, FILES, FORMAT, Bundle, Provenance, golden_batch, open_sealed, save_bundle, seal
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.learning import fit
from models.learning.dataset import TrainingSet
from models.learning.finetuning import finetune
from models.learning.training import Trained, learnable, train
from models.metrics import SLICES, Evaluation, coverage, values
from models.network.config import RECIPES, Recipe, recipe_named
from models.ranking.policy import PlackettLuce
from models.recommender import Request, recommend
from models.sources import QUOTAS, SOURCES, SourceKind


@dataclass(frozen=True)
class Rarity:
    """Scores items by how seldom they were used."""

    rarity_N: np.ndarray
    name: str = "rarity"

    @staticmethod
    def of(training_set: TrainingSet) -> "Rarity":
        uses_N = np.bincount(training_set.items, minlength=len(training_set.catalogue))
        return Rarity((1.0 / (1.0 + uses_N)).astype(np.float32))

    @staticmethod
    def choose(learned, recipe, measure):
        rarity = Rarity.of(learned)
        return rarity, [{"objective": measure(rarity)}]

    @staticmethod
    def restore(settings, tensors) -> "Rarity":
        return Rarity(tensors["rarity_N"], **settings)

    def refit(self, known: TrainingSet) -> "Rarity":
        return Rarity.of(known)

    @property
    def shared_N(self) -> None:
        return None

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        return np.repeat(self.rarity_N[None], len(batch), axis=0)

    def extended(self, more: Catalogue) -> "Rarity":
        return replace(self, rarity_N=np.concatenate([self.rarity_N, np.ones(len(more), np.float32)]))

    def settings(self) -> dict:
        return {}

    def tensors(self) -> dict[str, np.ndarray]:
        return {"rarity_N": self.rarity_N}


@pytest.fixture
def with_rarity() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "rarity", SourceKind(4, Rarity.choose, Rarity.restore))
        patch.setitem(QUOTAS, "rarity", 4)
        yield


@pytest.fixture
def brief(quick: Recipe) -> Recipe:
    return replace(quick, epochs=1, finetune_epochs=1, mix_step=0.5)


def saved(trained: Trained, training_set: TrainingSet, folder: Path) -> Path:
    provenance = Provenance({"name": "by hand"}, training_set.window, trained.trained_upto, trained.trained_upto, 0, 0)
    golden = golden_batch(training_set, trained.trained_upto_time, trained.catalogue)
    return save_bundle(folder, trained.hybrid, trained.catalogue, PlackettLuce(), provenance, golden)


def test_a_source_joins_by_its_class_and_its_line(
    with_rarity: None, tastes: TrainingSet, brief: Recipe, tmp_path: Path
) -> None:
    last = int(tastes.times.max())
    trained = train(tastes, brief, int(last * 0.7), int(last * 0.85), seed=1)
    names = ("network", "item-knn", "popularity", "ease", "latest", "rarity")
    assert set(trained.report["validation"]) == {*names, "hybrid"}
    assert "rarity" in trained.report["tried"]
    assert all(sum(row[name] for name in names) == pytest.approx(1.0) for row in trained.report["tried"]["weights"])

    parts = three_parts(trained.hybrid)
    parts = replace(parts, others=(*parts.others, Rarity.of(tastes)), weights=(0.4, 0.2, 0.2, 0.2))
    weighted = replace(trained, hybrid=parts)
    bundle = Bundle.load(saved(weighted, tastes, tmp_path / "bundle"))
    assert bundle.golden_difference() < 1e-5
    assert bundle.config["mix"]["rarity"] == 0.2
    slate = recommend(bundle, UserState("new", 0, (), ()), None, Request(3, 1, seed=0))
    assert len(slate.shown) == 3
    assert "rarity" in bundle.hybrid.sources(
        golden_batch(tastes, last, tastes.catalogue), np.zeros((8, 16), np.float32)
    )

    tuned = finetune(bundle, tastes, brief, last, seed=2)
    assert tuned.hybrid.names == ("network", "item-knn", "popularity", "rarity")
    assert (
        tuned.hybrid.others[-1].tensors()["rarity_N"].tolist() == Rarity.of(learnable(tastes, last)).rarity_N.tolist()
    )


def test_bundles_of_before_a_source_load_as_they_are(bundle_folder: Path, planted: TrainingSet, cut: int) -> None:
    batch = golden_batch(planted, cut, planted.catalogue)
    before = Bundle.load(bundle_folder).hybrid.scores(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "rarity", SourceKind(4, Rarity.choose, Rarity.restore))
        bundle = Bundle.load(bundle_folder)
    assert bundle.hybrid.names == ("network", "item-knn", "popularity")
    assert bundle.hybrid.scores(batch).tobytes() == before.tobytes()


def test_a_bundle_with_an_unknown_source_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    files = open_sealed(bundle_folder, FORMAT, FILES)
    config = json.loads(files[CONFIG])
    config["model"]["item-knnn"] = {}
    seal(tmp_path / "other", FORMAT, {**files, CONFIG: json.dumps(config).encode()})
    with pytest.raises(BundleError, match=r"unknown sources.*item-knnn.*this version knows item-knn, popularity"):
        Bundle.load(tmp_path / "other")


def test_a_misspelt_loss_is_refused_when_the_recipe_is_made(quick: Recipe) -> None:
    with pytest.raises(ConfigError, match="no loss 'samplde': choose one of sampled, full"):
        replace(quick, loss="samplde")
    with pytest.raises(ConfigError, match="no loss 'softmax'"):
        Recipe.from_dict({**quick.as_dict(), "loss": "softmax"})


def test_a_loss_joins_by_its_line(tastes: TrainingSet, brief: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(states_QD, items_ND, bias_N, targets_Q, sample):
        calls.append(len(targets_Q))
        return fit.full_softmax(states_QD, items_ND, bias_N, targets_Q, sample)

    monkeypatch.setitem(fit.LOSSES, "counted", fit.Loss(counted, samples=False))
    last = int(tastes.times.max())
    train(tastes, replace(brief, loss="counted"), int(last * 0.7), int(last * 0.85), seed=1)
    assert calls


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="no recipe 'tinny': choose one of tiny, mini, small, base"):
        recipe_named("tinny")
    assert [recipe_named(name).name for name in RECIPES] == list(RECIPES)


def test_an_unknown_slice_is_refused() -> None:
    evaluation = Evaluation("any", None, None, np.zeros((0, 10)), 1, 0, 0, 0, 0.0)  # type: ignore[arg-type]
    for figure in (lambda: values(evaluation, "hr@10", "positiv"), lambda: coverage(evaluation, "positiv")):
        with pytest.raises(ValueError, match=f"unknown slice 'positiv': one of .*{SLICES[1]}"):
            figure()
