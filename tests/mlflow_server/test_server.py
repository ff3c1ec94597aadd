"""The real server: who may do what, under which names it answers, and where it keeps things."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import SecretStr
from werkzeug.security import check_password_hash

from attune.errors import ConfigError
from attune.settings import Settings
from mlflow_server import pages, server
from mlflow_server import users as people_module
from mlflow_server.users import MODEL, People
from models import registry, tracking

PASSWORD = "a long night's journey"


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Settings], str], port: Callable[[], int]
) -> Settings:
    """The settings of a server in production, which asks for passwords; its folder has an awkward name."""
    settings = Settings(
        var=tmp_path_factory.mktemp("100%"),
        profile="production",
        mlflow_port=port(),
        mlflow_hosts="registry.example.org",
        mlflow_auth=True,
        mlflow_username="the%root",
        mlflow_password=SecretStr(PASSWORD),
        mlflow_secret_key=SecretStr("5f2e0a4dd0cf4b7f9e0c"),
    )
    serve(settings)
    return settings


@pytest.fixture
def people(guarded: Settings) -> People:
    return People(guarded)


@pytest.fixture
def as_person(guarded: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], MlflowClient]:
    """MLflow's client of somebody."""
    url = f"http://127.0.0.1:{guarded.mlflow_port}"

    def client(name: str, password: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        return MlflowClient(url, url)

    return client


def test_a_reader_reads_and_an_editor_writes(
    people: People, as_person: Callable[[str, str], MlflowClient], tmp_path: Path
) -> None:
    people.add("ann", "reader", "reading all day long")
    people.add("bob", "editor", "writing all night long")
    bob = as_person("bob", "writing all night long")
    experiment = bob.get_experiment_by_name("attune")
    assert experiment is not None
    run = bob.create_run(experiment.experiment_id)
    bob.log_metric(run.info.run_id, "ndcg_at_10", 0.25)
    bob.log_text(run.info.run_id, "what it is", "card.md")

    ann = as_person("ann", "reading all day long")
    assert ann.get_run(run.info.run_id).data.metrics == {"ndcg_at_10": 0.25}
    assert Path(ann.download_artifacts(run.info.run_id, "card.md", str(tmp_path))).read_text() == "what it is"
    for refused in (
        lambda: ann.create_run(experiment.experiment_id),
        lambda: ann.log_metric(run.info.run_id, "ndcg_at_10", 1.0),
        lambda: ann.log_text(run.info.run_id, "another", "card.md"),
        lambda: ann.delete_run(run.info.run_id),
    ):
        with pytest.raises((MlflowException, OSError), match="403"):
            refused()


def test_editors_write_what_the_registry_writes() -> None:
    assert (people_module.EXPERIMENT, MODEL) == (tracking.EXPERIMENT, registry.MODEL)


def test_only_admins_and_editors_change_versions_and_only_admins_remove_them(
    people: People, as_person: Callable[[str, str], MlflowClient]
) -> None:
    people.add("eve", "admin", "ruling all day long")
    eve = as_person("eve", "ruling all day long")
    eve.create_registered_model(MODEL)
    people.add("ann", "reader", "reading all day long")
    people.add("bob", "editor", "writing all night long")
    bob = as_person("bob", "writing all night long")
    experiment = bob.get_experiment_by_name("attune")
    assert experiment is not None
    run = bob.create_run(experiment.experiment_id).info
    version = bob.create_model_version(MODEL, f"{run.artifact_uri}/model", run.run_id, await_creation_for=0).version
    bob.set_registered_model_alias(MODEL, "challenger", version)
    with pytest.raises(MlflowException, match="403"):
        bob.delete_model_version(MODEL, version)
    ann = as_person("ann", "reading all day long")
    assert ann.get_registered_model(MODEL).aliases == {"challenger": version}
    with pytest.raises(MlflowException, match="403"):
        ann.set_registered_model_alias(MODEL, "champion", version)
    as_person("eve", "ruling all day long").delete_model_version(MODEL, version)


def test_a_person_who_is_added_again_has_the_new_role_and_password_at_once(
    people: People, as_person: Callable[[str, str], MlflowClient]
) -> None:
    people.add("cleo", "editor", "writing all night long")
    cleo = as_person("cleo", "writing all night long")
    experiment = cleo.get_experiment_by_name("attune")
    assert experiment is not None
    cleo.create_run(experiment.experiment_id)
    people.add("cleo", "reader", "reading all day long")
    with pytest.raises(MlflowException, match="401"):
        as_person("cleo", "writing all night long").get_experiment("1")
    with pytest.raises(MlflowException, match="403"):
        as_person("cleo", "reading all day long").create_run(experiment.experiment_id)


def test_people_are_added_and_removed_from_the_command_line(
    guarded: Settings, as_person: Callable[[str, str], MlflowClient]
) -> None:
    def run(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "mlflow_server.users", *words]
        told = {**os.environ, **guarded.as_environment()}
        return subprocess.run(line, env=told, input=said, capture_output=True, text=True, check=False)

    added = run("add", "dan", "reader", said="reading all day long\n")
    assert (added.returncode, added.stdout, added.stderr) == (0, "dan may log in as reader\n", "")
    as_person("dan", "reading all day long").get_experiment("0")
    assert run("remove", "dan").returncode == 0
    with pytest.raises(MlflowException, match="401"):
        as_person("dan", "reading all day long").get_experiment("0")


def test_the_own_user_stays_and_an_unknown_person_is_named(people: People) -> None:
    with pytest.raises(ConfigError, match="ATTUNE_MLFLOW_USERNAME"):
        people.remove("the%root")
    with pytest.raises(ConfigError, match="nobody-here"):
        people.remove("nobody-here")
    with pytest.raises(ConfigError, match="dan's password"):
        people.add("dan", "reader", "password1234")


def test_the_own_user_has_the_password_of_the_settings_also_after_a_change(guarded: Settings, tmp_path: Path) -> None:
    changed = guarded.model_copy(update={"var": tmp_path, "mlflow_password": SecretStr("a longer day's journey")})
    changed.mlflow_folder.mkdir()
    shutil.copy(server.people_file(guarded), server.people_file(changed))
    for _ in range(2):
        server.prepare_login(changed)
        with closing(sqlite3.connect(server.people_file(changed))) as connection:
            (kept,) = connection.execute(server.HASH, ("the%root",)).fetchone()
        assert check_password_hash(kept, "a longer day's journey")
    server.people_file(changed).write_text("no database " * 1000)
    with pytest.raises(ConfigError, match="add everybody again"):
        server.prepare_login(changed)


def test_without_a_password_or_under_another_name_nothing_is_answered(guarded: Settings) -> None:
    url = f"http://127.0.0.1:{guarded.mlflow_port}/api/2.0/mlflow/experiments/get?experiment_id=0"
    own = httpx.BasicAuth("the%root", PASSWORD)
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, auth=own).status_code == 200
    assert httpx.get(url, auth=own, headers={"Host": "registry.example.org"}).status_code == 200
    assert httpx.get(url, auth=own, headers={"Host": "evil.example.org"}).status_code == 403


