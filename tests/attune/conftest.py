"""Databases for the ground floor: SQLite in a file, and a PostgreSQL server of the session's own."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attune.database import Database
from attune.event_log import EventLog, prepare
from attune.tables import log_head, metadata

DATABASES = ("sqlite", "postgresql")
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres(postgres_database: Callable[[str], str]) -> str:
    """The URL of a running PostgreSQL's database ``attune``."""
    return postgres_database("attune")


@pytest.fixture(params=DATABASES)
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log' / 'events.db'}"
    return str(request.getfixturevalue("postgres_database")(f"bare_{next(NUMBERS)}"))


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty tables, once for SQLite and once for PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'log' / 'events.db'}"
    else:
        url = request.getfixturevalue("postgres")
    prepare(url)
    empty(url)
    return url


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    """An empty log, once on SQLite and once on PostgreSQL."""
    log = EventLog(url, clock=lambda: 1_700_000_000_000_000, lock_seconds=5.0)
    yield log
    log.close()


@pytest.fixture
def fresh_log(url: str, log: EventLog) -> Callable[[], EventLog]:
    """The same log, emptied at each call: for properties, whose examples share one fixture."""

    def emptied() -> EventLog:
        empty(url)
        return log

    return emptied


def empty(url: str) -> None:
    """Throw everything away that the tables at ``url`` hold."""
    database = Database(url)
    with database.writing() as connection:
        for table in metadata.tables.values():
            if table is not log_head:
                connection.execute(table.delete())
        connection.execute(log_head.update().values(position=0))
    database.close()
