"""Backups of everything that cannot be computed again, taken while it is in use, and their way back.

A backup is one folder, named by its moment, with ``manifest.json`` naming every file and its sha256. The order of
copying makes the copies fit together: what was derived from the log (verdicts, lake, features) comes before the log,
so that nothing derived is ahead of it; the registry comes after it, so that whatever a promotion names is there. Within
each part, its watermark is copied before what it speaks of.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from attune import copies, event_log, redis_connection
from attune.clock import SECOND, Clock, from_datetime, system_clock, to_datetime, to_iso
from attune.copies import LogFacts
from attune.errors import BackupError, ConfigError
from attune.files import locked, sync, whole_folder
from attune.settings import Settings
from attune.tables import SCHEMA_VERSION

KEY, VERDICTS, LAKE, FEATURES, REGISTRY = "slate.key", "validation", "lake", "feast", "mlflow"
LOG_FILE, LOG_DUMP = "log/events.db", "log/events.dump"
REGISTRY_FILE, REGISTRY_DUMP, ARTIFACTS = "mlflow/mlflow.db", "mlflow/mlflow.dump", "mlflow/artifacts"
ONLINE = "feast/online/online.db"
WATERMARKS = ("feast/counted_upto", "feast/online/keeper.position")
"""How far the features have come: copied before the features, so that they never claim more than there is.

They speak of the SQLite online store. With Redis neither they nor its file are copied: an empty Redis is filled anew.
"""

FOR_TOOLS = "feast/feature_store.yaml"
"""Written again by ``attune env``; it may hold the password of a Redis."""
ASIDE = "aside"
"""Features in work for one training set; nobody needs them afterwards."""

FORMAT = 1
MANIFEST = "manifest.json"
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Backup:
    """One backup: the log that it holds up to ``head``, when it was made (microseconds), and what it leaves out."""

    folder: Path
    created_at: int
    log_id: str
    head: int
    files: int
    bytes: int
    not_copied: tuple[str, ...]


def backup(settings: Settings, folder: Path, clock: Clock = system_clock) -> Backup:
    """Copy everything into ``folder/<UTC stamp>``, which appears whole or not at all.

    Raises BackupError when the disk is full, something is damaged, or another backup is at work there; ConfigError
    where a database needs programs that are not installed.
    """
    with _lock(folder), _explained(folder):
        moment = clock()
        while (target := folder / to_datetime(moment).strftime(STAMP)).exists():
            moment += SECOND
        with whole_folder(target, mode=0o700) as draft:
            facts, digests, not_copied = _copy_everything(settings, draft)
            files = {
                name: {"sha256": digests[name], "bytes": (draft / name).stat().st_size} for name in sorted(digests)
            }
            log = {"schema": facts.schema, "log_id": facts.log_id, "head": facts.head}
            manifest = {"format": FORMAT, "created_at": to_iso(moment), **log, "not_copied": not_copied, "files": files}
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return _read(target)


def restore(settings: Settings, backup_folder: Path) -> Backup:
    """Bring a backup back to where ``settings`` say, which must be empty but for logs and backups.

    Everything is copied aside and checked before the first part takes its place; the log comes last. Raises BackupError
    for a backup that is damaged or of a newer attune and for a place that is not empty; ConfigError when the backup
    holds another kind of database than the settings name; FeatureStoreError without Redis. All is then as it was.
    """
    made = _read(backup_folder)
    files = _manifest(backup_folder)["files"]
    _check_place(settings, made, files)
    aside = settings.var / ".restoring"
    placed: list[Path] = []
    with _explained(settings.var):
        shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
        try:
            _check_files(made.folder, files, lambda path, name: copies.copy_file(path, aside / name))
            for name, target in _moves(settings, files):
                placed.append(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(aside / name, target)
                sync(target.parent)
            for name, url in _dumps(settings, files):
                copies.load_postgres(aside / name, url)
            for name in (ONLINE, *WATERMARKS) if settings.online_address else ():  # they speak of another online store
                _installed_path(settings, name).unlink(missing_ok=True)
        except BaseException:
            for target in placed:
                if target.is_dir():
                    shutil.rmtree(target, ignore_errors=True)
                target.unlink(missing_ok=True)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    event_log.prepare(settings.log_url)
    return made


def verify(backup_folder: Path) -> Backup:
    """Read every file of a backup again; raises BackupError naming the first that is not what it was."""
    made = _read(backup_folder)
    _check_files(made.folder, _manifest(backup_folder)["files"], lambda path, name: copies.digest_of(path))
    return made


def latest(folder: Path) -> Backup | None:
    """The newest backup in a folder, None where there is none."""
    paths = _oldest_first(folder)
    return _read(paths[-1]) if paths else None


def prune(folder: Path, keep: int, log_id: str | None = None) -> list[Path]:
    """Remove all but the ``keep`` newest backups (of one log, where it is named); those that were removed."""
    old = [path for path in _oldest_first(folder) if log_id is None or _read(path).log_id == log_id][: -max(keep, 1)]
    if not old:
        return []
    with _lock(folder):
        for path in old:
            leaving = path.with_name(f".{path.name}.draft")
            path.rename(leaving)  # at once: a half-removed backup has no valid name
            shutil.rmtree(leaving)
    return old


def _installed_path(settings: Settings, name: str) -> Path:
    """Where in the installation a part, or a file of one, comes from and goes back to."""
    part, _, within = name.partition("/")
    if name == REGISTRY_FILE and settings.mlflow_database_url:
        return copies.sqlite_path(settings.mlflow_database_url)
    if name == LOG_FILE:
        return copies.sqlite_path(settings.log_url)
    folders = {
        KEY: settings.var / KEY,
        VERDICTS: settings.validation_folder,
        LAKE: settings.lake_folder,
        FEATURES: settings.feast_folder,
        REGISTRY: settings.mlflow_folder,
    }
    return folders[part] / within if within else folders[part]


def _artifacts_folder(settings: Settings) -> Path | None:
    """The folder of MLflow's artifacts; None where they lie in an object store."""
    given = settings.mlflow_artifacts
    if "://" in given and not given.startswith("file://"):
        return None
    return Path(given.removeprefix("file://")) if given else settings.mlflow_folder / "artifacts"


