"""The platform as a person starts it: `attune up` on a folder of its own, then everything over its real servers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attune.client import Client
from attune.event_log import EventLog
from attune.settings import Settings
from infra.platform import addresses, doctor
from infra.platform.parts import parts as platform_parts
from infra.platform.supervisor import Supervisor

BIN = Path(sys.executable).parent
PORTS = {f"ATTUNE_{name}_PORT": "0" for name in ("PREFECT", "MLFLOW", "SERVING", "WORKER")}
LONG_ENOUGH = 120.0


@dataclass(frozen=True)
class Shell:
    """Runs commands as a person would, with one environment."""

    environment: dict[str, str]
    folder: Path

    def attune(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """One command with --json; what it printed."""
        done = self.run([str(BIN / "attune"), *arguments, "--json"])
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Any command."""
        return subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def bash(self, script: str) -> str:
        """A few lines of bash; what they printed."""
        done = self.run(["bash", "-ec", script])
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    @property
    def settings(self) -> Settings:
        """The settings with the addresses of the platform that runs."""
        found = addresses.running(Settings(var=Path(self.environment["ATTUNE_VAR"])))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, planted) -> Iterator[Shell]:
    """A folder with the planted world imported, and the platform up; down again afterwards, whatever happened."""
    folder = tmp_path_factory.mktemp("person")
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("ATTUNE_", "PREFECT_", "MLFLOW_"))}
    told = {"ATTUNE_VAR": str(folder / "var"), "ATTUNE_BATCH_EVENTS": "50", "ATTUNE_BATCH_SECONDS": "5", **PORTS}
    found = Shell({**outside, **told, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "160"}, folder)
    files = planted.write(folder)
    found.attune(
        *("import", "tabular", "--interactions", str(files["early"]), "--items", str(files["items"])),
        *("--map", "user_id=who,item_id=sku,event_timestamp=at,kind=what"),
        *("--items-map", "item_id=sku,title=name,genres=genre"),
    )
    both = [subprocess.Popen([str(BIN / "attune"), "up", "--json"], env=found.environment, cwd=folder) for _ in "ab"]
    try:
        assert [one.wait() for one in both] == [0, 0], "two at once: one starts it, the other finds it up"
        yield found
    finally:
        found.attune("down")
        assert members(found) == [], "nothing is left running"


@pytest.fixture(scope="module")
def champion(shell: Shell) -> Shell:
    """The platform with a version that was trained and promoted over its deployments, and answers."""
    assert shell.attune("train", "--recipe", "tiny")["version"] == "1"
    assert shell.attune("promote", "1", "--accept-undecided")["promoted"]
    with Client(f"http://127.0.0.1:{shell.settings.serving_port}") as client:
        until(lambda: client.model().version == "1")
    return shell


