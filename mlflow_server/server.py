"""Starts the tracking server and registry in the foreground: ``python -m mlflow_server.server``.

It is one process of MLflow's own (see ``pages``), which hands artifacts out through its proxy. Every user of a machine
can read command lines, so PostgreSQL's password, the administrator's and the key that signs forms go by environment.
The server reads the keys of an object store (``AWS_*``, ``MLFLOW_S3_ENDPOINT_URL``) from its own; clients have none.
"""

import logging
import os
import secrets
import sys
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pysqlite3.dbapi2 as sqlite
from pydantic import SecretStr, ValidationError
from werkzeug.security import check_password_hash, generate_password_hash

from attune import process
from attune.errors import AttuneError, ConfigError
from attune.files import write_whole
from attune.settings import Settings

HOST = "127.0.0.1"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
OWN_NAMES = ("127.0.0.1", "localhost")
OBJECT_STORE = "s3://"

SHORTEST_PASSWORD = 12
"""Characters; MLflow itself refuses shorter ones."""

TRIED_FIRST = (
    *("password", "passw0rd", "admin", "administrator", "changeme", "change-me", "default", "letmein", "mlflow"),
    *("attune", "qwerty", "secret", "test", "welcome"),
)
"""Passwords that an attacker tries first; also twice in a row, and with digits and marks around them
(``password1234`` was MLflow's own)."""

MARKS = "0123456789!?.,-_*#$ "

REMEMBERED_SECONDS = 300
"""How long a password that was right is not hashed again, which costs a tenth of a second of each request. With one
worker a changed password, role or removed person is felt at once all the same."""

HASH = "SELECT password_hash FROM users WHERE username = ?"
NEW_HASH = "UPDATE users SET password_hash = ? WHERE username = ?"


def check(settings: Settings) -> None:
    """Raise ConfigError for secrets that are missing, too short or known to everybody.

    In the production profile MLflow must ask for passwords and have a key of its own to sign forms with.
    """
    production = settings.profile == "production"
    if production and not settings.mlflow_auth:
        raise ConfigError(
            "ATTUNE_PROFILE is production, and MLflow would let anybody in: set ATTUNE_MLFLOW_AUTH=true with"
            " ATTUNE_MLFLOW_PASSWORD and ATTUNE_MLFLOW_SECRET_KEY"
        )
    if settings.mlflow_auth:
        check_name(settings.mlflow_username, "ATTUNE_MLFLOW_USERNAME")
        check_password(_text(settings.mlflow_password), settings.mlflow_username, "ATTUNE_MLFLOW_PASSWORD")
    key = _text(settings.mlflow_secret_key)
    if production and (not key or _known(key) or len(key) < SHORTEST_PASSWORD):
        raise ConfigError(
            f"ATTUNE_MLFLOW_SECRET_KEY is {'a usual one' if key else 'not set'}: set it to at least"
            f" {SHORTEST_PASSWORD} random characters, as `openssl rand -hex 32` prints them"
        )


def check_name(name: str, what: str) -> None:
    """Raise ConfigError for what cannot be a user's name; ``what`` says which setting or person is meant."""
    if not name.strip() or ":" in name or not name.isprintable():
        raise ConfigError(f"{what} is {name!r}; a name has no colon and is not empty")


def check_password(password: str, name: str, what: str) -> None:
    """Raise ConfigError for a password that is missing, short, or known to everybody or by the person's name."""
    if not password:
        raise ConfigError(f"{what} is empty; choose a password of at least {SHORTEST_PASSWORD} characters")
    if _known(password, name):
        raise ConfigError(f"{what} is among the first that an attacker tries; choose another")
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError(f"{what} has {len(password)} characters; choose a password of at least {SHORTEST_PASSWORD}")


def _known(secret: str, *names: str) -> bool:
    """Whether nothing is left of it without marks and one of the known words, however often that is said."""
    bare = secret.lower().strip(MARKS)
    return len(set(bare)) < 2 or any(
        not bare.replace(word.lower(), "").strip(MARKS) for word in (*TRIED_FIRST, *names) if word
    )


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def prepare(settings: Settings) -> None:
    """Check the settings, make the folders, and bring the database to the schema of this MLflow (see ``schema``).

    Raises ConfigError when the server could or should not start with these settings, BackupError when the database
    needs another schema and no copy of it can be made before.
    """
    from mlflow_server import schema

    check(settings)
    _given_hosts(settings)
    try:
        settings.mlflow_folder.mkdir(parents=True, exist_ok=True)
        if not (place := artifacts(settings)).startswith(OBJECT_STORE):
            Path(place).mkdir(parents=True, exist_ok=True)
        if settings.mlflow_auth:
            prepare_login(settings)
    except OSError as error:
        raise ConfigError(f"MLflow cannot write to {error.filename}: {error.strerror}; set ATTUNE_VAR") from error
    schema.prepare(settings)


