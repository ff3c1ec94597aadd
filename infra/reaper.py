"""Runs one command and ends it, with every process that it started, when the process that started it is gone.

    python infra/reaper.py COMMAND [ARGUMENT ...]      with a pipe as standard input

The starter holds the other end of the pipe. When it closes it, or dies in any way, the reaper sends TERM to the
command's process group, and KILL after ten seconds. The reaper is the subreaper of processes that the command started
in groups of their own (Prefect's runs): it adopts them when the command is gone, and ends them as well. Its exit
status is the command's. Standard library only, so that a reaper costs little memory.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

KILL_SECONDS = 10.0  # from TERM to KILL
TICK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    terminated: list[int] = []
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # TERM means: end the command; the reaper stays until it is gone.
    signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_reaper)
    while child.poll() is None and not terminated and not starter_is_gone():
        orphans(child)
    end(child)
    return child.returncode


def die_with_reaper() -> None:
    """In the child: the signals as a program expects them, and KILL should the reaper itself be killed."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def starter_is_gone() -> bool:
    """Wait one tick for the pipe's end of file; True once it came."""
    readable, _, _ = select.select([0], [], [], TICK_SECONDS)
    return bool(readable) and os.read(0, 1) == b""


def end(child: subprocess.Popen[bytes]) -> None:
    """Send TERM to the child's group, then to what it leaves behind; KILL to whatever is there after a while."""
    signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + KILL_SECONDS
    terminated = {child.pid}
    while time.monotonic() < deadline:
        child.poll()
        left = orphans(child)
        if not signal_group(child.pid, 0) and not left:
            return
        for group in {os.getpgid(pid) for pid in left} - terminated:
            signal_group(group, signal.SIGTERM)
            terminated.add(group)
        time.sleep(TICK_SECONDS)
    signal_group(child.pid, signal.SIGKILL)
    child.wait()
    while left := orphans(child):
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(TICK_SECONDS)


def orphans(child: subprocess.Popen[bytes]) -> set[int]:
    """The living processes below the reaper whose parents are gone; it waits for those that have ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listed:
            adopted = {int(pid) for pid in listed.read().split()} - {child.pid}
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: only the child's own group ends
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