def members(shell: Shell) -> list[str]:
    """The processes that work on the shell's ``var``."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("ATTUNE_VAR") == shell.environment["ATTUNE_VAR"] and one.status() != "zombie":
                found.append(" ".join(one.cmdline()))
        except psutil.Error:
            continue
    return found


def until(true: Callable[[], Any], seconds: float = LONG_ENOUGH) -> Any:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s")


def all_ready(shell: Shell) -> bool:
    done = shell.run([str(BIN / "attune"), "status", "--json"])
    return done.returncode == 0


def test_every_part_is_ready_and_started_once(shell: Shell) -> None:
    parts = {one["name"]: one for one in shell.attune("status")["parts"]}
    assert list(parts) == [part.name for part in platform_parts(shell.settings)]
    assert {one["state"] for one in parts.values()} == {"ready"}
    assert shell.attune("up")["seconds"] == 0
    assert {one["name"]: one["pid"] for one in shell.attune("status")["parts"]} == {
        name: one["pid"] for name, one in parts.items()
    }
    assert sum("supervisord" in command for command in members(shell)) == 1


def test_the_doctor_finds_nothing_bad(shell: Shell) -> None:
    done = shell.run([str(BIN / "attune"), "doctor", "--json"])
    assert [one for one in json.loads(done.stdout)["findings"] if one["verdict"] == "bad"] == []
    assert done.returncode == 0


def test_the_doctor_checks_every_database(shell: Shell) -> None:
    var = shell.settings.var
    written = {path for path in var.rglob("*.db") if path.read_bytes().startswith(b"SQLite format 3")}
    assert written == {path for pattern in doctor.DATABASES for path in var.glob(pattern)}


def test_their_own_tools_show_this_platform(shell: Shell) -> None:
    shown = shell.bash('eval "$(attune env)"; prefect deployment ls; prefect automation ls')
    for name in ("ingest/ingest", "materialize/materialize", "finetune/finetune", "promote/promote", "backup/backup"):
        assert name in shown
    assert "crash runs that lost their heartbeat" in shown
    shown = shell.bash('eval "$(attune env)"; feast -c "$FEAST_REPO" feature-views list')
    for name in ("user_stats", "item_stats", "user_state"):
        assert name in shown


def test_train_and_promote_run_as_deployments(champion: Shell) -> None:
    shown = champion.bash('eval "$(attune env)"; mlflow experiments search; prefect flow-run ls --flow-name train')
    assert "attune" in shown
    assert "train" in shown
    with Client(f"http://127.0.0.1:{champion.settings.serving_port}") as client:
        assert client.model().version == "1"


def test_feedback_is_felt_over_the_command_line(champion: Shell) -> None:
    before = champion.attune("recommend", "p0", "--seed", "7")
    first = before["items"][0]["item_id"]
    champion.attune("feedback", "p0", first, "like", "--slate", before["slate_id"])
    after = champion.attune("recommend", "p0", "--seed", "7")
    assert first not in [one["item_id"] for one in after["items"]]


@pytest.mark.long
def test_new_events_start_a_fine_tune_by_themselves(champion: Shell, planted) -> None:
    files = planted.write(champion.folder)
    champion.attune(
        *("import", "tabular", "--interactions", str(files["later"])),
        *("--map", "user_id=who,item_id=sku,event_timestamp=at,kind=what"),
    )

    def second() -> dict[str, Any]:
        return next((one for one in champion.attune("versions")["versions"] if one["version"] == "2"), {})

    assert until(second)["parent"] == "1"
    until(lambda: second()["gates"])  # and what was registered was held against the gates by itself


@pytest.mark.long
def test_a_broken_batch_pauses_training_until_one_passes(champion: Shell) -> None:
    file = sorted(champion.settings.lake_folder.glob("day=*/*.parquet"))[0]
    whole = file.read_bytes()
    table = pq.read_table(file, partitioning=None)
    kinds = ["smuggled" if kind == "click" else kind for kind in table["kind"].to_pylist()]
    place = table.schema.get_field_index("kind")
    pq.write_table(table.set_column(place, "kind", pa.array(kinds, table.schema.field("kind").type)), file)
    validate = 'eval "$(attune env)"; prefect deployment run validate/validate -p after=0'
    paused = 'eval "$(attune env)"; prefect deployment inspect train/train --output json'
    champion.bash(validate)
    until(lambda: json.loads(champion.bash(paused))["paused"])
    file.write_bytes(whole)
    champion.bash(validate)
    until(lambda: not json.loads(champion.bash(paused))["paused"])


@pytest.mark.long
def test_a_backup_of_the_running_platform_serves_the_same_slates(champion: Shell) -> None:
    made = champion.attune("backup")
    told = {**champion.environment, "ATTUNE_VAR": str(champion.folder / "elsewhere")}
    there = Shell(told, champion.folder)
    there.attune("restore", made["folder"])
    arguments = ("recommend", "p1", "--seed", "3")
    here, restored = champion.attune(*arguments), there.attune(*arguments)
    assert here["model_version"] == restored["model_version"]
    assert [one["item_id"] for one in here["items"]] == [one["item_id"] for one in restored["items"]]


@pytest.mark.long
def test_it_survives_the_death_of_every_part(champion: Shell) -> None:
    """Every part is killed at once; what was acknowledged is there, and everything comes back by itself."""
    with Client(f"http://127.0.0.1:{champion.settings.serving_port}") as client:
        slate = client.recommend("p3", seed=1)
        client.feedback(slate.slate_id, "p3", slate.items[0].item_id, "like")
    with closing(EventLog(champion.settings.log_url)) as log:
        acknowledged = log.counts()["feedback"]
    killed = [one["pid"] for one in champion.attune("status")["parts"]]
    for reaper in killed:
        for child in psutil.Process(reaper).children():
            child.send_signal(signal.SIGKILL)
    until(lambda: all_ready(champion))
    assert not set(killed) & {one["pid"] for one in champion.attune("status")["parts"]}
    with closing(EventLog(champion.settings.log_url)) as log:
        assert log.counts()["feedback"] == acknowledged


@pytest.mark.long
def test_a_platform_whose_supervisor_was_killed_starts_again(shell: Shell) -> None:
    """Nothing outlives it, a run neither, and neither its socket nor its pid file stands in the way."""
    shell.bash('eval "$(attune env)"; prefect deployment run validate/validate')
    until(lambda: any("prefect.engine" in one for one in members(shell)))
    supervisor = int((shell.settings.platform_folder / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not members(shell), 30.0)
    shell.attune("status", status=4)
    shell.attune("up")
    assert all_ready(shell)


@pytest.mark.long
def test_missed_schedules_are_caught_up_once(shell: Shell) -> None:
    """With the worker away a schedule falls due again and again; back, it runs once for all of them."""
    supervisor = Supervisor(shell.settings).server
    supervisor.stopProcess("worker")
    shell.bash('eval "$(attune env)"; prefect deployment schedule create ingest/ingest --interval 20 --replace -y')

    def missed() -> list[dict[str, Any]]:
        return [one for one in flow_runs(shell, "ingest") if "catches up" in (one["state"]["message"] or "")]

    def caught_up() -> list[dict[str, Any]]:
        runs = flow_runs(shell, "ingest")
        return [one for one in runs if "catch-up" in one["tags"] and one["state_type"] == "COMPLETED"]

    until(lambda: len(missed()) >= 3, 500.0)  # the watcher looks at it more than once meanwhile
    shell.bash('eval "$(attune env)"; prefect deployment schedule clear ingest/ingest --accept-yes')
    supervisor.startProcess("worker")
    assert len(until(caught_up, 500.0)) == 1


@pytest.mark.long
def test_a_run_that_died_with_its_worker_is_run_again(shell: Shell) -> None:
    """Worker and run are killed as if the machine had lost its power; the run is taken up by another one."""
    with subprocess.Popen(
        [str(BIN / "attune"), "train", "--recipe", "tiny"], env=shell.environment, cwd=shell.folder
    ) as asking:
        until(lambda: any(one["state_type"] == "RUNNING" for one in flow_runs(shell, "train")))
        worker = next(one["pid"] for one in shell.attune("status")["parts"] if one["name"] == "worker")
        for process in psutil.Process(worker).children(recursive=True):
            process.send_signal(signal.SIGKILL)
        again = until(
            lambda: [
                one for one in flow_runs(shell, "train") if "again" in one["tags"] and one["state_type"] == "COMPLETED"
            ],
            400.0,
        )
        assert len(again) == 1
        assert asking.wait() == 1, "who waited for the run that was killed is told"
    assert "CRASHED" in [one["state_type"] for one in flow_runs(shell, "train")]


@pytest.mark.long
def test_a_run_whose_worker_ended_before_it_began_holds_nobody_up(shell: Shell) -> None:
    """It was taken and holds its deployment's one place; it is let go, and another one runs in its stead."""
    shell.bash('eval "$(attune env)"; prefect deployment run materialize/materialize')
    until(lambda: any(one["state_type"] == "PENDING" for one in flow_runs(shell, "materialize")))
    worker = next(one["pid"] for one in shell.attune("status")["parts"] if one["name"] == "worker")
    for process in psutil.Process(worker).children(recursive=True):
        process.send_signal(signal.SIGKILL)

    def in_its_stead() -> list[dict[str, Any]]:
        runs = flow_runs(shell, "materialize")
        return [one for one in runs if {"again", "catch-up"} & set(one["tags"]) and one["state_type"] == "COMPLETED"]

    until(in_its_stead, 600.0)
    assert "PENDING" not in [one["state_type"] for one in flow_runs(shell, "materialize")]


@pytest.mark.long
def test_a_part_that_no_longer_answers_is_restarted(shell: Shell) -> None:
    before = next(one for one in shell.attune("status")["parts"] if one["name"] == "endpoint")
    psutil.Process(before["pid"]).children()[0].send_signal(signal.SIGSTOP)
    until(lambda: Supervisor(shell.settings).states()["endpoint"]["pid"] not in (0, before["pid"]), 300.0)
    until(lambda: all_ready(shell))


def flow_runs(shell: Shell, flow: str) -> list[dict[str, Any]]:
    """What Prefect has of a flow's runs, over its API."""
    body = {"flows": {"name": {"any_": [flow]}}, "limit": 200}
    answer = httpx.post(f"{shell.settings.prefect_url}/flow_runs/filter", json=body)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
