"""The registry over a real MLflow server: versions, bundles, gates, and aliases that follow the truth."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from attune.clock import DAY, system_clock
from attune.errors import ModelError, VersionLost
from attune.promotions import bundle_name
from evaluation.case import Case, CaseLimits
from evaluation.judge import judge
from infra.demo import spoil
from models.bundle import MANIFEST, Bundle
from models.registry import MODEL, Registry

REPORT = {
    "parameters": 1234,
    "recipe": {"name": "by hand"},
    "chosen": {"item-knn": {"history": 10, "slope": 0.5}},
    "epochs": [{"epoch": 0, "loss": None, "ndcg@10": 0.1}, {"epoch": 1, "loss": 1.5, "ndcg@10": 0.12}],
    "validation": {"hybrid": {"ndcg@10": 0.2, "objective": 0.4}, "item-knn": {"ndcg@10": 0.19, "objective": 0.3}},
    "ablation": {"without user_stats": {"ndcg@10": 0.18}},
    "tried": [{"slope": 0.25}],
}


@dataclass(frozen=True)
class Row:
    version: str
    previous: str | None
    bundle_digest: str | None = None


@pytest.fixture(scope="module")
def registry(mlflow_url: str) -> Registry:
    return Registry(mlflow_url)


@pytest.fixture(scope="module")
def versions(registry: Registry, bundle_folder: Path) -> list[str]:
    """Four versions of one bundle."""
    first = registry.register(bundle_folder, REPORT)
    return [first, *(registry.register(bundle_folder, REPORT, parent=first, tags={"why": "test"}) for _ in range(3))]


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(mlflow_url, mlflow_url)


def test_a_registry_without_versions(registry: Registry) -> None:
    assert registry.aliases() == {}
    assert registry.project(None) == []
    with pytest.raises(ModelError, match="challenger"):
        registry.challenger()


def test_a_version_says_where_it_comes_from(registry, versions, client, bundle_folder, planted) -> None:
    assert versions == ["1", "2", "3", "4"]
    assert [row["version"] for row in registry.versions()] == ["4", "3", "2", "1"]
    found = client.get_model_version(MODEL, "2")
    assert found.tags["parent"] == "1"
    assert found.tags["why"] == "test"
    assert found.tags["window_digest"] == planted.window["digest"]
    assert found.tags["feature_service"] == "training_v1"
    assert found.tags["git_commit"] != ""
    assert found.tags["trained_upto"] == str(Bundle.load(bundle_folder).trained_upto)
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.info.run_name == f"v2 {Bundle.load(bundle_folder).config['recipe']['name']}, fine-tuned from v1"
    assert {name: run.data.tags[name] for name in found.tags} == found.tags  # so that the runs table shows them
    assert run.data.tags["version"] == "2"
    assert run.data.tags["mlflow.note.content"] == found.description
    assert "epoch/epoch" not in run.data.metrics
    assert run.data.params["parameters"] == "1234"
    assert run.data.params["chosen.item-knn.history"] == "10"
    assert run.data.params["recipe.name"] == "by hand"
    assert not {"window.digest", "model.item-knn.history", "mix.network", "git_commit"} & set(run.data.params)
    assert run.data.metrics["validation/hybrid/ndcg_at_10"] == 0.2
    history = client.get_metric_history(found.run_id, "epoch/ndcg_at_10")
    assert [(point.step, point.value) for point in history] == [(0, 0.1), (1, 0.12)]
    assert run.inputs.dataset_inputs[0].dataset.digest == planted.window["digest"][:36]
    assert json.loads(run.inputs.dataset_inputs[0].dataset.profile)["num_rows"] == planted.window["rows"]


def test_what_is_recorded_of_many_versions_is_read_at_once(registry, versions) -> None:
    rows = registry.versions()
    found = registry.recorded([row["run_id"] for row in rows] + ["0" * 32])
    assert set(found) == {row["run_id"] for row in rows}
    params, metrics = found[rows[-1]["run_id"]]
    assert params["recipe.name"] == "by hand"
    assert metrics["validation/hybrid/ndcg_at_10"] == 0.2
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    assert rows[0]["created_at"] > 1_600_000_000_000_000
    assert registry.recorded([]) == {}


def test_the_model_card_is_whole_as_an_artifact_and_short_as_the_description(
    registry, versions, client, tmp_path
) -> None:
    found = client.get_model_version(MODEL, "1")
    card = Path(client.download_artifacts(found.run_id, "model_card.md", str(tmp_path))).read_text()
    assert "# attune-recommender" in card
    assert "| item-knn | 0.1900 | 0.3000 |" in card
    assert "Everything that decided it" in card
    assert len(found.description) <= 5_000
    assert found.description[:200] == card[:200]
    assert "Everything that decided it" not in found.description


def test_the_artifact_is_the_bundle_with_signature_and_example(versions, client, bundle_folder, tmp_path) -> None:
    run_id = client.get_model_version(MODEL, "1").run_id
    folder = Path(client.download_artifacts(run_id, "model", str(tmp_path)))
    inside = folder / "data" / bundle_folder.name
    assert (inside / MANIFEST).read_bytes() == (bundle_folder / MANIFEST).read_bytes()
    described = (folder / "MLmodel").read_text()
    assert "loader_module: models.pyfunc" in described
    assert '"name": "history"' in described
    assert "input_example.json" in described
    assert not list(folder.rglob("*.pkl"))
    assert "\ntorch==2.13.0\n" in (folder / "requirements.txt").read_text()


def test_a_bundle_is_found_again(registry, versions, bundle_folder, tmp_path) -> None:
    assert registry.find(bundle_folder) == "4"
    assert registry.find(spoil(bundle_folder, tmp_path / "other")) is None


def test_a_download_is_the_bundle_fetched_once(registry, versions, bundle_folder, tmp_path) -> None:
    folder = registry.download("1", tmp_path / "bundles")
    bundle_digest = Bundle.load(bundle_folder).digest
    assert folder == tmp_path / "bundles" / bundle_name("1", bundle_digest)
    assert Bundle.load(folder).digest == bundle_digest
    stamp = (folder / MANIFEST).stat().st_mtime_ns
    assert registry.download("1", tmp_path / "bundles") == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == stamp
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    away = Registry("http://127.0.0.1:9")
    assert away.download("1", tmp_path / "bundles", bundle_digest) == folder, "what is meant is there: nobody is asked"


def test_another_bundle_under_the_number_of_a_promoted_one_is_refused(registry, versions, tmp_path) -> None:
    with pytest.raises(VersionLost, match=r"not the bundle that was promoted.*attune restore"):
        registry.download("1", tmp_path, "0" * 64)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_altered_is_replaced(registry, versions, tmp_path) -> None:
    folder = registry.download("1", tmp_path)
    Bundle.load(folder)
    (folder / "items.json").write_text("{}")
    Bundle.load(registry.download("1", tmp_path))


def test_an_unknown_version_and_a_dead_server_are_model_errors(registry, versions, tmp_path, monkeypatch) -> None:
    with pytest.raises(ModelError, match="version 99"):
        registry.download("99", tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9"):
        Registry("http://127.0.0.1:9").aliases()


def test_an_altered_bundle_is_not_registered(registry, bundle_folder, tmp_path) -> None:
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "copy"))
    (copy / "items.json").write_text("{}")
    with pytest.raises(ModelError, match=r"items\.json"):
        registry.register(copy, REPORT)


def test_gates_are_recorded_on_the_version(registry, versions, client, bundle_folder, planted, tmp_path) -> None:
    judgement = judge(Case.load(planted, bundle_folder, limits=CaseLimits(min_users=100)))
    registry.record_gates("3", judgement)
    found = client.get_model_version(MODEL, "3")
    assert found.tags["gate.parity"] == "pass"
    assert (found.tags["accepted"], found.tags["decision"]) == ("false", "undecided")
    text = Path(client.download_artifacts(found.run_id, "gates.json", str(tmp_path))).read_text()
    assert json.loads(text) == judgement.as_dict()
    assert "gates.md" in [file.path for file in client.list_artifacts(found.run_id)]
    run = client.get_run(found.run_id)
    assert run.data.tags["gate.parity"] == "pass"
    assert run.data.tags["accepted"] == "false"
    files = {file.path for file in client.list_artifacts(found.run_id) if file.path.endswith(".png")}
    pictures = {"learning", "gates", "rolling_hr_at_10", "calibration"}
    assert files == {f"{name}.png" for name in pictures}  # MLflow compares no files in folders
    assert run.data.tags["mlflow.note.content"] == found.description
    assert "## Judged: undecided (beats_popularity)" in found.description
    registry.record_gates("3", judgement)
    assert client.get_model_version(MODEL, "3").description == found.description


def test_the_pictures_of_a_page_are_where_mlflows_own_pages_fetch_them(registry, versions, client, mlflow_url) -> None:
    (address,) = re.findall(r"\]\((get-artifact.*?)\)", client.get_model_version(MODEL, "1").description)
    answer = httpx.get(f"{mlflow_url}/{address}")
    assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")


def test_figures_of_the_gates_are_metrics(registry, versions, client, bundle_folder, planted) -> None:
    judgement = judge(Case.load(planted, bundle_folder))
    registry.record_gates("4", judgement)
    run = client.get_run(client.get_model_version(MODEL, "4").run_id)
    metrics = run.data.metrics
    assert metrics["holdout/all/ndcg_at_10"] == judgement.metrics["all"]["ndcg@10"]
    assert metrics["gate/parity"] == judgement.verdicts[-2].measured


def test_aliases_follow_the_promotions(registry, versions) -> None:
    registry.point_challenger("1")
    assert registry.challenger() == "1"
    assert registry.project(Row("1", None)) == []
    assert registry.aliases() == {"champion": "1"}
    registry.point_challenger("2")
    assert registry.project(Row("2", "1")) == []
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    assert registry.project(Row("1", "2")) == []  # a roll-back
    assert registry.aliases() == {"champion": "1", "previous": "2"}
    assert registry.project(Row("2", "1")) == []


def test_an_alias_moved_by_hand_goes_back_and_its_version_becomes_the_challenger(registry, versions, client) -> None:
    registry.project(Row("2", "1"))
    client.set_registered_model_alias(MODEL, "champion", "3")
    (corrected,) = registry.project(Row("2", "1"))
    assert "champion" in corrected
    assert "3" in corrected
    assert registry.aliases() == {"champion": "2", "previous": "1", "challenger": "3"}
    client.set_registered_model_alias(MODEL, "champion", "1")  # by hand to the previous one: moved, not lagging
    assert len(registry.project(Row("2", "1"))) == 1
    assert registry.challenger() == "1"
    client.delete_registered_model_alias(MODEL, "previous")
    assert len(registry.project(Row("2", "1"))) == 1
    assert registry.aliases() == {"champion": "2", "previous": "1", "challenger": "1"}


def test_a_promoted_version_that_the_registry_lost_has_no_alias_and_it_is_said(registry, versions, client) -> None:
    registry.project(Row("2", "1"))
    (said,) = registry.project(Row("2", "99", "0" * 64))
    assert "not the bundle that was promoted" in said
    assert not {"champion", "previous"} & registry.aliases().keys()
    bundle_digest = client.get_model_version(MODEL, "2").tags["bundle_digest"]
    assert registry.project(Row("2", "1", bundle_digest)) == []
    assert {"champion": "2", "previous": "1"}.items() <= registry.aliases().items()


def test_an_alias_set_before_any_promotion_is_taken_away(registry, versions, client) -> None:
    registry.project(None)
    client.set_registered_model_alias(MODEL, "champion", "4")
    assert len(registry.project(None)) == 1
    assert registry.aliases() == {"challenger": "4"}


def test_mlflow_loads_the_champion_by_its_alias(registry, versions, mlflow_url, monkeypatch) -> None:
    registry.project(Row("2", "1"))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)  # set_tracking_uri writes it, and nobody would take it back
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_url)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
        answer = model.predict(pd.DataFrame({"history": ['[{"item_id": "c1-00", "kind": "like"}]', "[]"]}))
    finally:
        mlflow.set_tracking_uri(before)
    assert [len(json.loads(text)) for text in answer["items"]] == [10, 10]


def test_old_versions_are_removed_with_all_that_is_theirs(
    registry, versions, client, bundle_folder, mlflow_url, mlflow_folder, tmp_path
) -> None:
    registry.project(Row("1", None))
    registry.point_challenger("2")
    run_of = {version: client.get_model_version(MODEL, version).run_id for version in versions}
    twin = client.create_model_version(MODEL, f"runs:/{run_of['4']}/model", run_of["4"])
    last = registry.register(bundle_folder, REPORT)
    assert registry.retire(set(), 30, 1) == []  # all are young
    later = Registry(mlflow_url, clock=lambda: system_clock() + 31 * DAY)
    assert later.retire({"3"}, 30, 1) == ["4"]
    assert registry.download("1", tmp_path).exists()
    assert [row["version"] for row in registry.versions()] == [last, twin.version, "3", "2", "1"]
    assert client.list_artifacts(run_of["4"])  # the twin was made by hand and keeps its run
    assert later.retire(set(), 30, 1) == ["3"]
    assert later.retire(set(), 30, 1) == []
    assert not list(mlflow_folder.rglob(f"{run_of['3']}/artifacts/*"))
    assert list(mlflow_folder.rglob(f"{run_of['1']}/artifacts/*"))
    assert client.get_run(run_of["3"]).info.lifecycle_stage == "deleted"


def test_a_removal_that_was_cut_short_is_done_by_the_next(registry, client, bundle_folder, mlflow_url) -> None:
    version = registry.register(bundle_folder, REPORT)
    registry.register(bundle_folder, REPORT)
    registry.runs.remove(client.get_model_version(MODEL, version).run_id)
    later = Registry(mlflow_url, clock=lambda: system_clock() + 31 * DAY)
    assert version in later.retire(set(), 30, 1)
    assert version not in [row["version"] for row in registry.versions()]


def test_a_benchmark_is_a_run_of_its_own_with_its_pictures(registry: Registry, client, tmp_path: Path) -> None:
    picture = tmp_path / "replay-demo.png"
    picture.write_bytes(b"\x89PNG")
    figures = [{"name": "demo, live over frozen, times HR@10", "value": 7.3, "limit": 2.0, "holds": True, "note": ""}]
    found = {"bench": "replay", "command": "attune bench replay --mlflow", "commit": "0" * 40, "figures": figures}
    run = client.get_run(registry.record_bench(found, [picture]))
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"demo_ live over frozen_ times HR_at_10": 7.3}
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"record.json", "replay-demo.png"}
    assert json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/record.json")) == found
    assert client.get_experiment(run.info.experiment_id).name == "attune-bench"
