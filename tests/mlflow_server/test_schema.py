"""MLflow's database is brought up to date with a copy of what was, and nothing is lost however that ends."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from attune.clock import SECOND
from attune.errors import ConfigError
from attune.settings import Settings
from mlflow_server import schema

NOW = 1795312800 * SECOND
STAMP = "20261122T020000Z"
OLD = "cbc13b556ace"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path)


@pytest.fixture
def path(settings: Settings) -> Path:
    settings.mlflow_folder.mkdir()
    return settings.mlflow_folder / "mlflow.db"


def prepare(settings: Settings) -> None:
    schema.prepare(settings, lambda: NOW)


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def revision(path: Path) -> object:
    return ask(path, schema.REVISION)[0][0]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.endswith(("-wal", "-shm"))}


def test_the_revision_read_from_the_files_is_mlflows_own() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert schema.schemas().head == _get_latest_schema_revision()
    assert {schema.schemas().head, "451aebb31d03"} < schema.schemas().known


def test_a_new_database_is_left_to_mlflow_in_wal_mode(settings: Settings) -> None:
    prepare(settings)
    path = settings.mlflow_folder / "mlflow.db"
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    assert ask(path, "SELECT * FROM sqlite_master") == []
    prepare(settings)
    assert names(settings.mlflow_folder) == {"mlflow.db"}


def test_a_database_of_today_is_left_alone(settings: Settings, path: Path, new_file: Path) -> None:
    shutil.copy(new_file, path)
    prepare(settings)
    assert names(path.parent) == {"mlflow.db"}
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


def test_an_older_one_is_upgraded_and_kept_as_it_was_whoever_was_killed_meanwhile(
    settings: Settings, path: Path, old_file: Path
) -> None:
    shutil.copy(old_file, path)
    with closing(sqlite3.connect(path)) as connection:  # what is only in the WAL belongs to it too
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE runs SET name = 'kept by the log'")
        connection.commit()
    kill_when_at_work(settings, path.with_name(".mlflow.db.draft"))
    assert revision(path) == OLD
    prepare(settings)
    kept = path.with_name(f"mlflow.db.before-{OLD}-{STAMP}")
    assert names(path.parent) == {"mlflow.db", kept.name}
    assert (revision(path), revision(kept)) == (schema.schemas().head, OLD)
    for file in (path, kept):
        assert ask(file, "SELECT run_uuid, name FROM runs") == [("r1", "kept by the log")]
    prepare(settings)
    assert names(path.parent) == {"mlflow.db", kept.name}


def kill_when_at_work(settings: Settings, draft: Path) -> None:
    code = "from attune.settings import Settings; from mlflow_server import schema; schema.prepare(Settings())"
    told = {**os.environ, **settings.as_environment()}
    killed = subprocess.Popen([sys.executable, "-c", code], env=told, start_new_session=True)
    while not (draft.exists() and draft.stat().st_size):
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()


def test_an_upgrade_that_fails_leaves_everything_as_it_was(settings: Settings, path: Path, old_file: Path) -> None:
    shutil.copy(old_file, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE webhooks (in_the_way INTEGER)")  # a later migration makes one of that name
        connection.commit()
    with pytest.raises(ConfigError, match=r"mlflow db upgrade.*as it was before.*table webhooks already exists"):
        prepare(settings)
    assert revision(path) == OLD
    assert names(path.parent) <= {"mlflow.db", ".mlflow.db.draft"}


def test_a_database_that_another_server_has_open_is_not_upgraded(
    settings: Settings, path: Path, old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(old_file, path)
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.1)
    code = f"""
import sqlite3
other = sqlite3.connect({str(path)!r})
other.execute("PRAGMA journal_mode=WAL").fetchone(), other.execute("SELECT * FROM runs").fetchone()
print("open", flush=True), input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match="in use by another process"):
            prepare(settings)
        other.communicate("\n")
    assert revision(path) == OLD


def test_a_database_of_a_newer_mlflow_is_refused(settings: Settings, path: Path, old_file: Path) -> None:
    shutil.copy(old_file, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
        connection.commit()
    with pytest.raises(ConfigError, match=r"fffffffffff0.*newer"):
        prepare(settings)
    assert names(path.parent) == {"mlflow.db"}


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_half_written_file_is_refused_and_left(settings: Settings, path: Path, new_file: Path, share: float) -> None:
    whole = new_file.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigError, match=r"mlflow.db is no whole SQLite database .*attune restore"):
        prepare(settings)
    assert path.stat().st_size == int(len(whole) * share)


def test_another_file_is_refused(settings: Settings, path: Path) -> None:
    path.write_text("no database " * 1000)
    with pytest.raises(ConfigError, match="no whole SQLite database"):
        prepare(settings)


def test_a_database_whose_making_was_cut_short_is_moved_aside(settings: Settings, path: Path, old_file: Path) -> None:
    shutil.copy(old_file, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DELETE FROM alembic_version; DELETE FROM runs")
    prepare(settings)
    assert names(path.parent) == {"mlflow.db", f"mlflow.db.unfinished-{STAMP}"}
    assert ask(path, "SELECT * FROM sqlite_master") == []


@pytest.mark.long
def test_postgresql_is_upgraded_after_a_dump(
    settings: Settings, old_postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = settings.model_copy(update={"mlflow_database_url": old_postgres})
    settings.mlflow_folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(ConfigError, match="pg_dump is not on PATH"):
            prepare(there)
    prepare(there)
    with psycopg.connect(old_postgres) as connection:
        assert connection.execute(schema.REVISION).fetchone() == (schema.schemas().head,)
        assert connection.execute("SELECT run_uuid, name FROM runs").fetchall() == [("r1", "kept")]
    assert names(settings.mlflow_folder) == {f"mlflow.dump.before-{OLD}-{STAMP}"}
    listed = subprocess.run(["pg_restore", "--list", *settings.mlflow_folder.iterdir()], capture_output=True, text=True)
    assert "TABLE DATA public runs" in listed.stdout
    prepare(there)
    assert len(names(settings.mlflow_folder)) == 1


def test_a_new_postgresql_database_is_left_to_mlflow(settings: Settings, postgres: Callable[[str], str]) -> None:
    url = postgres("empty")
    prepare(settings.model_copy(update={"mlflow_database_url": url}))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == []


def test_a_postgresql_that_does_not_answer_is_named_without_its_password(settings: Settings) -> None:
    url = "postgresql://ann:hushhush@127.0.0.1:9/mlflow"
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9") as refused:
        prepare(settings.model_copy(update={"mlflow_database_url": url}))
    assert "hushhush" not in str(refused.value)
