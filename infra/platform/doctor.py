"""What `attune doctor` checks: each check is a function that yields its findings, with what to do about each."""

import importlib.metadata
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement
from pysqlite3 import dbapi2

from attune import backup, redis_connection
from attune.clock import SECOND, system_clock, to_iso
from attune.database import OLDEST_SQLITE
from attune.errors import AttuneError
from attune.event_log import EventLog
from attune.settings import Settings
from infra.child_processes import ROOT
from infra.environment import QUIET
from infra.platform import addresses, lifecycle
from infra.platform.parts import parts

LITTLE_BYTES, FEW_BYTES = 5 * 2**30, 2**30
CLOCK_SECONDS = 5.0
BACKUP_SECONDS = 2 * 86_400.0
TELEMETRY = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED")
LARGE_BYTES = 2**30  # a database above this size is opened and asked for its tables, not read from end to end
DATABASES = ("log/*.db", "feast/online/*.db", "mlflow/[!.]*.db", "prefect/*.db")
OTHERS_MODE = 0o077  # what a file's mode gives to other users

Verdict = Literal["good", "warning", "bad"]
STATE_VERDICTS: dict[str, Verdict] = {"ready": "good", "starting": "warning"}


@dataclass(frozen=True)
class Finding:
    """What one check found; ``advice`` is empty where nothing is to be done."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def check(settings: Settings) -> list[Finding]:
    """The findings of every check, in the order in which one would repair things."""
    return [finding for findings in CHECKS for finding in findings(settings)]


def _versions(settings: Settings) -> Iterator[Finding]:
    wrong = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        locked = Requirement(line)
        if locked.marker and not locked.marker.evaluate():  # for another Python
            continue
        name, wanted = locked.name, str(locked.specifier).removeprefix("==")
        try:
            version = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        if version != wanted:
            wrong.append(f"{name} {version} (lock: {wanted})")
    if wrong:
        listed = ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
        yield Finding("versions", "warning", listed, "`make install`")
    else:
        yield Finding("versions", "good", "as in requirements.lock")


def _sqlite(settings: Settings) -> Iterator[Finding]:
    good = dbapi2.sqlite_version_info >= OLDEST_SQLITE
    advice = "" if good else "a rare bug may damage a log in WAL mode: `make install` brings a newer one"
    yield Finding("SQLite", "good" if good else "bad", f"{dbapi2.sqlite_version} under the event log", advice)


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.var.resolve()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("folder", "good", f"{folder} can be written")
    else:
        yield Finding("folder", "bad", f"{nearest} cannot be written", "give this user the right, or set ATTUNE_VAR")
    free = shutil.disk_usage(nearest).free
    verdict: Verdict = "bad" if free < FEW_BYTES else "warning" if free < LITTLE_BYTES else "good"
    advice = "" if verdict == "good" else "make room: `attune retire` removes old versions, var/backups old backups"
    yield Finding("disk", verdict, f"{free / 2**30:.1f} GiB free under {folder}", advice)


def _clock(settings: Settings) -> Iterator[Finding]:
    last, now = _last_logged(settings), system_clock()
    ahead = (last - now) / SECOND if last else 0.0
    if ahead > CLOCK_SECONDS:
        late = f"the log's last event was logged at {to_iso(last)}, {ahead:.0f} s from now"
        advice = "set the clock (NTP): events that are logged now would be dated before those there"
        yield Finding("clock", "bad", late, advice)
    elif time.time() < 1_700_000_000:
        yield Finding("clock", "bad", f"it is {to_iso(now)}", "set the clock (NTP)")
    else:
        yield Finding("clock", "good", to_iso(now))


def _last_logged(settings: Settings) -> int:
    """When the log's last event was logged, in microseconds; 0 where the log is empty, absent or damaged."""
    try:
        with closing(EventLog(settings.log_url)) as log:
            last = log.read(log.head() - 1, 1)
            return last[0].logged_at if last else 0
    except AttuneError:
        return 0


def _secrets(settings: Settings) -> Iterator[Finding]:
    key = settings.var / "slate.key"
    if settings.var.exists() and settings.var.stat().st_mode & OTHERS_MODE:
        yield Finding("privacy", "warning", f"{settings.var} can be entered by others", f"chmod 700 {settings.var}")
    if key.exists() and key.stat().st_mode & OTHERS_MODE:
        yield Finding("secrets", "bad", f"{key} can be read by others", f"chmod 600 {key}")
    elif settings.profile == "production" and not settings.mlflow_auth:
        yield Finding("secrets", "bad", "MLflow asks nobody for a password", "set ATTUNE_MLFLOW_AUTH and its password")
    else:
        yield Finding("secrets", "good", "the key that signs slates is readable by this user only")


