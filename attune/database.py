"""The database under the event log and the promotions: SQLite in one file, or PostgreSQL, by the same code.

SQLite comes from ``pysqlite3``, since Python's own may carry the WAL-reset bug that 3.51.3 fixed. It runs in WAL
mode with ``synchronous=FULL``: what is committed is on the disk. A writing transaction takes the one write lock at
its very start, so it never fails half-way for somebody else's sake.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from attune.clock import Clock, system_clock
from attune.errors import ConfigError, EventLogError, LogBusy
from attune.tables import SCHEMA_VERSION

OLDEST_SQLITE = (3, 51, 3)
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=4000")
"""64 MiB of page cache, since the index over event ids is hit at random places; a checkpoint every 16 MiB."""

PREPARE_SECONDS = 60.0
MIGRATIONS = Path(__file__).parent / "migrations"
CURE = "alembic -c attune/migrations/alembic.ini upgrade head"
MIGRATION_LOCK = 0x617474756E65
"""PostgreSQL's advisory lock that migrations take, so that two processes may prepare at once."""

PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""libpq's own: a PostgreSQL whose machine vanished without a word is given up within seconds, not hours. What the URL
says of these goes before."""

WRITES = "attune_write_seconds"
"""Execution option of a writing transaction: how long it may wait for the lock."""

POSTGRES_BUSY = {"55P03", "40001", "40P01"}
"""lock_not_available, serialization_failure, deadlock_detected: rolled back whole, may be tried again."""


def checked_url(url: str) -> URL:
    """The SQLAlchemy URL with our driver in it; ConfigError for anything but a SQLite file or PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"database: {url!r} is no URL; use sqlite:///PATH or postgresql://USER@HOST/NAME") from error
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"database: {backend!r} is not supported; use sqlite:///PATH or postgresql://USER@HOST/NAME")
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError("database: SQLite in memory forgets what it acknowledged; name a file: sqlite:///PATH")
    return parsed


_ONE_ALEMBIC = threading.Lock()
"""alembic keeps the migration that runs in module-wide state: threads of one process take turns."""


