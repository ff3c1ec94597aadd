"""Redis, asked with little patience: who waits for it can do without it, and it is asked again soon."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from attune.errors import ConfigError, FeatureStoreError

# Where a Redis is: the URL of the settings taken apart and checked, and shown without its password.


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


PATIENCE_SECONDS = 1.0
"""For a connection, and for each answer."""
OURS = "*attune*"
"""Matches every key of ours: Feast's end in the project's name, the state keeper's note begins with it."""


def connect(address: RedisAddress) -> Redis:
    """A client that threads may share; it connects when it is first asked.

    A connection that a restarted server had closed is made anew once; what hangs is not asked twice.
    """
    return Redis(
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.user,
        password=address.password.get_secret_value() if address.password else None,
        ssl=address.tls,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    )


def version(address: RedisAddress) -> str:
    """What the server calls itself. Raises FeatureStoreError."""
    with explained(address), closing(connect(address)) as client:
        told: dict[str, Any] = dict(client.info("server"))  # type: ignore[arg-type]
        return f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}"


def holds_ours(address: RedisAddress) -> bool:
    """Whether the database holds anything of attune's. Raises FeatureStoreError."""
    with explained(address), closing(connect(address)) as client:
        return next(client.scan_iter(match=OURS, count=1_000), None) is not None


@contextmanager
def explained(address: RedisAddress) -> Iterator[None]:
    """Redis's own errors as FeatureStoreError, with the address and without the password."""
    try:
        yield
    except RedisError as error:
        raise FeatureStoreError(
            f"the online store at {address} cannot be used: {type(error).__name__}: {error}; "
            "is it running, and is ATTUNE_ONLINE_STORE_URL right?"
        ) from error
