"""Starts the platform, says how each of its parts is, and stops it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from attune import event_log, process
from attune.errors import AttuneError
from attune.files import locked
from attune.settings import Settings
from infra.child_processes import log_end
from infra.platform import addresses
from infra.platform.parts import Part, log_of, parts, with_addresses
from infra.platform.supervisor import Supervisor

READY_SECONDS = 180.0
TICK_SECONDS = 0.25
WORDS_WHILE_ALIVE = {"RUNNING": "unwell", "STARTING": "starting"}
"""By supervisor's state, for a part that runs and does not answer."""
WORDS = {"BACKOFF": "failing, tried again", "FATAL": "failed", "STOPPED": "stopped", "EXITED": "ended"}


@dataclass(frozen=True)
class Condition:
    """How one part is: ``state`` in a word, seconds since its start, resident bytes of all its processes."""

    name: str
    purpose: str
    state: str
    address: str
    pid: int
    seconds: float
    bytes: int


def up(settings: Settings, show: Callable[[list[Condition]], None]) -> tuple[Settings, float]:
    """Start every part and wait until all are ready; the settings with their addresses, and the seconds it took.

    ``show`` gets the conditions again and again meanwhile. A platform that runs already is left as it is (0 seconds).
    Raises ConfigError for ports that are taken, AttuneError with the end of the log of a part that does not get ready:
    then everything is stopped again.
    """
    with locked(settings.platform_folder / "up.lock"):  # a second `attune up` waits until the first has started all
        running = addresses.running(settings)
        if running is not None:
            return running, 0.0
        started = time.monotonic()
        settings = addresses.choose_ports(settings)
        addresses.demand_free(parts(settings))
        settings = with_addresses(settings)
        event_log.prepare(settings.log_url)
        settings.slate_key()
        supervisor = Supervisor(settings)
        supervisor.start()
        try:
            addresses.write(settings)
            _wait_for_all(settings, supervisor, started, show)
        except BaseException:
            with suppress(AttuneError):  # the supervisor is gone already; the first error says why
                supervisor.stop()
            raise
        return settings, time.monotonic() - started


def down(settings: Settings) -> bool:
    """Stop every part; False when nothing ran."""
    supervisor = Supervisor(settings)
    if not supervisor.runs():
        return False
    supervisor.stop()
    return True


def conditions(settings: Settings) -> list[Condition]:
    """How each part is now; ``settings`` are those that ``addresses.running`` gave."""
    states = Supervisor(settings).states()
    return [_condition(settings, part, states[part.name]) for part in parts(settings) if part.name in states]


def _wait_for_all(
    settings: Settings, supervisor: Supervisor, started: float, show: Callable[[list[Condition]], None]
) -> None:
    every = parts(settings)
    waiting = every

    def starting(part: Part) -> Condition:
        state = "starting" if part in waiting else "ready"
        return Condition(part.name, part.purpose, state, part.address, pid=0, seconds=0.0, bytes=0)

    while waiting:
        now = time.monotonic()
        show([starting(part) for part in every])
        waiting = [part for part in waiting if not part.is_ready(settings, now - started)]
        states = supervisor.states()
        for part in waiting:
            if states[part.name]["statename"] in ("BACKOFF", "FATAL"):
                raise AttuneError(f"{part.name} ended before it was ready; {log_end(log_of(settings, part.name))}")
        if waiting and now - started > READY_SECONDS:
            late = ", ".join(part.name for part in waiting)
            end = log_end(log_of(settings, waiting[0].name))
            raise AttuneError(f"{late} not ready after {READY_SECONDS:.0f} s; {end}")
        time.sleep(TICK_SECONDS)
    show([starting(part) for part in every])


def _condition(settings: Settings, part: Part, state: dict[str, Any]) -> Condition:
    """Supervisor's state and the part's own answer since its start, as one word for people."""
    name, pid = state["statename"], int(state["pid"])
    if name not in WORDS_WHILE_ALIVE:
        return Condition(part.name, part.purpose, WORDS.get(name, name.lower()), part.address, pid, 0.0, 0)
    seconds = float(state["now"]) - float(state["start"])
    word = "ready" if part.is_ready(settings, min(seconds, process.FRESH_SECONDS)) else WORDS_WHILE_ALIVE[name]
    return Condition(part.name, part.purpose, word, part.address, pid, seconds, _memory(pid))


def _memory(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        for member in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.Error):
                total += member.memory_info().rss
    return total
