"""What `attune doctor` looks at: each examination is a function that says what it found and what to do about it."""

import importlib.metadata
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from attune.errors import AttuneError
from attune.settings import Settings
from infra.environment import QUIET
from infra.network import is_free
from infra.platform import addresses, lifecycle
from infra.platform.parts import parts

ROOT = Path(__file__).resolve().parent.parent.parent
LITTLE_BYTES, FEW_BYTES = 5 * 2**30, 2**30
CLOCK_SECONDS = 5.0
BACKUP_SECONDS = 2 * 86_400.0
TELEMETRY = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED")
LARGE_BYTES = 2**30
"""A database above this size is opened and asked for its tables, not read from end to end."""
DATABASES = ("log/events.db", "feast/online/online.db", "mlflow/mlflow.db", "prefect/prefect.db")
SECRETS_MODE = 0o077

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one examination found; ``advice`` is empty where nothing is to be done."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """The same as plain values."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which one would mend it."""
    examinations: list[Callable[[Settings], Iterator[Finding]]] = [
        _versions, _sqlite, _folder, _disk, _clock, _secrets, _telemetry, _database, _online, _backup, _platform
    ]  # fmt: skip
    return [finding for look in examinations for finding in look(settings)]


def _versions(settings: Settings) -> Iterator[Finding]:
    """The packages here against the lock."""
    wrong = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, _, wanted = line.partition("==")
        if not wanted:
            continue
        try:
            found = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong.append(f"{name} {found} (lock: {wanted})")
    if wrong:
        yield Finding(
            "versions", "warning", ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else ""), "`make install`"
        )
    else:
        yield Finding("versions", "good", "as in requirements.lock")


def _sqlite(settings: Settings) -> Iterator[Finding]:
    from pysqlite3 import dbapi2

    from attune.database import OLDEST_SQLITE

    good = dbapi2.sqlite_version_info >= OLDEST_SQLITE
    advice = "" if good else "a rare bug may damage a log in WAL mode: `make install` brings a newer one"
    yield Finding("SQLite", "good" if good else "bad", f"{dbapi2.sqlite_version} under the event log", advice)


def _folder(settings: Settings) -> Iterator[Finding]:
    """Whether what attune writes can be written."""
    folder = settings.var.resolve()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("folder", "good", f"{folder} can be written")
    else:
        yield Finding("folder", "bad", f"{nearest} cannot be written", "give this user the right, or set ATTUNE_VAR")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.var.resolve()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    verdict: Verdict = "bad" if free < FEW_BYTES else "warning" if free < LITTLE_BYTES else "good"
    advice = "" if verdict == "good" else "make room: `attune retire` removes old versions, var/backups old backups"
    yield Finding("disk", verdict, f"{free / 2**30:.1f} GiB free under {folder}", advice)


def _clock(settings: Settings) -> Iterator[Finding]:
    """The machine's clock against the last event."""
    from attune.clock import SECOND, system_clock, to_iso

    last = _last_logged(settings)
    ahead = (last - system_clock()) / SECOND if last else 0.0
    if ahead > CLOCK_SECONDS:
        advice = "set the clock (NTP): events that are logged now would be dated before those there"
        yield Finding(
            "clock", "bad", f"the log's last event was logged at {to_iso(last)}, {ahead:.0f} s from now", advice
        )
    elif time.time() < 1_700_000_000:
        yield Finding("clock", "bad", f"it is {to_iso(system_clock())}", "set the clock (NTP)")
    else:
        yield Finding("clock", "good", to_iso(system_clock()))


def _last_logged(settings: Settings) -> int:
    from attune.event_log import EventLog

    try:
        with closing(EventLog(settings.log_url)) as log:
            last = log.read(log.head() - 1, 1)
            return last[0].logged_at if last else 0
    except AttuneError:  # none yet, or damaged: another examination tells
        return 0


def _secrets(settings: Settings) -> Iterator[Finding]:
    key = settings.var / "slate.key"
    if settings.var.exists() and settings.var.stat().st_mode & SECRETS_MODE:
        yield Finding("privacy", "warning", f"{settings.var} can be entered by others", f"chmod 700 {settings.var}")
    if key.exists() and key.stat().st_mode & SECRETS_MODE:
        yield Finding("secrets", "bad", f"{key} can be read by others", f"chmod 600 {key}")
    elif settings.profile == "production" and not settings.mlflow_auth:
        yield Finding("secrets", "bad", "MLflow asks nobody for a password", "set ATTUNE_MLFLOW_AUTH and its password")
    else:
        yield Finding("secrets", "good", "the key that signs slates is readable by this user only")