def _telemetry(settings: Settings) -> Iterator[Finding]:
    """Whether every process of a running platform has the switches that turn telemetry off."""
    running = addresses.running(settings)
    if running is None:
        yield Finding("telemetry", "good", "is off in whatever `attune up` starts")
        return
    faults = []
    for part in lifecycle.conditions(running):
        with suppress(psutil.Error):
            if part.pid:
                for process in [psutil.Process(part.pid), *psutil.Process(part.pid).children(recursive=True)]:
                    missing = missing_switches(process.environ())
                    faults += [f"{part.name} (pid {process.pid}) lacks {name}" for name in missing]
    if faults:
        yield Finding("telemetry", "bad", "; ".join(faults), "`attune down`, then `attune up`")
    else:
        yield Finding("telemetry", "good", "off in every process of the platform")


def missing_switches(environment: Mapping[str, str]) -> list[str]:
    """The telemetry switches that a process lacks; none for an empty environment: the process starts, or has ended.

    A run gets its switches from Prefect, which writes ``False``.
    """
    return [name for name in TELEMETRY if environment and environment.get(name, "").lower() != QUIET[name]]


def _databases(settings: Settings) -> Iterator[Finding]:
    files = [path for pattern in DATABASES for path in sorted(settings.var.glob(pattern))]
    broken = [f"{path}: {error}" for path in files if (error := _sqlite_error(path))]
    if broken:
        yield Finding("databases", "bad", "; ".join(broken), "`attune down`, then `attune restore` the last backup")
    else:
        yield Finding("databases", "good", "every SQLite file can be read")


def _sqlite_error(path: Path) -> str:
    if path.stat().st_size == 0:
        return ""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            if path.stat().st_size > LARGE_BYTES:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return ""
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        return "" if "locked" in str(error) else str(error)  # a process that is at work in it holds the lock
    return "" if answer == "ok" else str(answer)


def _online_store(settings: Settings) -> Iterator[Finding]:
    if (address := settings.online_address) is None:
        return
    try:
        yield Finding("online store", "good", f"{redis_connection.version(address)} at {address}")
    except AttuneError as error:
        advice = "start it, or correct ATTUNE_ONLINE_STORE_URL; meanwhile states are read from the log alone"
        yield Finding("online store", "bad", str(error), advice)


def _set_aside(settings: Settings) -> Iterator[Finding]:
    """What the last training set left out for what its sender did."""
    windows = sorted(settings.training_folder.glob("*/window.json"), key=lambda path: path.stat().st_mtime)
    left_out = json.loads(windows[-1].read_text()).get("left_out", {}) if windows else {}
    words = ", ".join(f"{count:,} by reason {reason!r}" for reason, count in left_out.items() if count)
    if words:
        advice = "more than 60 events of one user carried one minute: look who sends them, and import histories"
        yield Finding("set aside", "warning", f"the last training set left out events: {words}", advice)


def _backup(settings: Settings) -> Iterator[Finding]:
    """How old the last backup is, once there is something to lose."""
    if _last_logged(settings) == 0:
        return
    last = backup.latest(settings.backups)
    if last is None:
        yield Finding("backup", "warning", f"none in {settings.backups} yet", "`attune backup`")
    else:
        old = (system_clock() - last.created_at) / SECOND > BACKUP_SECONDS
        date = f"the last one is of {to_iso(last.created_at)}"
        yield Finding("backup", "warning", date, "`attune backup`") if old else Finding("backup", "good", date)


def _platform(settings: Settings) -> Iterator[Finding]:
    running = addresses.running(settings)
    if running is None:
        for part in parts(settings):
            if part.port and part.port.number and not addresses.is_free(part.port.host, part.port.number):
                held = f"port {part.port.number} is taken by {addresses.holder(part.port.number)}"
                yield Finding(part.name, "bad", held, f"stop that or set {part.port.setting}")
        yield Finding("platform", "good", "does not run", "`attune up` starts it")
        return
    for condition in lifecycle.conditions(running):
        verdict = STATE_VERDICTS.get(condition.state, "bad")
        advice = "" if verdict == "good" else f"`attune logs {condition.name}` says why"
        yield Finding(condition.name, verdict, condition.state, advice)


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _versions, _sqlite, _folder, _clock, _secrets, _telemetry, _databases, _online_store, _set_aside, _backup,
    _platform,
)  # fmt: skip
