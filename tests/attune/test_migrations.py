"""The migrated schema is the one that the code speaks; migrating is idempotent and may happen twice at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from attune.api_keys import ApiKeys
from attune.database import MIGRATIONS, Database
from attune.errors import EventLogError
from attune.event_log import EventLog, prepare
from attune.promotions import Promotion, Promotions
from attune.tables import SCHEMA_VERSION, metadata

ROOT = Path(__file__).parents[2]


def test_the_newest_migration_is_the_one_that_the_code_wants() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


def test_migrating_gives_the_tables_of_the_code(bare_url: str) -> None:
    prepare(bare_url)
    database = Database(bare_url)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("events")}
        assert indexes["events_by_id"]["unique"]
        conditions = [str(value) for value in indexes["events_tail"]["dialect_options"].values()]
    assert any("interaction" in condition and "slate" not in condition for condition in conditions)
    database.close()


def test_preparing_again_keeps_what_is_there(log: EventLog, url: str) -> None:
    log_id = log.log_id()
    with log._database.writing() as connection:
        connection.execute(text("UPDATE log_head SET position = 41"))
    prepare(url)
    assert log.head() == 41
    assert log.log_id() == log_id


def test_many_may_prepare_at_once(bare_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, [bare_url] * 4))
    log = EventLog(bare_url)
    assert log.head() == 0
    log.close()


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_processes_may_prepare_at_once(bare_url: str) -> None:
    program = "import sys; from attune.event_log import prepare; prepare(sys.argv[1])"
    several = [subprocess.Popen([sys.executable, "-c", program, bare_url], cwd=ROOT) for _ in range(2)]
    assert [one.wait(60) for one in several] == [0, 0]
    EventLog(bare_url).close()


@pytest.mark.parametrize("version", ["0000", "9999"])
def test_tables_of_another_version_are_refused(url: str, version: str) -> None:
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    try:
        with pytest.raises(EventLogError, match=f"version {version}, this code needs {SCHEMA_VERSION}"):
            EventLog(url)
    finally:
        with database.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": SCHEMA_VERSION})
        database.close()


def test_every_log_has_an_id_of_its_own(bare_url: str, tmp_path: Path) -> None:
    ids = set()
    for url in (bare_url, f"sqlite:///{tmp_path / 'other.db'}", f"sqlite:///{tmp_path / 'third.db'}"):
        prepare(url)
        log = EventLog(url)
        ids.add(log.log_id())
        log.close()
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


def test_one_row_only_in_the_head(url: str) -> None:
    database = Database(url)
    with pytest.raises(EventLogError), database.writing() as connection:
        connection.execute(text("INSERT INTO log_head (id, position, log_id) VALUES (2, 0, 'x')"))
    database.close()


def test_promotions_of_before_the_digest_are_kept(alembic: Config, bare_url: str) -> None:
    command.upgrade(alembic, "0001")
    database = Database(bare_url)
    row = "INSERT INTO promotions VALUES ('default', 1, '7', NULL, 'promote', 'ada', 'all gates passed', 5)"
    with database.writing() as connection:
        connection.execute(text(row))
    database.close()
    command.upgrade(alembic, "head")
    promotions = Promotions(bare_url)
    champion = promotions.champion("default")
    promotions.close()
    assert champion == Promotion(1, "default", "7", None, "promote", "ada", "all gates passed", 5)
    assert champion.bundle_name == "7"


def test_quarantined_rows_of_before_the_imports_are_open(alembic: Config, bare_url: str) -> None:
    command.upgrade(alembic, "0005")
    database = Database(bare_url)
    names = "digest, source, type, row_number, reason, row, stored_at"
    with database.writing() as connection:
        row = "'a.csv', 'interaction', 0, 'no', '{}', 5"
        connection.execute(text(f"INSERT INTO quarantine ({names}) VALUES (:digest, {row})"), {"digest": b"1"})
    database.close()
    command.upgrade(alembic, "head")
    log = EventLog(bare_url)
    assert (log.quarantined(), log.imports.latest(9)) == (1, [])
    log.close()


def test_keys_come_and_go_by_migration(alembic: Config, bare_url: str) -> None:
    command.upgrade(alembic, "0002")
    for _ in range(2):
        command.upgrade(alembic, "head")
        keys = ApiKeys(bare_url)
        keys.create("shop", ["recommend"])
        keys.close()
        command.downgrade(alembic, "0002")
    database = Database(bare_url)
    with database.reading() as connection:
        assert "api_keys" not in inspect(connection).get_table_names()
    database.close()


@pytest.fixture
def alembic(bare_url: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """What ``alembic -c attune/migrations/alembic.ini`` reads, its output kept, for the test's database."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ATTUNE_DATABASE_URL", bare_url)
    return Config("attune/migrations/alembic.ini", stdout=StringIO(), output_buffer=StringIO())


def test_alembics_own_commands(alembic: Config, bare_url: str) -> None:
    command.upgrade(alembic, "head")
    EventLog(bare_url).close()
    command.current(alembic)
    command.check(alembic)
    told = alembic.stdout.getvalue()  # type: ignore[attr-defined]
    assert f"{SCHEMA_VERSION} (head)" in told
    assert "No new upgrade operations detected" in told
    with pytest.raises(NotImplementedError, match="cannot be undone"):
        command.downgrade(alembic, "base")
    EventLog(bare_url).close()


def test_the_migration_as_sql(alembic: Config) -> None:
    command.upgrade(alembic, "head", sql=True)
    written = alembic.output_buffer.getvalue()  # type: ignore[attr-defined]
    assert "CREATE TABLE events" in written
    assert "INSERT INTO log_head (id, position, log_id) VALUES (1, 0, " in written