def command(settings: Settings, host: str, port: int) -> list[str]:
    """The command line of the server at this address, to be run with ``environment`` added to one's own."""
    url, _ = without_password(database_url(settings))
    names = _given_hosts(settings)
    own_hosts = dict.fromkeys((host, f"{host}:{port}", *(f"{name}:{port}" for name in OWN_NAMES)))
    hosts = [*own_hosts, *(name if ":" in name else f"{name},{name}:{port}" for name in names)]
    places = [place for name in names for place in ((name,) if ":" in name else (name, f"{name}:{port}"))]
    # Pages under these names may use MLflow's own interface; pages of localhost always may.
    origins = [f"{scheme}://{place}" for place in places for scheme in ("https", "http")]
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", url),
        *("--artifacts-destination", artifacts(settings)),
        *("--allowed-hosts", ",".join(hosts)),
        *(("--cors-allowed-origins", ",".join(origins)) if origins else ()),
        *("--app-name", "attune-guarded" if settings.mlflow_auth else "attune"),
    ]


def environment(settings: Settings) -> dict[str, str]:
    """The variables that the server needs beside its command line; they hold secrets, so they are for it alone."""
    variables = {**ENVIRONMENT, **without_password(database_url(settings))[1]}
    if settings.mlflow_auth:
        variables |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(auth_file(settings)),
            "MLFLOW_AUTH_ADMIN_PASSWORD": _text(settings.mlflow_password),
            # With a random key, a restart invalidates open forms.
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _text(settings.mlflow_secret_key) or secrets.token_hex(32),
        }
    return variables


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


def without_password(url: str) -> tuple[str, dict[str, str]]:
    """A database's URL without its password, and the password as PostgreSQL's library reads it."""
    if url.startswith("sqlite"):
        return url, {}
    from attune.database import checked_url

    parsed = checked_url(url)
    password = {} if parsed.password is None else {"PGPASSWORD": str(parsed.password)}
    return parsed._replace(password=None).render_as_string(hide_password=False), password


def _given_hosts(settings: Settings) -> list[str]:
    """Raises ConfigError for what is no name, and for one that stands for all."""
    names = [name.strip() for name in settings.mlflow_hosts.split(",") if name.strip()]
    for name in names:
        if "/" in name or " " in name or not name.strip("*.:"):
            raise ConfigError(
                f"ATTUNE_MLFLOW_HOSTS holds {name!r}, which is no host name; give names like mlflow.example.org"
            )
    return names


def prepare_login(settings: Settings) -> None:
    """Write the log-in's file, readable by its owner alone, and let attune's user in by the password of the settings.

    Whoever logs in may read; roles (see ``users``) give more. Raises ConfigError when the people's database is damaged.
    """
    path, people = auth_file(settings), people_file(settings)
    people.touch(mode=0o600)
    people.chmod(0o600)
    lines = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{people}",
        "admin_username": settings.mlflow_username,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": str(REMEMBERED_SECONDS),
    }
    text = "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in lines.items())
    write_whole(path, f"[mlflow]\n{text}", mode=0o600)
    name, password = settings.mlflow_username, _text(settings.mlflow_password)
    try:  # MLflow takes this password for a new user only, and would refuse attune after a change
        with closing(sqlite.connect(str(people))) as connection:
            has_users = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone()
            row = connection.execute(HASH, (name,)).fetchone() if has_users else None
            if row is not None and not check_password_hash(row[0], password):
                connection.execute(NEW_HASH, (generate_password_hash(password), name))
                connection.commit()
    except sqlite.Error as error:
        raise ConfigError(
            f"{people}, which holds MLflow's people, cannot be used ({error}): bring it back with `attune restore`, or"
            " move it away and add everybody again"
        ) from error


def auth_file(settings: Settings) -> Path:
    """MLflow's own configuration of its log-in."""
    return settings.mlflow_folder.resolve() / "auth.ini"


def people_file(settings: Settings) -> Path:
    """The SQLite database of those who may log in."""
    return settings.mlflow_folder.resolve() / "people.db"


def main() -> NoReturn:
    """Prepare the store and become the server; exit status 2, with one line that says why, when it cannot."""
    process.set_up_logging()
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it reports each of its parts
    try:
        settings = Settings()
        prepare(settings)
        line = command(settings, HOST, settings.mlflow_port)
    except (AttuneError, ValidationError) as error:
        sys.stderr.write(f"MLflow cannot start: {error}\n")
        sys.exit(2)
    os.execve(line[0], line, {**os.environ, **environment(settings)})


if __name__ == "__main__":
    main()
