"""Runs one command in a group of its own and ends it, with all that it started, when whoever started it is gone.

    python -m infra.guardian COMMAND [ARGUMENT ...]      with a pipe as standard input

The pipe's other end is held by the starter: closing it, or dying in any way, ends the command: TERM first, KILL
after ten seconds. What the command had started in groups of its own (Prefect's runs) is left to the guardian when the
command is gone, and ends then as well. The exit status is the command's own. Standard library only, so that one costs
little.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PATIENCE_SECONDS = 10.0
"""From TERM to KILL."""

TICK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    told: list[int] = []
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # TERM means: end the command; the guardian stays to see it gone.
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans below become the guardian's children
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
    while child.poll() is None and not told and not starter_is_gone():
        orphans(child)
    end(child)
    return child.returncode


def die_with_parent() -> None:
    """In the child: the signals as a program expects them, and KILL should the guardian itself be killed."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def starter_is_gone() -> bool:
    """Wait one tick for the pipe's end of file; True once it came."""
    readable, _, _ = select.select([0], [], [], TICK_SECONDS)
    return bool(readable) and os.read(0, 1) == b""


def end(child: subprocess.Popen[bytes]) -> None:
    """TERM the child's group, then what it leaves behind; KILL whatever is there after a while."""
    signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    asked = {child.pid}
    while time.monotonic() < deadline:
        child.poll()
        left = orphans(child)
        if not signal_group(child.pid, 0) and not left:
            return
        for group in {os.getpgid(pid) for pid in left} - asked:
            signal_group(group, signal.SIGTERM)
            asked.add(group)
        time.sleep(TICK_SECONDS)
    signal_group(child.pid, signal.SIGKILL)
    child.wait()
    while left := orphans(child):
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(TICK_SECONDS)


def orphans(child: subprocess.Popen[bytes]) -> set[int]:
    """Whose parents below the guardian are gone; those that have ended are buried. None where no kernel lists them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listed:
            adopted = {int(pid) for pid in listed.read().split()} - {child.pid}
    except OSError:  # built without CONFIG_PROC_CHILDREN: the child's own group still ends
        return set()
    return {pid for pid in adopted if os.waitpid(pid, os.WNOHANG) == (0, 0)}


def signal_group(group: int, number: int) -> bool:
    """Send a signal to the group; False when nobody is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