def _registry_on_postgres(settings: Settings) -> bool:
    return bool(settings.mlflow_database_url) and copies.is_postgres(settings.mlflow_database_url)


def _is_copied(part: str, place: Path) -> bool:
    """Whether a file of a folder is copied as it is: no draft, no lock, nothing that is copied in another way."""
    if part == ARTIFACTS:
        return True
    if any(name.startswith(".") for name in place.parts) or place.suffix in (".lock", ".draft"):
        return False
    name = f"{part}/{place.as_posix()}"
    return not (name in (*WATERMARKS, FOR_TOOLS) or name.startswith((ONLINE, f"{FEATURES}/{ASIDE}/")))


def _moves(settings: Settings, files: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(part or file of the backup, where it goes) for all that is no database dump; the log comes last."""
    have = {name.partition("/")[0] for name in files}
    yield from ((part, _installed_path(settings, part)) for part in (KEY, VERDICTS, LAKE, FEATURES) if part in have)
    if _has_artifacts(files) and (folder := _artifacts_folder(settings)):
        yield ARTIFACTS, folder
    databases = [name for name in files if name.startswith(f"{REGISTRY}/") and name.count("/") == 1]
    yield from ((name, _installed_path(settings, name)) for name in databases if name != REGISTRY_DUMP)
    if LOG_FILE in files:
        yield LOG_FILE, _installed_path(settings, LOG_FILE)


def _dumps(settings: Settings, files: Collection[str]) -> Iterator[tuple[str, str]]:
    """(dump in the backup, the URL of the database that it goes to); the log comes last."""
    pairs = ((REGISTRY_DUMP, settings.mlflow_database_url), (LOG_DUMP, settings.log_url))
    yield from ((name, url) for name, url in pairs if name in files)


def _has_artifacts(files: Collection[str]) -> bool:
    return any(name.startswith(f"{ARTIFACTS}/") for name in files)


def _copy_everything(settings: Settings, draft: Path) -> tuple[LogFacts, dict[str, str], list[str]]:
    """All parts in their order; what the log says, the sha256 of every file, and what was not copied."""
    digests: dict[str, str] = {}
    for name in (KEY, *(() if settings.online_address else WATERMARKS)):
        with suppress(FileNotFoundError):
            digests[name] = copies.copy_file(_installed_path(settings, name), draft / name)
    digests |= _folder(settings.validation_folder, draft, VERDICTS)
    digests |= _folder(settings.lake_folder, draft, LAKE)
    left_out = []
    if address := settings.online_address:
        left_out = [f"the online store in {address}: the state keeper and the flow `materialize` fill an empty one"]
    else:
        digests |= _sqlite(_installed_path(settings, ONLINE), draft, ONLINE)
    digests |= _folder(settings.feast_folder, draft, FEATURES)
    if copies.is_postgres(settings.log_url):
        facts = copies.dump_log(settings.log_url, draft / LOG_DUMP)
        digests[LOG_DUMP] = copies.digest_of(draft / LOG_DUMP)
    else:
        digests[LOG_FILE] = copies.copy_sqlite(_installed_path(settings, LOG_FILE), draft / LOG_FILE)
        facts = copies.sqlite_log_facts(draft / LOG_FILE)
    of_registry, not_copied = _registry(settings, draft)
    return facts, digests | of_registry, left_out + not_copied


def _registry(settings: Settings, draft: Path) -> tuple[dict[str, str], list[str]]:
    """MLflow's database, those of its users, then the artifacts; and what lies elsewhere."""
    digests: dict[str, str] = {}
    if _registry_on_postgres(settings):
        copies.dump_postgres(settings.mlflow_database_url, draft / REGISTRY_DUMP)
        digests[REGISTRY_DUMP] = copies.digest_of(draft / REGISTRY_DUMP)
    else:
        digests |= _sqlite(_installed_path(settings, REGISTRY_FILE), draft, REGISTRY_FILE)
    for database in sorted(settings.mlflow_folder.glob("[!.]*.db")):
        if (name := f"{REGISTRY}/{database.name}") != REGISTRY_FILE:
            digests |= _sqlite(database, draft, name)
    if not digests and settings.mlflow_url:
        return digests, [f"the registry at {settings.mlflow_url}: whoever runs it keeps it"]
    if (artifacts := _artifacts_folder(settings)) is None:
        return digests, [f"the registry's artifacts in {settings.mlflow_artifacts}: the store's own copies keep them"]
    return digests | _folder(artifacts, draft, ARTIFACTS), []


def _folder(source: Path, draft: Path, part: str) -> dict[str, str]:
    digests = copies.copy_folder(source, draft / part, partial(_is_copied, part))
    return {f"{part}/{place.as_posix()}": digest for place, digest in digests.items()}


def _sqlite(source: Path, draft: Path, name: str) -> dict[str, str]:
    return {name: copies.copy_sqlite(source, draft / name)} if source.is_file() else {}


def _check_place(settings: Settings, made: Backup, files: Mapping[str, Any]) -> None:
    """Raise unless the settings name a database or store of the same kind for each part, and its place is empty."""
    if copies.is_postgres(settings.log_url) != (LOG_DUMP in files):
        kinds = ("PostgreSQL", "SQLite") if LOG_DUMP in files else ("SQLite", "PostgreSQL")
        raise ConfigError(f"the backup holds a log of {kinds[0]}, ATTUNE_DATABASE_URL names {kinds[1]}")
    wrong = REGISTRY_FILE if _registry_on_postgres(settings) else REGISTRY_DUMP
    if wrong in files:
        raise ConfigError(
            f"the backup holds the registry as {wrong}, ATTUNE_MLFLOW_DATABASE_URL names another database"
        )
    if _has_artifacts(files) and _artifacts_folder(settings) is None:
        raise ConfigError("the backup holds the registry's artifacts as files, ATTUNE_MLFLOW_ARTIFACTS names a store")
    var = settings.var.resolve()
    backups = (made.folder, settings.backups.resolve())
    others = {settings.logs_folder.name, ".restoring"}
    others |= {path.relative_to(var).parts[0] for path in backups if path != var and path.is_relative_to(var)}
    if there := sorted(path.name for path in var.glob("*") if path.name not in others):
        raise BackupError(f"{var} is not empty ({', '.join(there)}); restore into an empty folder: set ATTUNE_VAR")
    for _, target in _moves(settings, files):
        if target.exists():
            raise BackupError(f"{target} exists already; move it aside or name another place in the settings")
    for _, url in _dumps(settings, files):
        copies.check_empty_postgres(url)
    # a Redis must hold no states: they were folded from a log that is not the one coming back
    if (address := settings.online_address) and redis_connection.holds_ours(address):
        raise BackupError(
            f"{address} holds the online states of another log or another day; empty that database (FLUSHDB) or name "
            "another in ATTUNE_ONLINE_STORE_URL"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        newer = manifest["format"] > FORMAT or manifest["schema"] > SCHEMA_VERSION
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackupError(f"{folder} is no whole backup: its {MANIFEST} cannot be read ({error})") from error
    if newer:
        raise BackupError(f"{folder} was made by a newer attune; update this one, then restore")
    return manifest


def _read(folder: Path) -> Backup:
    manifest = _manifest(folder)
    try:
        sizes = [file["bytes"] for file in manifest["files"].values()]
        made = from_datetime(datetime.fromisoformat(manifest["created_at"]))
        log_id, head, not_copied = (manifest[name] for name in ("log_id", "head", "not_copied"))
        return Backup(folder.resolve(), made, log_id, head, len(sizes), sum(sizes), tuple(not_copied))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"{folder} is no whole backup: its {MANIFEST} lacks {error}") from error


def _check_files(folder: Path, files: Mapping[str, Any], read: Callable[[Path, str], str]) -> None:
    """Raise BackupError unless each file is there and ``read``, given its path and name, returns its digest."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder):
            raise BackupError(f"{path} is missing from its backup; take another backup")
        if read(path, name) != expected["sha256"]:
            raise BackupError(f"{path} is not what its manifest says: it was altered or cut short; take another backup")


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"[0-9]*Z/{MANIFEST}"))


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """The folder of backups, for one at a time; what a killed one left is removed."""
    busy = BackupError(f"another backup is at work in {folder}; wait for its end")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".lock", busy))
        except OSError as error:
            raise BackupError(
                f"{folder} cannot hold backups: {error.strerror}; name another ATTUNE_BACKUP_FOLDER"
            ) from error
        for left_over in folder.glob(".*.draft"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        raise BackupError(f"{folder}: {cause}; nothing was kept: free space or mend permissions, try again") from error
