"""Who may ask for what: the door before the routes.

A request brings its key as ``Authorization: Bearer KEY``. What a route needs stands in ``NEEDED``; whatever is not
named there is open to the scope ``admin`` alone, so a new route is closed until somebody says whom it is for. Where
the installation asks for no keys, everybody may ask for everything, and the limits hold for each address.

A look-up, one SHA-256 and a token bucket take about 10 microseconds of a request (``docs/adr/0014-api-keys.md``).
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from cachetools import FIFOCache
from starlette.types import ASGIApp, Receive, Scope, Send

from attune.api_keys import ADMIN, REVOKED_WITHIN_SECONDS, ApiKey, ApiKeys, id_within
from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from serving.error_responses import JSON, Refused, error_answer
from serving.metrics import Metrics
from serving.rate_limits import Limit, TokenBuckets

# The API keys that hold, in memory: a request costs a look into a dict, never one into the database.
#
# A thread reads the table every two seconds, so a revoked key ends soon after. A key that is not known here may be
# newer
# than that: the request waits for the next reading, of which there is one a second at most however many wait. While
# the
# table cannot be read, the keys that are known go on.


log = logging.getLogger(__name__)

READ_EVERY_SECONDS = 2.0
assert READ_EVERY_SECONDS < REVOKED_WITHIN_SECONDS
PAUSE_SECONDS = 1.0
"""Between two readings, however many unknown keys come."""

WAIT_SECONDS = 5.0
WAITING = 256
REFUSED_KEPT = 10_000


class Unreadable(AttuneError):
    """Whether a key holds could not be found out; the same request may be made again."""


class Table(Protocol):
    """The part of ``attune.api_keys.ApiKeys`` that is needed here."""

    def active(self) -> Iterable[ApiKey]:
        """The keys that hold."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class KeyRing:
    """Finds keys by their id; ``start`` before, ``close`` after. ``find`` is for one event loop."""

    def __init__(self, open_table: Callable[[], Table], every: float = READ_EVERY_SECONDS) -> None:
        """``open_table`` is called by the thread, and again as long as it raises; ``every`` is in seconds."""
        self._open_table = open_table
        self._every = every
        self._table: Table | None = None
        self._keys: Mapping[str, ApiKey] = {}
        self._refused: FIFOCache[str, bool] = FIFOCache(REFUSED_KEPT)
        self._waiting = 0
        self._lock = threading.Lock()
        self._next: Future[bool] = Future()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._could_read: bool | None = None
        self._thread = threading.Thread(target=self._follow, name="attune-keys", daemon=True)

    def start(self) -> None:
        """Begin to read the table."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the table."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_SECONDS)

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id, None where none holds. Raises Unreadable when that cannot be found out now."""
        return self._keys.get(key_id) or await self._look_up(key_id)

    async def _look_up(self, key_id: str) -> ApiKey | None:
        """What the next reading says. Ids are drawn at random: one that was absent once is never given to a key."""
        if key_id in self._refused:
            return None
        if self._waiting >= WAITING:
            raise Unreadable("too many requests with unknown API keys wait already; ask again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                could_read = await asyncio.shield(asyncio.wrap_future(self._ask()))
        except TimeoutError:
            could_read = False
        finally:
            self._waiting -= 1
        found = self._keys.get(key_id)
        if found is None and not could_read:
            raise Unreadable("the table of API keys cannot be read, and this key was not known before; ask again")
        if found is None:
            self._refused[key_id] = True
        return found

    def _ask(self) -> "Future[bool]":
        """The outcome of a reading that has not begun yet."""
        with self._lock:
            asked = self._next
        self._wake.set()
        return asked

    def _follow(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._read()
            self._wake.wait(self._every)
            self._wake.clear()
            self._stop.wait(max(began + PAUSE_SECONDS - time.monotonic(), 0.0))
        if self._table is not None:
            self._table.close()

    def _read(self) -> None:
        with self._lock:
            asked, self._next = self._next, Future()
        try:
            self._table = self._table or self._open_table()
            self._keys = {key.key_id: key for key in self._table.active()}
        except Exception as error:  # a thread that ended would leave revoked keys in use
            self._tell(False, error)
        else:
            self._tell(True)
        asked.set_result(self._could_read is True)

    def _tell(self, could_read: bool, error: Exception | None = None) -> None:
        """Say what changed, once."""
        if error is not None and self._could_read is not False:
            log.error("the table of API keys cannot be read; those known before go on: %s", error)
        elif could_read and self._could_read is False:
            log.info("the table of API keys can be read again")
        elif could_read and self._could_read is None and not self._keys:
            log.warning("there is no API key yet: `attune keys create NAME --scope recommend` makes one")
        self._could_read = could_read


OPEN = frozenset({"/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""Paths that need no key: they say how the process is and what its interface looks like, nothing about anybody."""

NEEDED: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/recommend"): "recommend",
    ("GET", "/v1/popular"): "recommend",
    ("GET", "/v1/users"): "recommend",
    ("GET", "/v1/items"): "recommend",
    ("GET", "/v1/model"): "recommend",
    ("POST", "/v1/feedback"): "feedback",
    ("POST", "/v1/events"): "feedback",
    ("PUT", "/v1/items"): "items",
    ("PATCH", "/v1/items"): "items",
    ("DELETE", "/v1/items"): "items",
    ("GET", "/metrics"): "metrics",
}
"""The scope for each method and beginning of a path (its first two parts)."""

POLICY_VIOLATION = 1008


class TurnedAway(Refused):
    """A request that goes no further; ``reason`` is what the metric counts it under."""

    def __init__(self, reason: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.reason = reason
        self.headers = headers or {}

    def answer(self) -> JSON:
        """The one shape of an error, with the headers that belong to the status."""
        reply = error_answer(self.status, str(self))
        reply.headers.update(self.headers)
        return reply


def needed(method: str, path: str) -> str | None:
    """The scope that a request needs; None where it needs no key."""
    if path in OPEN:
        return None
    beginning = "/".join(path.split("/", 3)[:3])
    return NEEDED.get(("GET" if method == "HEAD" else method, beginning), ADMIN)


class Guard:
    """Decides on each request; ``start`` before the first one, ``close`` after the last."""

    def __init__(
        self, keys: KeyRing | None, limit: Limit, metrics: Metrics, buckets: TokenBuckets | None = None
    ) -> None:
        """Without ``keys`` everybody may ask; ``limit`` holds for whoever has none of his own."""
        self._keys = keys
        self._limit = limit
        self._metrics = metrics
        self._buckets = TokenBuckets() if buckets is None else buckets

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> "Guard":
        """As the settings want it. Raises ConfigError where they would let anybody into a production endpoint."""
        if settings.profile == "production" and not settings.asks_for_keys:
            raise ConfigError(
                "ATTUNE_PROFILE is production, and with ATTUNE_API_KEYS=off the endpoint would let anybody in: unset"
                " it, and make keys with `attune keys create`"
            )
        if settings.api_keys == "off":
            log.warning("whoever reaches %s may ask for everything: ATTUNE_API_KEYS is off", settings.serving_host)
        keys = KeyRing(partial(ApiKeys, settings.log_url)) if settings.asks_for_keys else None
        return cls(keys, Limit.of(settings.rate_per_second, settings.rate_burst), metrics)

    def start(self) -> None:
        """Begin to follow the table of keys."""
        if self._keys is not None:
            self._keys.start()

    def close(self) -> None:
        """End it."""
        if self._keys is not None:
            self._keys.close()

    async def admit(self, scope: Scope) -> None:
        """Return where the request may go on, and name its key in ``scope["state"]``; raises TurnedAway."""
        wanted = needed(scope["method"], scope["path"])
        if wanted is None:
            return
        if self._keys is None:
            address = scope["client"][0] if scope.get("client") else "unknown"
            self._count(address, f"address {address}", self._limit)
            return
        key = await self._identify(self._keys, scope)
        scope.setdefault("state", {})["key_name"] = key.name
        limit = self._limit if key.rate is None else Limit.of(key.rate, key.burst)
        self._count(key.key_id, f"key {key.name!r}", limit)
        if not key.opens(wanted):
            raise _closed(key, wanted, scope)

    def turned_away(self, error: TurnedAway) -> JSON:
        """The answer to a request that goes no further; it is counted."""
        self._metrics.turned_away.labels(error.reason).inc()
        return error.answer()

    async def _identify(self, keys: KeyRing, scope: Scope) -> ApiKey:
        text = _bearer(scope)
        if text is None:
            raise _unknown("no_key", "an API key is needed: send it as `Authorization: Bearer KEY`")
        key_id = id_within(text)
        if key_id is None:
            raise _unknown("unknown_key", "what was sent as the bearer is no API key of attune's")
        try:
            key = await keys.find(key_id)
        except Unreadable as error:
            raise TurnedAway("unreadable", 503, str(error)) from error
        if key is None or not key.is_of(text):
            raise _unknown("unknown_key", f"the API key with id {key_id} is not known, or was revoked")
        return key

    def _count(self, name: str, who: str, limit: Limit) -> None:
        wait = self._buckets.take(name, limit)
        if wait:
            seconds = max(math.ceil(wait), 1)
            message = f"{who} may make {limit}: ask again in {seconds} s"
            raise TurnedAway("rate", 429, message, {"Retry-After": str(seconds)})


class Guarded:
    """ASGI middleware: a request that the guard turns away reaches nothing behind it."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none: nothing may slip through as one
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] == "http":
            try:
                await self._guard.admit(scope)
            except TurnedAway as error:
                await self._guard.turned_away(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _bearer(scope: Scope) -> str | None:
    """What stands behind ``Bearer`` in the first Authorization header."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, text = value.decode("latin-1").partition(" ")
            return text.strip() if scheme.lower() == "bearer" else None
    return None


def _unknown(reason: str, message: str) -> TurnedAway:
    return TurnedAway(reason, 401, message, {"WWW-Authenticate": "Bearer"})


def _closed(key: ApiKey, wanted: str, scope: Scope) -> TurnedAway:
    route = f"{scope['method']} {scope['path']}"
    has = ", ".join(sorted(key.scopes))
    return TurnedAway("scope", 403, f"{route} needs a key with the scope {wanted!r}; key {key.name!r} has {has}")
