"""The schema of MLflow's database: compared at each start, brought up to date with a copy of what was kept.

A newer MLflow refuses the schema of an older one. Its own upgrade cannot be undone, and a killed upgrade can ruin a
SQLite file. So SQLite is upgraded in a copy that then takes the original's place; the original stays beside it as
``mlflow.db.before-<revision>-<time>``. PostgreSQL is upgraded in one transaction, after a dump.
"""

import ast
import errno
import logging
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pysqlite3.dbapi2 as sqlite

from attune import copies
from attune.clock import SECOND, Clock, system_clock
from attune.database import checked_url
from attune.errors import BackupError, ConfigError
from attune.settings import Settings
from mlflow_server import server

REVISION = "SELECT version_num FROM alembic_version"
BUSY_SECONDS = 5.0
NO_REVISION = "none"
KEPT_THINGS = frozenset({"runs", "registered_models", "model_versions", "trace_info"})
"""A database that was never finished has none of these."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schemas:
    """The revisions that this MLflow knows; ``head`` is the one that it works with."""

    head: str
    known: frozenset[str]


def prepare(settings: Settings, clock: Clock = system_clock) -> None:
    """Bring the database to this MLflow's schema; a new one is left to MLflow, which makes it when it starts.

    SQLite is put into WAL mode; the mode stays with the file. Raises ConfigError for a database that is damaged, in
    use while it needs an upgrade, or of a newer MLflow; BackupError when it cannot be copied before an upgrade.
    """
    url = server.database_url(settings)
    if copies.is_postgres(url):
        _prepare_postgres(url, settings.mlflow_folder, clock)
        return
    path = copies.sqlite_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.exists() and path.stat().st_size:
            _bring_up_to_date(path, clock)
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite.Error as error:
        if "full" in str(error):
            raise BackupError(f"there is no room on the disk of {path.parent}: free some") from error
        if "locked" in str(error):
            raise ConfigError(f"{path} is in use by another process, perhaps another MLflow server: end it") from error
        raise ConfigError(
            f"{path} is no whole SQLite database ({error}): bring it back with `attune restore`, or move it away to"
            " begin with an empty registry"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BackupError(f"there is no room on the disk of {path.parent}: free some") from error
        raise ConfigError(f"{error.filename or path}: {error.strerror}; attune must be able to write there") from error


@cache
def schemas() -> Schemas:
    """The revisions of MLflow's migrations, by their files: an import takes seconds. Raises ConfigError for none."""
    package = find_spec("mlflow")
    folder = Path(package.origin or "").parent / "store" / "db_migrations" / "versions" if package else Path()
    steps = [_step(file.read_text()) for file in sorted(folder.glob("*.py"))] if package else []
    known = {str(step["revision"]) for step in steps if "revision" in step}
    replaced = [step.get("down_revision") for step in steps]
    heads = known.difference(*(before if isinstance(before, tuple) else (before,) for before in replaced))
    if len(heads) != 1:
        raise ConfigError(f"the migrations of MLflow's database were not found in {folder}: install it again")
    return Schemas(heads.pop(), frozenset(known))


def _step(source: str) -> dict[str, object]:
    """``revision`` and ``down_revision`` of a migration."""
    revisions: dict[str, object] = {}
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
                revisions[target.id] = ast.literal_eval(line.value)
    return revisions


def _bring_up_to_date(path: Path, clock: Clock) -> None:
    with closing(_connect(path)) as connection:
        whole = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if whole != "ok":
            raise sqlite.DatabaseError(whole)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        row = connection.execute(REVISION).fetchone() if "alembic_version" in tables else None
        revision = row[0] if row else NO_REVISION
        kept = any(connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in KEPT_THINGS & tables)
    if revision == schemas().head or not tables:
        return
    if kept:
        _check_known(revision, path)
        _upgrade_sqlite(path, revision, clock)
    else:
        _move_aside(path, clock)


def _upgrade_sqlite(path: Path, revision: str, clock: Clock) -> None:
    """Upgrade a copy and let it take the original's place, which nobody else may have open meanwhile."""
    kept = _beside(path, f"before-{revision}", clock)
    draft = path.with_name(f".{path.name}.draft")
    log.info("the schema of %s is %s, this MLflow's is %s: upgrading", path, revision, schemas().head)
    with closing(_connect(path)) as original:
        original.execute("PRAGMA journal_mode=DELETE")  # all of it in the one file; refused while others have it open
        original.executescript("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")  # locked until it is closed
        draft.unlink(missing_ok=True)
        with closing(_connect(draft)) as copy:
            original.backup(copy)
        _run_upgrade(f"sqlite:///{draft}", {})
        copies.sync(draft)
        os.link(path, kept)
        draft.replace(path)
        copies.sync(path.parent)
    log.info("%s has the schema %s; as it was before it is kept as %s", path, schemas().head, kept.name)


def _move_aside(path: Path, clock: Clock) -> None:
    """MLflow was ended while it made the database, and could not go on with it."""
    aside = _beside(path, "unfinished", clock)
    for ending in ("-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    log.warning("%s was never finished and holds nothing; it is moved to %s and a new one is made", path, aside.name)


def _prepare_postgres(url: str, folder: Path, clock: Clock) -> None:
    parsed = checked_url(url)
    shown = parsed.render_as_string()
    try:
        with psycopg.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
            (made,) = connection.execute("SELECT to_regclass('alembic_version')").fetchone() or (None,)
            row = connection.execute(REVISION).fetchone() if made else None
    except psycopg.Error as error:
        raise ConfigError(f"MLflow's database {shown} cannot be read: {str(error).strip()}") from error
    if row is None or row[0] == schemas().head:
        return
    _check_known(row[0], shown)
    kept = _beside(folder.resolve() / "mlflow.dump", f"before-{row[0]}", clock)
    copies.dump_postgres(url, kept)
    log.info("%s has the schema %s and is upgraded; as it was before it is kept as %s", shown, row[0], kept)
    _run_upgrade(*server.without_password(url))


def _check_known(revision: str, where: object) -> None:
    if revision != NO_REVISION and revision not in schemas().known:
        raise ConfigError(
            f"{where} has the schema {revision}, which this MLflow does not know, so a newer one made it:"
            " install that one again, or restore a backup from before (attune restore)"
        )


def _run_upgrade(url: str, secret: dict[str, str]) -> None:
    line = [sys.executable, "-m", "mlflow", "db", "upgrade", url]
    ended = subprocess.run(line, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    if ended.returncode:
        errors = [text for text in ended.stderr.splitlines() if "Error" in text and not text.startswith(" ")]
        raise ConfigError(
            "`mlflow db upgrade` failed, and the database is as it was before; it said: "
            + (errors[-1] if errors else ended.stderr.strip()[-500:])
        )


def _beside(path: Path, why: str, clock: Clock) -> Path:
    moment = datetime.fromtimestamp(clock() / SECOND, UTC)
    return path.with_name(f"{path.name}.{why}-{moment:%Y%m%dT%H%M%SZ}")


def _connect(path: Path) -> sqlite.Connection:
    return sqlite.connect(str(path), timeout=BUSY_SECONDS, isolation_level=None)
