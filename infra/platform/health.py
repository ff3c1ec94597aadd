"""Restarts parts of the platform that run and no longer answer: a listener that supervisor calls every five seconds.

Supervisor itself restarts what has ended.
"""

import sys
import time

from supervisor import childutils

from attune.settings import Settings
from infra.platform.parts import parts
from infra.platform.supervisor import Supervisor

GRACE_SECONDS = 120.0  # a part may be busy with its start for so long
SILENT_SECONDS = 90.0  # a busy machine makes slow answers; a restart would make it busier


def restart_silent(settings: Settings, silent_since: dict[str, float]) -> None:
    """Restart the parts that have not answered for too long; ``silent_since`` remembers when each fell silent."""
    supervisor, now = Supervisor(settings), time.monotonic()
    states = supervisor.states()
    for part in parts(settings):
        state = states.get(part.name, {"statename": "UNKNOWN"})
        young = state["statename"] != "RUNNING" or state["now"] - state["start"] < GRACE_SECONDS
        if young or part.is_alive(settings):
            silent_since.pop(part.name, None)
        elif now - silent_since.setdefault(part.name, now) >= SILENT_SECONDS:
            _print(f"{part.name} has not answered for {SILENT_SECONDS:.0f} s: the health check restarts it")
            silent_since.pop(part.name)
            supervisor.restart(part.name)


def main() -> None:
    """Speak supervisor's protocol of events for ever."""
    settings, silent_since = Settings(), dict[str, float]()
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        try:
            restart_silent(settings, silent_since)
        except Exception as error:  # whatever it is, the next check may succeed, and a listener that ended helps nobody
            _print(f"the parts could not be checked: {error}")
        childutils.listener.ok(sys.stdout)


def _print(text: str) -> None:
    """Standard output belongs to the protocol."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
