"""Redis, asked with little patience: who waits for it can do without it, and it is asked again soon."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from attune.errors import FeatureStoreError
from attune.redis_address import RedisAddress

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