def test_the_pages_open_on_model_training_also_for_a_browser_that_holds_an_older_start_page(guarded: Settings) -> None:
    url, person = f"http://127.0.0.1:{guarded.mlflow_port}", (guarded.mlflow_username, PASSWORD)
    first = httpx.get(url, auth=person)
    again = httpx.get(url, auth=person, headers={"If-None-Match": first.headers.get("etag", "*")})
    for page in (first, again):
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f"<head>{pages.SCRIPT}" in page.text
        assert page.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(url).status_code == 401
    scripts = re.findall(r'src="(.*?main.*?[.]js)"', first.text)
    bundle = httpx.get(f"{url}/{scripts[0]}", auth=person).text
    assert all(word in bundle for word in ('"mlflow.workflowType"', f'"{pages.TRAINING}"'))  # this MLflow's own names


def test_no_secret_stands_in_the_list_of_processes(guarded: Settings) -> None:
    lines = [" ".join(one.cmdline()) for one in psutil.Process().children(recursive=True) if one.is_running()]
    of_server = [line for line in lines if str(guarded.mlflow_port) in line]
    assert of_server
    assert not any(PASSWORD in line or "5f2e0a4dd0cf4b7f9e0c" in line for line in of_server)


def test_a_server_on_postgresql_keeps_runs_there_and_artifacts_in_the_folder_named(
    tmp_path: Path, serve: Callable[[Settings], str], port: Callable[[], int], postgres: Callable[[str], str]
) -> None:
    settings = Settings(
        var=tmp_path,
        mlflow_port=port(),
        mlflow_database_url=postgres("mlflow"),
        mlflow_artifacts=str(tmp_path / "files"),
    )
    url = serve(settings)
    client = MlflowClient(url, url)
    run = client.create_run("0")
    client.log_text(run.info.run_id, "what it is", "card.md")
    assert [path.name for path in (tmp_path / "files").rglob("*.md")] == ["card.md"]
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()


@pytest.mark.long
def test_artifacts_in_an_object_store_reach_clients_through_the_server(
    tmp_path: Path,
    serve: Callable[[Settings], str],
    port: Callable[[], int],
    object_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(var=tmp_path / "var", mlflow_port=port(), mlflow_artifacts=object_store)
    url = serve(settings)
    bucket = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name)  # clients need no keys
    client = MlflowClient(url, url)
    run = client.create_run("0").info.run_id
    client.log_text(run, "what it is", "card.md")
    assert Path(client.download_artifacts(run, "card.md", str(tmp_path))).read_text() == "what it is"
    (stored,) = bucket.list_objects_v2(Bucket="models")["Contents"]
    assert stored["Key"].startswith("attune/")
    assert stored["Key"].endswith("card.md")
