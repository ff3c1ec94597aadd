"""The demo is interrupted: it says so, in its report and exit status, and leaves no process behind.

That it closes the loop is what `make demo` shows.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attune.errors import ConfigError
from attune.files import locked
from infra.demo import run

ATTUNE = str(Path(sys.executable).with_name("attune"))


@pytest.fixture
def demo(tmp_path: Path):
    """Start the demo under an empty folder, send it a signal once its servers have been started, wait for its end."""

    def interrupt(number: int) -> tuple[int, dict]:
        environment = {**os.environ, "ATTUNE_VAR": str(tmp_path / "var"), "FAMILY_OF_TEST": str(tmp_path)}
        logs = tmp_path / "var" / "demo" / "logs"
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen([ATTUNE, "demo"], env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while not all((logs / f"{name}.log").exists() for name in ("prefect", "mlflow", "keeper", "endpoint")):
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.05)
        process.send_signal(number)
        status = process.wait(60)
        return status, json.loads((tmp_path / "var" / "demo" / "report.json").read_text())

    return interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_everything_and_says_so(demo, family, tmp_path: Path, number: int) -> None:
    status, report = demo(number)
    assert status == 128 + number
    assert report["ok"] is False
    assert signal.Signals(number).name in report["error"]
    assert family(str(tmp_path)) == []


def test_a_killed_demo_leaves_nothing_behind(demo, family, tmp_path: Path) -> None:
    status, report = demo(signal.SIGKILL)
    assert (status, report["ok"]) == (-signal.SIGKILL, False)
    deadline = time.monotonic() + 30
    while family(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert family(str(tmp_path)) == []


def test_two_demos_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path))
    with locked(tmp_path / "demo.lock"), pytest.raises(ConfigError, match=f"another demo runs in {tmp_path}"):
        run()
    assert not (tmp_path / "demo").exists()
