"""MLflow's log-in where the settings switch it on: its file, the database of people, and attune's own user in it."""

import secrets
from contextlib import closing
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
from werkzeug.security import check_password_hash, generate_password_hash

from attune.errors import ConfigError
from attune.settings import Settings

REMEMBERED_SECONDS = 300
"""How long a password that was right is not hashed again, which costs a tenth of a second of each request. With one
worker a changed password, role or removed person is felt at once all the same."""

HASH = "SELECT password_hash FROM users WHERE username = ?"
NEW_HASH = "UPDATE users SET password_hash = ? WHERE username = ?"


def prepare(settings: Settings) -> None:
    """Write the file, readable by its owner alone, and let attune's own user in by the password of the settings.

    Whoever logs in may read; more than that is given to people by their role (see ``people``). Raises ConfigError
    when the database of people is damaged.
    """
    path, people = auth_file(settings), people_file(settings)
    draft = path.with_name(f".{path.name}.draft")
    for file in (draft, people):
        file.touch(mode=0o600)
        file.chmod(0o600)
    lines = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{people}",
        "admin_username": settings.mlflow_username,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": str(REMEMBERED_SECONDS),
    }
    text = "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in lines.items())
    draft.write_text(f"[mlflow]\n{text}")
    draft.replace(path)
    try:
        _set_own_password(people, settings.mlflow_username, _password(settings))
    except sqlite.Error as error:
        raise ConfigError(
            f"{people}, which holds MLflow's people, cannot be used ({error}): bring it back with `attune restore`, or"
            " move it away and add everybody again"
        ) from error


def environment(settings: Settings) -> dict[str, str]:
    """What the server must be told of it; holds secrets. Without a key in the settings, forms outlive no restart."""
    key = settings.mlflow_secret_key
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(auth_file(settings)),
        "MLFLOW_AUTH_ADMIN_PASSWORD": _password(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key.get_secret_value() if key else secrets.token_hex(32),
    }


def auth_file(settings: Settings) -> Path:
    """MLflow's own configuration of its log-in."""
    return settings.mlflow_folder.resolve() / "auth.ini"


def people_file(settings: Settings) -> Path:
    """The SQLite database of those who may log in."""
    return settings.mlflow_folder.resolve() / "people.db"


def _set_own_password(people: Path, name: str, password: str) -> None:
    """MLflow takes the password of the settings for a new user only, and would refuse attune after a change."""
    with closing(sqlite.connect(str(people))) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone():
            return
        row = connection.execute(HASH, (name,)).fetchone()
        if row is not None and not check_password_hash(row[0], password):
            connection.execute(NEW_HASH, (generate_password_hash(password), name))
            connection.commit()


def _password(settings: Settings) -> str:
    return settings.mlflow_password.get_secret_value() if settings.mlflow_password else ""
