"""What a backup consists of, and where in an installation each part of it belongs."""

from collections.abc import Collection, Iterator
from pathlib import Path

from attune import copies
from attune.errors import ConfigError
from attune.settings import Settings

KEY, VERDICTS, LAKE, FEATURES, REGISTRY = "slate.key", "validation", "lake", "feast", "mlflow"
LOG_FILE, LOG_DUMP = "log/events.db", "log/events.dump"
REGISTRY_FILE, REGISTRY_DUMP, ARTIFACTS = "mlflow/mlflow.db", "mlflow/mlflow.dump", "mlflow/artifacts"
ONLINE = "feast/online/online.db"
NOTES = ("feast/counted_upto", "feast/online/keeper.position")
"""How far the features have come: copied before the features, so that they never claim more than there is.

They speak of the SQLite online store. Where Redis is the online store, neither they nor the file are copied or brought
back: the features then begin again and fill an empty Redis.
"""

FOR_TOOLS = "feast/feature_store.yaml"
"""Written again by ``attune env``; it may hold the password of a Redis."""
ASIDE = "aside"
"""Features in work for one training set; nobody needs them afterwards."""


def belongs(settings: Settings, name: str) -> Path:
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


def notes(settings: Settings) -> tuple[str, ...]:
    """Those of the ``NOTES`` that speak of what is copied."""
    return () if settings.online_address else NOTES


def of_no_use(settings: Settings) -> Iterator[Path]:
    """Files of a backup's folders that must not stay where it was brought back: they speak of another online store."""
    if settings.online_address:
        yield from (belongs(settings, name) for name in (ONLINE, *NOTES))


def artifacts_folder(settings: Settings) -> Path | None:
    """The folder of MLflow's artifacts; None where they lie in an object store."""
    given = settings.mlflow_artifacts
    if "://" in given and not given.startswith("file://"):
        return None
    return Path(given.removeprefix("file://")) if given else settings.mlflow_folder / "artifacts"


def registry_on_postgres(settings: Settings) -> bool:
    """Whether MLflow's database is a PostgreSQL one."""
    return bool(settings.mlflow_database_url) and copies.is_postgres(settings.mlflow_database_url)


def to_be_copied(part: str, place: Path) -> bool:
    """Whether a file of a folder is copied as it is: no draft, no lock, nothing that is copied in another way."""
    if part == ARTIFACTS:
        return True
    if any(name.startswith(".") for name in place.parts) or place.suffix in (".lock", ".draft"):
        return False
    name = f"{part}/{place.as_posix()}"
    return not (name in (*NOTES, FOR_TOOLS) or name.startswith((ONLINE, f"{FEATURES}/{ASIDE}/")))


def moves(settings: Settings, files: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(part or file of the backup, where it goes) for all that is no database dump; the log comes last."""
    have = {name.partition("/")[0] for name in files}
    yield from ((part, belongs(settings, part)) for part in (KEY, VERDICTS, LAKE, FEATURES) if part in have)
    if _has_artifacts(files) and (folder := artifacts_folder(settings)):
        yield ARTIFACTS, folder
    databases = [name for name in files if name.startswith(f"{REGISTRY}/") and name.count("/") == 1]
    yield from ((name, belongs(settings, name)) for name in databases if name != REGISTRY_DUMP)
    if LOG_FILE in files:
        yield LOG_FILE, belongs(settings, LOG_FILE)


def dumps(settings: Settings, files: Collection[str]) -> Iterator[tuple[str, str]]:
    """(dump in the backup, the URL of the database that it goes to); the log comes last."""
    pairs = ((REGISTRY_DUMP, settings.mlflow_database_url), (LOG_DUMP, settings.log_url))
    yield from ((name, url) for name, url in pairs if name in files)


def check_kinds(settings: Settings, files: Collection[str]) -> None:
    """Raise ConfigError where the settings name a database or a store of another kind than the backup holds."""
    if copies.is_postgres(settings.log_url) != (LOG_DUMP in files):
        kinds = ("PostgreSQL", "SQLite") if LOG_DUMP in files else ("SQLite", "PostgreSQL")
        raise ConfigError(f"the backup holds a log of {kinds[0]}, ATTUNE_DATABASE_URL names {kinds[1]}")
    wrong = REGISTRY_FILE if registry_on_postgres(settings) else REGISTRY_DUMP
    if wrong in files:
        raise ConfigError(
            f"the backup holds the registry as {wrong}, ATTUNE_MLFLOW_DATABASE_URL names another database"
        )
    if _has_artifacts(files) and artifacts_folder(settings) is None:
        raise ConfigError("the backup holds the registry's artifacts as files, ATTUNE_MLFLOW_ARTIFACTS names a store")


def _has_artifacts(files: Collection[str]) -> bool:
    return any(name.startswith(f"{ARTIFACTS}/") for name in files)