def _telemetry(settings: Settings) -> Iterator[Finding]:
    """What the processes that run were told, one by one."""
    running = addresses.running(settings)
    if running is None:
        yield Finding("telemetry", "good", "is off in whatever `attune up` starts")
        return
    loud = [name for one in lifecycle.conditions(running) if one.pid for name in _talkative(one)]
    if loud:
        yield Finding("telemetry", "bad", "; ".join(loud), "`attune down`, then `attune up`")
    else:
        yield Finding("telemetry", "good", "off in every process of the platform")


def _talkative(part: lifecycle.Condition) -> list[str]:
    """The switches that a part's processes were not given."""
    found = []
    with suppress(psutil.Error):
        for process in [psutil.Process(part.pid), *psutil.Process(part.pid).children(recursive=True)]:
            lacking = lacking_in(process.environ())
            found += [f"{part.name} (pid {process.pid}) lacks {name}" for name in lacking]
    return found


def lacking_in(told: Mapping[str, str]) -> list[str]:
    """The switches that a process was not given; none where nothing is told: it is being made, or is gone.

    A run gets them from Prefect, which writes ``False``.
    """
    return [name for name in TELEMETRY if told and told.get(name, "").lower() != QUIET[name]]


def _database(settings: Settings) -> Iterator[Finding]:
    """Every SQLite file under ``var``: whole, as far as a quick look tells."""
    files = [settings.var / name for name in DATABASES if (settings.var / name).exists()]
    broken = [f"{path}: {error}" for path in files if (error := _broken(path))]
    if broken:
        yield Finding("databases", "bad", "; ".join(broken), "`attune down`, then `attune restore` the last backup")
    else:
        yield Finding("databases", "good", "every SQLite file can be read")


def _broken(path: Path) -> str:
    if path.stat().st_size == 0:
        return ""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            if path.stat().st_size > LARGE_BYTES:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return ""
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return "" if "locked" in str(error) else str(error)  # whoever holds it is at work in it
    return "" if answer == "ok" else str(answer)


def _online(settings: Settings) -> Iterator[Finding]:
    """Whether the Redis that the settings name answers."""
    from attune import redis_connection

    if (address := settings.online_address) is None:
        return
    try:
        yield Finding("online store", "good", f"{redis_connection.version(address)} at {address}")
    except AttuneError as error:
        advice = "start it, or correct ATTUNE_ONLINE_STORE_URL; meanwhile states are read from the log alone"
        yield Finding("online store", "bad", str(error), advice)


def _backup(settings: Settings) -> Iterator[Finding]:
    """How old the last backup is, once there is something to lose."""
    from attune.backup import latest
    from attune.clock import SECOND, system_clock, to_iso

    if _last_logged(settings) == 0:
        return
    last = latest(settings.backups)
    if last is None:
        yield Finding("backup", "warning", f"none in {settings.backups} yet", "`attune backup`")
    elif (system_clock() - last.created_at) / SECOND > BACKUP_SECONDS:
        yield Finding("backup", "warning", f"the last one is of {to_iso(last.created_at)}", "`attune backup`")
    else:
        yield Finding("backup", "good", f"the last one is of {to_iso(last.created_at)}")


def _platform(settings: Settings) -> Iterator[Finding]:
    """The parts where the platform runs, its ports where it does not."""
    running = addresses.running(settings)
    if running is None:
        for part in parts(settings):
            if part.port and part.port.number and not is_free(part.port.host, part.port.number):
                held = f"port {part.port.number} is taken by {addresses.holder(part.port.number)}"
                yield Finding(part.name, "bad", held, f"stop that or set {part.port.setting}")
        yield Finding("platform", "good", "does not run", "`attune up` starts it")
        return
    for one in lifecycle.conditions(running):
        verdict: Verdict = "good" if one.state == "ready" else "warning" if one.state == "starting" else "bad"
        yield Finding(one.name, verdict, one.state, "" if verdict == "good" else f"`attune logs {one.name}` says why")
