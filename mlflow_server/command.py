"""How the tracking server and registry are started: one process of MLflow's own, artifacts through its proxy.

Nothing secret stands on the command line, where every user of the machine could read it: PostgreSQL's password, the
administrator's and the key that signs forms go by the environment. The keys of an object store (``AWS_*``,
``MLFLOW_S3_ENDPOINT_URL``) are the server's alone: it reads them from its own environment, and clients ask it.
"""

import sys
from pathlib import Path

from attune.errors import ConfigError
from attune.settings import Settings
from mlflow_server import rules

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
OWN_NAMES = ("127.0.0.1", "localhost")
OBJECT_STORE = "s3://"


def prepare(settings: Settings) -> None:
    """Check the settings, make the folders, and bring the database to the schema of this MLflow (see ``schema``).

    Raises ConfigError when the server could or should not start with these settings, BackupError when the database
    needs another schema and no copy of it can be made before.
    """
    from mlflow_server import login, schema  # their libraries take half a second, and who asks for help needs none

    rules.check(settings)
    _given_hosts(settings)
    try:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        _prepare_artifacts(artifacts(settings))
        if settings.mlflow_auth:
            login.prepare(settings)
    except OSError as error:
        raise ConfigError(f"MLflow cannot write to {error.filename}: {error.strerror}; set ATTUNE_VAR") from error
    schema.prepare(settings)


def command(settings: Settings, host: str, port: int) -> list[str]:
    """The command line of the server at this address, to be run with ``environment`` added to one's own."""
    url, _ = _database(settings)
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", url),
        *("--artifacts-destination", artifacts(settings)),
        *("--allowed-hosts", ",".join(_hosts(settings, host, port))),
        *_origins(settings, port),
        *(("--app-name", "basic-auth") if settings.mlflow_auth else ()),
    ]


def environment(settings: Settings) -> dict[str, str]:
    """What the server must be told beside its command line; holds secrets, so it is for the server alone."""
    _, told = _database(settings)
    if not settings.mlflow_auth:
        return {**ENVIRONMENT, **told}
    from mlflow_server import login

    return {**ENVIRONMENT, **told, **login.environment(settings)}


def database_url(settings: Settings) -> str:
    """The SQLAlchemy URL of MLflow's database, password and all. Raises ConfigError for what is no such URL."""
    given = settings.mlflow_database_url
    if not given:
        return f"sqlite:///{settings.mlflow_folder.resolve() / 'mlflow.db'}"
    from attune import copies
    from attune.database import checked_url

    url = checked_url(given)
    if not copies.is_postgres(given):
        url = url.set(database=str(copies.sqlite_path(given).resolve()))
    return url.render_as_string(hide_password=False)


def artifacts(settings: Settings) -> str:
    """The folder of the artifacts, from the root, or their place in an object store. Raises ConfigError."""
    given = settings.mlflow_artifacts.removeprefix("file://")
    if given.startswith(OBJECT_STORE):
        return given
    if "://" in given:
        raise ConfigError(f"ATTUNE_MLFLOW_ARTIFACTS is {given}: name a folder or s3://BUCKET/PATH")
    return str((Path(given) if given else settings.mlflow_folder / "artifacts").resolve())


def _database(settings: Settings) -> tuple[str, dict[str, str]]:
    """The database's URL without its password, and the password as PostgreSQL's library reads it."""
    url = database_url(settings)
    if url.startswith("sqlite"):
        return url, {}
    from attune.database import checked_url

    parsed = checked_url(url)
    told = {} if parsed.password is None else {"PGPASSWORD": str(parsed.password)}
    return parsed._replace(password=None).render_as_string(hide_password=False), told


def _hosts(settings: Settings, host: str, port: int) -> list[str]:
    """The names that a request's Host header may hold."""
    own = dict.fromkeys((host, f"{host}:{port}", *(f"{name}:{port}" for name in OWN_NAMES)))
    given = [name if ":" in name else f"{name},{name}:{port}" for name in _given_hosts(settings)]
    return [*own, *given]


def _origins(settings: Settings, port: int) -> tuple[str, ...]:
    """Pages from where MLflow's own interface may be used under the given names; localhost's always may."""
    origins = [
        f"{scheme}://{place}"
        for name in _given_hosts(settings)
        for place in ((name,) if ":" in name else (name, f"{name}:{port}"))
        for scheme in ("https", "http")
    ]
    return ("--cors-allowed-origins", ",".join(origins)) if origins else ()


def _given_hosts(settings: Settings) -> list[str]:
    """The names of the settings. Raises ConfigError for what is no name, and for one that stands for all."""
    names = [name.strip() for name in settings.mlflow_hosts.split(",") if name.strip()]
    for name in names:
        if "/" in name or " " in name or not name.strip("*.:"):
            raise ConfigError(
                f"ATTUNE_MLFLOW_HOSTS holds {name!r}, which is no host name; give names like mlflow.example.org"
            )
    return names


def _prepare_artifacts(place: str) -> None:
    if not place.startswith(OBJECT_STORE):
        Path(place).mkdir(parents=True, exist_ok=True)
