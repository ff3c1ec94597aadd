"""Where a Redis is: the URL of the settings taken apart and checked, and shown without its password."""

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from attune.errors import ConfigError

SCHEMES = {"redis": False, "rediss": True}
PORT = 6379


@dataclass(frozen=True)
class RedisAddress:
    """One database of one Redis server; ``tls`` for an encrypted connection."""

    host: str
    port: int
    database: int
    user: str | None
    password: SecretStr | None
    tls: bool

    def __str__(self) -> str:
        """The URL without user and password: what may stand in messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def redis_address(url: str, setting: str) -> RedisAddress:
    """The address that ``url`` means; ``setting`` is the variable that a ConfigError names. The URL is never shown."""
    try:
        return _address(_split(url.strip()))
    except ValueError as error:
        raise ConfigError(
            f"{setting} cannot be meant: {error}; write redis://[USER:PASSWORD@]HOST:PORT[/DATABASE] "
            "(rediss:// for TLS), special characters in the password percent-encoded"
        ) from None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # it may quote the password
        raise ValueError("it is no URL") from None


def _address(parts: SplitResult) -> RedisAddress:
    if parts.scheme not in SCHEMES:
        raise ValueError("it does not begin with redis:// or rediss://")
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.query or parts.fragment:
        raise ValueError("it has something after the database")
    if parts.username and not parts.password:
        raise ValueError("it names a user and no password")
    password = SecretStr(unquote(parts.password)) if parts.password else None
    user = unquote(parts.username) if parts.username else None
    return RedisAddress(parts.hostname, _port(parts), _database(parts.path), user, password, SCHEMES[parts.scheme])


def _port(parts: SplitResult) -> int:
    try:
        port = PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError("its port is no number from 1 to 65535")
    return port


def _database(path: str) -> int:
    number = path.removeprefix("/") or "0"
    if not (number.isascii() and number.isdigit()):
        raise ValueError("its database is no number")
    return int(number)
