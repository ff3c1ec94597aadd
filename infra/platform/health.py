"""Looks after the health of the platform's parts: supervisor tells it the time every five seconds.

What has ended is supervisor's to restart. This listener restarts what lives and no longer answers.
"""

import sys
import time

from supervisor import childutils

from attune.settings import Settings
from infra.platform.parts import Part, parts
from infra.platform.supervisor import Supervisor

GRACE_SECONDS = 120.0
"""A part may be busy with its start for so long."""
UNWELL_SECONDS = 90.0
"""A busy machine makes slow answers; a restart would make it busier."""


class Watchman:
    """Remembers since when each part has not answered."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings)
        self._unwell: dict[str, float] = {}

    def look(self) -> list[str]:
        """Restart the parts that were unwell for too long, and name them."""
        states, now = self._supervisor.states(), time.monotonic()
        restarted = []
        for part in parts(self._settings):
            state = states.get(part.name, {"statename": "UNKNOWN"})
            young = state["statename"] != "RUNNING" or state["now"] - state["start"] < GRACE_SECONDS
            if young or part.is_well(self._settings):
                self._unwell.pop(part.name, None)
            elif now - self._unwell.setdefault(part.name, now) >= UNWELL_SECONDS:
                self._restart(part)
                restarted.append(part.name)
        return restarted

    def _restart(self, part: Part) -> None:
        print(f"{part.name} has not answered for {UNWELL_SECONDS:.0f} s: it is restarted", file=sys.stderr, flush=True)
        self._unwell.pop(part.name, None)
        self._supervisor.restart(part.name)


def main() -> None:
    """Speak supervisor's protocol of events for ever."""
    watchman = Watchman(Settings())
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        try:
            watchman.look()
        except Exception as error:  # whatever it is, the next look may go well, and a dead watchman helps nobody
            print(f"could not look after the parts: {error}", file=sys.stderr, flush=True)
        childutils.listener.ok(sys.stdout)


if __name__ == "__main__":
    main()
