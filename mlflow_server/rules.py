"""With which settings the registry's server refuses to start."""

from pydantic import SecretStr

from attune.errors import ConfigError
from attune.settings import Settings

SHORTEST_PASSWORD = 12
"""Characters; MLflow itself refuses shorter ones."""

TRIED_FIRST = (
    *("password", "passw0rd", "admin", "administrator", "changeme", "change-me", "default", "letmein", "mlflow"),
    *("attune", "qwerty", "secret", "test", "welcome"),
)
"""Passwords that whoever breaks in tries first; also said twice, and with digits and marks around them
(``password1234`` was MLflow's own)."""

MARKS = "0123456789!?.,-_*#$ "


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
        raise ConfigError(f"{what} is what is tried first by whoever breaks in; choose another")
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError(f"{what} has {len(password)} characters; choose a password of at least {SHORTEST_PASSWORD}")


def _known(secret: str, *names: str) -> bool:
    """Whether nothing is left of it without marks and one of the known words, however often that is said."""
    bare = secret.lower().strip(MARKS)
    return len(set(bare)) < 2 or any(
        not bare.replace(one.lower(), "").strip(MARKS) for one in (*TRIED_FIRST, *names) if one
    )


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
