"""Where the settings' Redis is, and a client for it that gives up soon: its callers can do without an answer."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from attune.errors import ConfigError, FeatureStoreError

SCHEMES = {"redis": False, "rediss": True}
PORT = 6379
PATIENCE_SECONDS = 1.0
"""For a connection, and for each answer."""
OURS = "*attune*"
"""Matches every key of ours: Feast's end in the project's name, the state keeper's note begins with it."""


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
        return _address(url.strip())
    except ValueError as error:
        raise ConfigError(
            f"{setting} cannot be meant: {error}; write redis://[USER:PASSWORD@]HOST:PORT[/DATABASE] "
            "(rediss:// for TLS), special characters in the password percent-encoded"
        ) from None


def _address(url: str) -> RedisAddress:
    try:
        parts = urlsplit(url)
    except ValueError:  # it may quote the password
        raise ValueError("it is no URL") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("it does not begin with redis:// or rediss://")
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.query or parts.fragment:
        raise ValueError("it has something after the database")
    if parts.username and not parts.password:
        raise ValueError("it names a user and no password")
    try:
        port = PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError("its port is no number from 1 to 65535")
    database = parts.path.removeprefix("/") or "0"
    if not (database.isascii() and database.isdigit()):
        raise ValueError("its database is no number")
    password = SecretStr(unquote(parts.password)) if parts.password else None
    user = unquote(parts.username) if parts.username else None
    return RedisAddress(parts.hostname, port, int(database), user, password, SCHEMES[parts.scheme])


def connect(address: RedisAddress) -> Redis:
    """A client that threads may share; it connects when first used, and once more where the server had closed it."""
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
        server: dict[str, Any] = dict(client.info("server"))  # type: ignore[arg-type]
        return f"{server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}"


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
