"""Child processes that never outlive their starter (see ``infra.reaper``), and signals that run every clean-up."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from attune.errors import AttuneError

ROOT = Path(__file__).resolve().parent.parent
REAPER = ROOT / "infra" / "reaper.py"
PR_SET_PDEATHSIG = 1
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_SECONDS = 3.0


@dataclass
class ChildProcess:
    """One running command: its name, the reaper that runs it and the file that holds its output."""

    name: str
    reaper: subprocess.Popen[bytes]
    log: Path

    def wait_until(self, ready: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait until ``ready()``; raises AttuneError with the end of the log when it ends or takes longer."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.reaper.poll() is not None:
                raise AttuneError(f"{self.name} ended before it was ready; {log_end(self.log)}")
            if time.monotonic() > deadline:
                raise AttuneError(f"{self.name} was not ready after {seconds:.0f} s; {log_end(self.log)}")
            time.sleep(0.1)


@dataclass
class ChildProcesses:
    """The commands that one process started; ``stop`` ends them all, side by side."""

    logs: Path
    running: list[ChildProcess] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> ChildProcess:
        """Start a command whose output goes to ``logs/<name>.log``; ``environment`` is added to this process's."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            reaper = subprocess.Popen(
                [sys.executable, str(REAPER), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.running.append(ChildProcess(name, reaper, log))
        return self.running[-1]

    def stop(self) -> None:
        """End every command's group: TERM, KILL after ten seconds; returns when all are gone."""
        for process in self.running:
            if process.reaper.stdin is not None:
                with contextlib.suppress(OSError):
                    process.reaper.stdin.close()
        for process in self.running:
            process.reaper.wait()
        self.running.clear()


def log_end(log: Path, lines: int = 8) -> str:
    """The last lines of a log under its name, for an error message."""
    last = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join([f"{log} ends with:", *last])


class Interrupted(BaseException):
    """A signal asked the process to end; raised in its main thread so that ``finally`` blocks run."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Turn INT, TERM and HUP into ``Interrupted``, also where the shell had INT ignored (a background job).

    Python swallows an exception that is raised inside a callback of C code or a destructor, so it is raised
    again every few seconds until clean-up has begun (see ``uninterrupted_cleanup``).
    With ``ATTUNE_DIE_WITH_PARENT`` set to the parent's process id, the parent's death counts as TERM.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_SECONDS)
        raise Interrupted(received[0])

    before = {number: signal.signal(number, interrupt) for number in (*ENDING_SIGNALS, signal.SIGALRM)}
    try:
        if parent := os.environ.pop("ATTUNE_DIE_WITH_PARENT", ""):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != int(parent):  # it died before this process asked to be told
                os.kill(os.getpid(), signal.SIGTERM)
        yield
    finally:
        _ignore_ending_signals()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted_cleanup() -> Iterator[None]:
    """The innermost context of what must be cleaned up: once it is left, no signal interrupts the clean-up."""
    try:
        yield
    finally:
        _ignore_ending_signals()


def _ignore_ending_signals() -> None:
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
