"""Where commands do their work: on the platform, or over servers of their own that end with them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.text import Text

from attune.settings import Settings
from infra.commands import execution
from infra.commands.output import Progress, ago, readable
from infra.platform import addresses

ATTUNE = str(Path(sys.executable).with_name("attune"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", serving_port=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_servers_and_says_so_by_its_status(family, tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "ATTUNE_VAR": str(tmp_path / "var"), "FAMILY_OF_TEST": str(tmp_path)}
    command = [ATTUNE, "recommend", "somebody"]
    process = subprocess.Popen(
        command, env={**environment, "ATTUNE_SERVING_PORT": "0"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "var" / "logs" / "endpoint.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert family(str(tmp_path)) == []


def test_a_platform_that_is_up_is_asked_to_run_its_deployment(settings: Settings, monkeypatch) -> None:
    from flows import deployment_runs

    asked = []

    def run_deployed(name, parameters, on_state, on_progress):
        on_state("brave-crow: fit")
        on_progress("Gates", 0.5)
        asked.append((name, parameters, os.environ["PREFECT_API_URL"]))
        return {"version": "3"}

    up = settings.model_copy(update={"prefect_url": "http://127.0.0.1:9/api", "mlflow_url": "http://127.0.0.1:9"})
    monkeypatch.setattr(addresses, "running", lambda _: up)
    monkeypatch.setattr(deployment_runs, "run_deployed", run_deployed)
    before = dict(os.environ)
    with execution.runner(settings, Progress(quiet=True)) as runner:
        assert runner.run("train", recipe="tiny") == {"version": "3"}
        assert runner.settings == up
    assert asked == [("train", {"recipe": "tiny"}, "http://127.0.0.1:9/api")]
    assert dict(os.environ) == before


def test_an_mlflow_that_was_named_is_used(settings: Settings) -> None:
    named = settings.model_copy(update={"mlflow_url": "http://127.0.0.1:9"})
    with execution.registry(named, Progress(quiet=True)) as found:
        assert found.mlflow_url == "http://127.0.0.1:9"
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_progress_is_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().stage("train [tiny]") as stage:
        stage.say("fit")
        stage.count(1, 2)
    with Progress(quiet=True).stage("silent") as stage:
        stage.say("nothing")
    with pytest.raises(RuntimeError), Progress().stage("broken"):
        raise RuntimeError
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["  fit", "✓ train [tiny] 0.0 s"]


def test_progress_is_a_bar_with_the_rows_done_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress().stage("import") as stage:
        stage.count(250, 1_000)
    with Progress(quiet=True).stage("silent") as stage:
        stage.count(250, 1_000)
    words = Text.from_ansi(capsys.readouterr().err).plain
    assert "import: 250 of 1,000 rows" in words
    assert "25%" in words
    assert "silent" not in words


def test_values_are_readable() -> None:
    found = [readable(one) for one in (1_234_567, 0.123456, None, True, ["a", 2], {"x": 1})]
    assert found == ["1,234,567", "0.1235", "", "yes", "a, 2", "x: 1"]
    assert [ago(0, seconds * 1_000_000) for seconds in (1, 119, 120, 7_200, 200_000, -5)] == [
        "1 s", "119 s", "2 min", "2 h", "2 d", "0 s",
    ]  # fmt: skip
