"""No process outlives its starter: stopped, interrupted or killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attune.errors import AttuneError
from infra import child_processes
from infra.child_processes import ChildProcesses

FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); {}"
APART = FAMILY.replace("600)'])", "600)'], start_new_session=True)")
"""The grandchild in a group of its own, as Prefect starts runs."""

STARTER = """
import sys, time
from pathlib import Path
from infra.child_processes import ChildProcesses, interrupted_by_signals
with interrupted_by_signals():
    children = ChildProcesses(Path(sys.argv[1]))
    try:
        children.start("family", [sys.executable, "-c", sys.argv[2], sys.argv[1]])
        time.sleep(600)
    finally:
        children.stop()
"""


def eventually(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("background", [False, True])
def test_nothing_outlives_the_starter(family, tmp_path: Path, number: int, background: bool) -> None:
    marker = f"{tmp_path}-{number}"

    def ignore_interrupts() -> None:  # what a shell does to a background job
        if background:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), FAMILY.format("time.sleep(600)")],
        env={**os.environ, "FAMILY_OF_TEST": marker},
        preexec_fn=ignore_interrupts,
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: len(family(marker)) == 4)  # starter, reaper, child, grandchild
    os.kill(starter.pid, number)
    starter.wait(20)
    assert eventually(lambda: not family(marker)), family(marker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_child_started_in_a_group_of_its_own_ends_with_the_starter(family, tmp_path: Path, number: int) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), APART.format("time.sleep(600)")],
        env={**os.environ, "FAMILY_OF_TEST": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: len(family(str(tmp_path))) == 4)
    os.kill(starter.pid, number)
    starter.wait(20)
    assert eventually(lambda: not family(str(tmp_path))), family(str(tmp_path))


def test_what_a_child_started_in_a_group_of_its_own_ends_with_the_child(family, tmp_path: Path) -> None:
    children = ChildProcesses(tmp_path)
    children.start("short", [sys.executable, "-c", APART.format("")], {"FAMILY_OF_TEST": str(tmp_path)})
    assert eventually(lambda: not family(str(tmp_path)), 8.0), family(str(tmp_path))
    children.stop()


def test_who_ignores_term_is_killed_with_all_that_was_started(
    family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = child_processes.REAPER.read_text().replace("KILL_SECONDS = 10.0", "KILL_SECONDS = 1.0")
    monkeypatch.setattr(child_processes, "REAPER", tmp_path / "reaper.py")
    child_processes.REAPER.write_text(hasty)
    children = ChildProcesses(tmp_path)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True); "
    child = children.start("deaf", [sys.executable, "-c", parent + deaf], {"FAMILY_OF_TEST": str(tmp_path)})
    assert eventually(lambda: child.log.read_text().count("deaf") == 2)
    children.stop()
    assert not family(str(tmp_path))


def test_an_ended_process_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = ChildProcesses(tmp_path)
    child = children.start("short", [sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(AttuneError, match="no such luck"):
        child.wait_until(lambda: False, seconds=20)
    children.stop()
