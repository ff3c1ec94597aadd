"""Copies of what is being written to meanwhile: SQLite and PostgreSQL databases, and folders of whole files.

Each copy is of one moment, on the disk when the call returns, and disturbs nobody who writes.
"""

import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pysqlite3.dbapi2 as sqlite

from attune.database import checked_url
from attune.errors import BackupError, ConfigError
from attune.files import sync

BLOCK = 1 << 20
BUSY_SECONDS = 60.0
LISTINGS = 100
"""How often a folder is listed anew because a file was gone before it could be copied."""

LOG_HEAD = "SELECT position, log_id, (SELECT version_num FROM alembic_version) FROM log_head"


@dataclass(frozen=True)
class LogFacts:
    """What a copied event log says of itself."""

    head: int
    log_id: str
    schema: str


def copy_file(source: Path, target: Path) -> str:
    """Copy one file with its permissions and sync it; the sha256 of what was written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())
    shutil.copymode(source, target)
    return digest.hexdigest()


def copy_folder(source: Path, target: Path, wanted: Callable[[Path], bool]) -> dict[Path, str]:
    """Copy a folder's files, those that ``wanted`` (given the path within it) says; sha256 by path within the target.

    Files must appear whole. Where one is gone before it could be copied, the folder is listed anew.
    """
    copied: dict[Path, str] = {}
    for _ in range(LISTINGS):
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            place = file.relative_to(source)
            if place in copied or not wanted(place):
                continue
            try:
                copied[place] = copy_file(file, target / place)
            except FileNotFoundError:
                (target / place).unlink(missing_ok=True)
                break
        else:
            return copied
    raise BackupError(f"{source} changes faster than it can be copied; try again when less is going on")


def digest_of(file: Path) -> str:
    """The sha256 of a file."""
    with file.open("rb") as reading:
        return hashlib.file_digest(reading, "sha256").hexdigest()


def copy_sqlite(source: Path, target: Path) -> str:
    """The database as it stands at one moment, checked; writers go on meanwhile. The copy's sha256; BackupError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _sqlite_explained(source), closing(_open(source)) as reading, closing(sqlite.connect(str(target))) as writing:
        reading.backup(writing)
        check = writing.execute("PRAGMA quick_check").fetchone()[0]
        writing.execute("PRAGMA journal_mode=DELETE")  # all of it in one file; whoever opens it sets WAL again
    if check != "ok":
        raise BackupError(f"{source} is damaged ({check}); restore it from an older backup")
    sync(target)
    return digest_of(target)


def sqlite_log_facts(database: Path) -> LogFacts:
    """What the event log in a copied SQLite file says of itself. Raises BackupError for any other database."""
    with _sqlite_explained(database), closing(_open(database)) as reading:
        return LogFacts(*reading.execute(LOG_HEAD).fetchone())


def dump_postgres(url: str, target: Path) -> None:
    """The database at one moment, in pg_dump's custom format. Raises ConfigError without pg_dump, else BackupError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _run("pg_dump", url, "--format=custom", f"--file={target}")


def dump_log(url: str, target: Path) -> LogFacts:
    """As ``dump_postgres``, of an event log; what it says of itself at that same moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _postgres_explained(url), psycopg.connect(_plain(url)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        facts = connection.execute(LOG_HEAD).fetchone() or ()
        (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        _run("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", f"--file={target}")
    return LogFacts(*facts)


def load_postgres(source: Path, url: str) -> None:
    """Bring a dump back into an empty database, whole or not at all. Raises ConfigError, BackupError."""
    _run("pg_restore", url, "--single-transaction", "--no-owner", "--no-privileges", "--exit-on-error", str(source))


def check_empty_postgres(url: str) -> None:
    """Raise BackupError unless the database at ``url`` has no tables."""
    with _postgres_explained(url), psycopg.connect(_plain(url)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    if tables:
        raise BackupError(f"the database at {_plain(url, False)} is not empty; make a new one to restore into")


def is_postgres(url: str) -> bool:
    """Whether it is a PostgreSQL database (and no SQLite file). Raises ConfigError for anything else."""
    return checked_url(url).get_backend_name() == "postgresql"


def sqlite_path(url: str) -> Path:
    """The file of a SQLite URL."""
    return Path(checked_url(url).database or "")


def _open(database: Path) -> sqlite.Connection:
    if not database.is_file():
        raise BackupError(f"there is no database at {database}")
    return sqlite.connect(f"{database.resolve().as_uri()}?mode=ro", timeout=BUSY_SECONDS, uri=True)


@contextmanager
def _sqlite_explained(database: Path) -> Iterator[None]:
    try:
        yield
    except sqlite.Error as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BackupError(f"{database} could not be copied ({error}); is it a whole SQLite database?") from error


@contextmanager
def _postgres_explained(url: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise BackupError(f"{_plain(url, False)} could not be read: {str(error).strip()}") from error


def _run(program: str, url: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs on the database; the password goes by the environment, not the process list."""
    executable = shutil.which(program)
    if executable is None:
        raise ConfigError(
            f"{program} is not on PATH, and the database at {_plain(url, False)} needs it: install PostgreSQL's client "
            "programs, of the server's version or newer"
        )
    password = checked_url(url).password
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    command = [executable, "--dbname", _plain(url, False), *arguments]
    ended = subprocess.run(command, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BackupError(f"{program} failed on {_plain(url, False)}: {ended.stderr.strip()[-500:]}")


def _plain(url: str, password: bool = True) -> str:
    """The URL as PostgreSQL's own library reads it."""
    parsed = checked_url(url)._replace(drivername="postgresql")
    shown = parsed if password else parsed._replace(password=None)
    return shown.render_as_string(hide_password=False)
