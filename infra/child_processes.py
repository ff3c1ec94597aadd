"""Child processes that never outlive their starter, however it ends (see ``infra.guardian``)."""

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
from typing import IO

from attune.errors import AttuneError, ConfigError
from infra.network import is_free

PR_SET_PDEATHSIG = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_SECONDS = 3.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Child:
    """One running command: its name, its guardian and the file that holds its output."""

    name: str
    guardian: subprocess.Popen[bytes]
    log: Path

    def last_words(self, lines: int = 8) -> str:
        """The end of its output, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Children:
    """The commands that one process started; ``stop`` ends them all, side by side."""

    logs: Path
    running: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start a command whose output goes to ``logs/<name>.log``; ``environment`` is added to this process's."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            guardian = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("guardian.py")), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        child = Child(name, guardian, log)
        self.running.append(child)
        return child

    def stop(self) -> None:
        """End every child's group: TERM, KILL after ten seconds; returns when all are gone."""
        for child in self.running:
            close_quietly(child.guardian.stdin)
        for child in self.running:
            child.guardian.wait()
        self.running.clear()


def close_quietly(pipe: IO[bytes] | None) -> None:
    with contextlib.suppress(OSError):
        if pipe is not None:
            pipe.close()


def wait_until(ready: Callable[[], bool], child: Child, seconds: float = 90.0) -> None:
    """Wait until ``ready()``; raises AttuneError with the child's last words when it ended or took too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        if child.guardian.poll() is not None:
            raise AttuneError(f"{child.name} ended before it was ready; {child.log} ends with:\n{child.last_words()}")
        if time.monotonic() > deadline:
            raise AttuneError(f"{child.name} was not ready after {seconds:.0f} s; {child.log} says why")
        time.sleep(0.1)


def check_port(host: str, port: int, what: str, setting: str) -> None:
    """Raises ConfigError when somebody listens on the port already."""
    if not is_free(host, port):
        raise ConfigError(f"port {port} on {host} is taken, {what} cannot listen there: set {setting}")


class Interrupted(BaseException):
    """A signal asked the process to end; raised in its main thread so that ``finally`` blocks run."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn INT, TERM and HUP into ``Interrupted``, also where the shell had INT ignored (a background job).

    Python swallows an exception that is raised inside a callback of C code or a destructor, so it is raised
    again every few seconds until cleaning up has begun (see ``ending_undisturbed``).
    With ``ATTUNE_DIE_WITH_PARENT`` set to the parent's process id, the parent's death counts as TERM.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_SECONDS)
        raise Interrupted(received[0])

    before = {number: signal.signal(number, interrupt) for number in (*ENDING, signal.SIGALRM)}
    try:
        die_with_parent(os.environ.pop("ATTUNE_DIE_WITH_PARENT", ""))
        yield
    finally:
        nothing_interrupts()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_undisturbed() -> Iterator[None]:
    """The innermost context of what must be cleaned up: once it is left, no signal interrupts the clean-up."""
    try:
        yield
    finally:
        nothing_interrupts()


def nothing_interrupts() -> None:
    """From here on signals that end a process are ignored: it is ending already."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def die_with_parent(parent: str) -> None:
    """Ask for TERM when the parent dies; send it at once should it be dead already."""
    if parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGTERM)