def prepare(url: str) -> None:
    """Create or update the tables (and SQLite's folder), in one transaction; several processes may call it at once.

    Raises ConfigError for a URL that cannot be meant, EventLogError when the database cannot be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    database = Database(url, lock_seconds=PREPARE_SECONDS, create=True)
    with closing(database), _ONE_ALEMBIC, database.migration() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


class Database:
    """Connections, transactions and errors; several threads may share one."""

    def __init__(self, url: str, lock_seconds: float = 10.0, create: bool = False) -> None:
        """``lock_seconds`` is how long a writer waits for another; ``create`` makes SQLite's file where it is absent.

        Raises ConfigError for a URL that cannot be meant, EventLogError where there is no database.
        """
        self.url = checked_url(url)
        self.lock_seconds = lock_seconds
        self._turn = threading.Lock()
        self.engine = self._postgres() if self.url.get_backend_name() == "postgresql" else self._sqlite(create)

    @property
    def where(self) -> str:
        """The database in words, without its password."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Reads only: every statement may see a newer state than the one before it."""
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, rolled back whole if the block raises; LogBusy if the lock takes over ``lock_seconds``."""
        with self._explained(), self._own_turn() as seconds, self.engine.connect() as plain:
            connection = plain.execution_options(**{WRITES: seconds})
            with connection.begin():
                yield connection

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """A writing transaction that no other migration runs beside."""
        with self.writing() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            yield connection

    def check_schema(self) -> None:
        """Raise EventLogError with the cure unless the tables are those that this code knows."""
        try:
            with self.engine.connect() as connection:
                version = connection.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError as error:
            if "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01":
                raise EventLogError(f"{self.where} has no tables yet; create them with `{CURE}`") from error
            raise self._explain(error) from error
        if version != SCHEMA_VERSION:
            raise EventLogError(
                f"{self.where} has tables of version {version}, this code needs {SCHEMA_VERSION}; bring the older of "
                f"the two up to date (tables: `{CURE}`)"
            )

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()

    def _sqlite(self, create: bool) -> Engine:
        if sqlite.sqlite_version_info < OLDEST_SQLITE:
            raise EventLogError(f"SQLite {sqlite.sqlite_version} is too old: install pysqlite3 with 3.51.3 or newer")
        path = Path(self.url.database or "")
        if create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EventLogError(f"the event log's folder {path.parent} cannot be made: {error.strerror}") from error
        elif not path.is_file():
            raise EventLogError(f"there is no event log at {path}; create it with `{CURE}`")
        connect_args = {"isolation_level": None, "timeout": self.lock_seconds}
        engine = create_engine(self.url, module=sqlite, connect_args=connect_args, pool_timeout=self.lock_seconds)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", self._begin_sqlite)
        return engine

    def _postgres(self) -> Engine:
        engine = create_engine(
            self.url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_timeout=self.lock_seconds,
            connect_args={name: value for name, value in PATIENCE.items() if name not in self.url.query},
        )
        event.listen(engine, "connect", _set_up_postgres)
        event.listen(engine, "begin", _begin_postgres)
        return engine

    def _begin_sqlite(self, connection: Connection) -> None:
        """A writer takes the lock; a reader's statements each stand alone, which saves it another one."""
        seconds = connection.get_execution_options().get(WRITES)
        driver: Any = connection.connection.dbapi_connection
        tenths = math.ceil(10 * (self.lock_seconds if seconds is None else seconds))
        if connection.info.get(WRITES) != tenths:
            driver.execute(f"PRAGMA busy_timeout={100 * tenths}")
            connection.info[WRITES] = tenths
        if seconds is not None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def _own_turn(self) -> Iterator[float]:
        """Threads of this process queue here, in place of polling SQLite's lock; gives the seconds left to wait."""
        if self.engine.dialect.name != "sqlite":
            yield self.lock_seconds
            return
        start = time.monotonic()
        if not self._turn.acquire(timeout=self.lock_seconds):
            raise self._busy()
        try:
            yield max(self.lock_seconds - (time.monotonic() - start), 0.0)
        finally:
            self._turn.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._explain(error) from error

    def _explain(self, error: SQLAlchemyError) -> EventLogError:
        if isinstance(error, PoolTimeout):
            return LogBusy(
                f"{self.where}: every connection of this process is in use; nothing was written: repeat the call"
            )
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorcode", None)
        is_locked = code is not None and code & 0xFF in (sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED)
        if is_locked or getattr(cause, "sqlstate", None) in POSTGRES_BUSY:
            return self._busy()
        if "disk is full" in str(cause):
            return EventLogError(
                f"the disk of {self.where} is full; nothing was written: free space and repeat the call"
            )
        return EventLogError(
            f"{self.where}: {str(cause).strip()}; nothing was acknowledged: once the cause is gone, repeat the call "
            "with the same event ids (what may have been written already counts once)"
        )

    def _busy(self) -> LogBusy:
        return LogBusy(
            f"{self.where}: another writer held the lock for {self.lock_seconds:g} s; "
            "nothing was written: repeat the call"
        )


class Tables:
    """What works on tables of one database; threads may share it. Every method may raise EventLogError."""

    def __init__(self, url: str, clock: Clock = system_clock, lock_seconds: float = 10.0) -> None:
        """Open the database; tables are made by ``prepare``, never here. A writer waits ``lock_seconds`` for another.

        Raises ConfigError for the URL, EventLogError when there are no tables or those of another version.
        """
        self._database = Database(url, lock_seconds)
        self._clock = clock
        self._database.check_schema()

    def close(self) -> None:
        self._database.close()


def _set_up_sqlite(connection: Any, record: object) -> None:
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _set_up_postgres(connection: Any, record: object) -> None:
    """An acknowledged event is on the disk, also where the server's default is a faster, weaker commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _begin_postgres(connection: Connection) -> None:
    seconds = connection.get_execution_options().get(WRITES)
    if seconds is not None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(int(seconds * 1000), 1)}")
