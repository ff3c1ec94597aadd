"""The tutorial is followed: every command of it, in its order, in one shell, on a platform of its own.

It is the end-to-end test of `attune up` and of the commands that people begin with.
"""

import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

MARK = "FOLLOWS_THE_TUTORIAL"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
BORDERS = re.compile(r"[━─┏┓┗┛┡┩┠┨┌┐└┘├┤╇┳┻╋┼┬┴│┃╭╮╰╯\s]+")
PORT = re.compile(r"127\\\.0\\\.0\\\.1:(4200|5000|8000)")
PATIENCE_SECONDS = 400.0
"""For one command, on a machine that is busy with other things."""
SLOWEST_SECONDS = 900


@dataclass
class Step:
    """One command of the tutorial with the lines that it is said to print."""

    command: str
    expected: list[str] = field(default_factory=list)


def steps(markdown: str) -> list[Step]:
    """The commands of all ``console`` blocks: a line after ``$ ``, with its continuations after ``> ``."""
    found: list[Step] = []
    for block in BLOCK.findall(markdown):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            elif line.startswith("> ") and not found[-1].expected:
                found[-1].command += "\n" + line[2:]
            else:
                found[-1].expected.append(line)
    return found


def plain(line: str) -> str:
    """A line without the borders of tables and the width of their columns."""
    return BORDERS.sub(" ", line).strip()


def missing(expected: list[str], printed: list[str]) -> str | None:
    """The first expected line that was not printed after those before it; None when all were.

    ``...`` stands for anything, and the platform's ports for any.
    """
    rest = iter([plain(line) for line in printed])
    for line in filter(None, map(plain, expected)):
        pattern = ".*".join(map(re.escape, line.split("...")))
        pattern = PORT.sub(r"127\\.0\\.0\\.1:\\d+", pattern).replace(r"\ .*", ".*").replace(r".*\ ", ".*")
        if line != "..." and not any(re.fullmatch(pattern, one) for one in rest):
            return line
    return None


class Shell:
    """One bash, told one command after the other."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit status and the lines that were printed; fails when it takes too long."""
        end = f"end-{uuid.uuid4().hex}"
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command} </dev/null\nprintf '\\n{end} %s\\n' $?\n")
        printed: list[str] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                pytest.fail(f"$ {command}\nstill runs after {PATIENCE_SECONDS:.0f} s; it printed\n{''.join(printed)}")
            if line.startswith(end):
                return int(line.split()[1]), [one.rstrip("\n") for one in printed]
            printed.append(line)

    def close(self) -> None:
        """End the shell."""
        self._bash.kill()
        self._bash.wait()

    def _listen(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line)


def family(mark: str) -> list[psutil.Process]:
    """Every process that still runs with this mark in its environment."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in which `attune` is found and a platform of its own can be started; nothing of it survives the test."""
    mark = uuid.uuid4().hex
    ports = {f"ATTUNE_{name}_PORT": "0" for name in ("PREFECT", "MLFLOW", "SERVING", "WORKER")}
    environment = {
        **os.environ, **ports, MARK: mark,
        "ATTUNE_VAR": str(tmp_path / "var"),
        "COLUMNS": "100",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    found = Shell(environment, tmp_path)
    yield found
    found.close()
    try:
        subprocess.run(["attune", "down"], env=environment, capture_output=True, check=False, timeout=60)
    finally:
        left = family(mark)
        survivors = [" ".join(one.cmdline()) for one in left]
        for process in left:
            process.kill()
    assert survivors == []


@pytest.mark.long
@pytest.mark.timeout(SLOWEST_SECONDS)
def test_the_tutorial_is_true(shell: Shell, pytestconfig: pytest.Config) -> None:
    slates = []
    for step in steps((pytestconfig.rootpath / "docs" / "tutorial.md").read_text()):
        status, printed = shell.run(step.command)
        said = f"$ {step.command}\n" + "\n".join(printed)
        assert status == 0, said
        line = missing(step.expected, printed)
        assert line is None, f"{said}\n\nthe tutorial shows, and this was not printed: {line}"
        if "--seed" in step.command:
            slates.append([line for line in printed if line.startswith("│")])
    before, after = slates
    assert len(before) == len(after) == 5
    assert before != after, "the feedback changed nothing"


def test_expected_lines_are_found_in_order() -> None:
    printed = ["┃ part ┃  state ┃", "│ a    │  ready │ http://127.0.0.1:51123 │ 9 s │", "done in 3.2 s"]
    assert missing(["│ a │ ready │ http://127.0.0.1:4200 │ ...", "┏━━┓", "...", "done in ... s"], printed) is None
    assert missing(["done in ... s", "│ a │ ready │ ..."], printed) == "a ready ..."
    assert missing(["│ b │ ready │ ..."], printed) == "b ready ..."
