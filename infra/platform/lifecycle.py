"""Starts the platform, says how it is, and stops it."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil

from attune import event_log, process
from attune.errors import AttuneError
from attune.settings import Settings
from infra.platform import addresses
from infra.platform.parts import Part, log_of, parts, with_addresses
from infra.platform.supervisor import Supervisor

READY_SECONDS = 180.0
TICK_SECONDS = 0.25
LAST_LINES = 8
LIVING = ("RUNNING", "STARTING")
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

    def as_dict(self) -> dict[str, object]:
        """The same as plain values."""
        return asdict(self)


def up(settings: Settings, told: Callable[[list[Condition]], None]) -> tuple[Settings, float]:
    """Start every part and wait until all are ready; the settings with their addresses, and the seconds it took.

    ``told`` gets the conditions again and again meanwhile. A platform that runs already is left as it is (0 seconds).
    Raises ConfigError for ports that are taken, AttuneError with the last words of a part that does not get ready:
    then everything is stopped again.
    """
    settings.platform_folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(settings):
        found = addresses.running(settings)
        if found is not None:
            return found, 0.0
        started = time.monotonic()
        settings = addresses.choose(settings)
        addresses.demand_free(settings)
        settings = with_addresses(settings)
        event_log.prepare(settings.log_url)
        settings.slate_key()
        supervisor = Supervisor(settings)
        supervisor.start()
        try:
            addresses.remember(settings)
            _await_all(settings, supervisor, started, told)
        except BaseException:
            with suppress(AttuneError):  # it went by itself, or somebody stopped it: what was wrong is told
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


def _await_all(
    settings: Settings, supervisor: Supervisor, started: float, told: Callable[[list[Condition]], None]
) -> None:
    waiting = {part.name: part for part in parts(settings)}
    while waiting:
        now = time.monotonic()
        told([_starting(part, part.name not in waiting) for part in parts(settings)])
        for name, part in list(waiting.items()):
            if part.is_ready(settings, now - started):
                del waiting[name]
        states = supervisor.states()
        for name in waiting:
            if states[name]["statename"] in ("BACKOFF", "FATAL"):
                raise AttuneError(f"{name} ended before it was ready; {_last_words(settings, name)}")
        if now - started > READY_SECONDS:
            late = ", ".join(waiting)
            raise AttuneError(
                f"{late} not ready after {READY_SECONDS:.0f} s; {_last_words(settings, next(iter(waiting)))}"
            )
        time.sleep(TICK_SECONDS)
    told([_starting(part, True) for part in parts(settings)])


def _starting(part: Part, ready: bool) -> Condition:
    return Condition(part.name, part.purpose, "ready" if ready else "starting", part.address, 0, 0.0, 0)


def _condition(settings: Settings, part: Part, state: dict[str, object]) -> Condition:
    lives = state["statename"] in LIVING
    pid = int(str(state["pid"]))
    seconds = float(str(state["now"])) - float(str(state["start"])) if lives else 0.0
    word = _in_a_word(settings, part, str(state["statename"]), seconds)
    return Condition(part.name, part.purpose, word, part.address, pid, seconds, _memory(pid) if lives else 0)


def _in_a_word(settings: Settings, part: Part, name: str, seconds: float) -> str:
    """Supervisor's state and the part's own answer since its start, as one word for people."""
    if name not in LIVING:
        return WORDS.get(name, name.lower())
    if part.is_ready(settings, min(seconds, process.FRESH_SECONDS)):
        return "ready"
    return "starting" if name == "STARTING" else "unwell"


def _memory(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def _last_words(settings: Settings, name: str) -> str:
    path = log_of(settings, name)
    lines = path.read_text(errors="replace").splitlines()[-LAST_LINES:] if path.exists() else []
    return f"{path} ends with:\n" + "\n".join(lines)


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Who comes second waits until the first has started everything."""
    with (settings.platform_folder / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
