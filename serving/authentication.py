"""Who may ask for what: API keys and rate limits, before a request reaches its route.

A request brings its key as ``Authorization: Bearer KEY``. A route declares the scope that opens it; whatever no route
declares is open to the scope ``admin`` alone. Where the installation asks for no keys, everybody may ask for
everything, and the rate limit holds for each address. A look-up, one SHA-256 and a token bucket take about 10
microseconds of a request (``docs/adr/0014-api-keys.md``).
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cachetools import FIFOCache, LRUCache
from starlette.types import ASGIApp, Receive, Scope, Send

from attune.api_keys import ADMIN, REVOKED_WITHIN_SECONDS, ApiKey, ApiKeys, id_within
from attune.errors import AttuneError, ConfigError
from attune.schemas import ROWS_LIMIT
from attune.settings import Settings
from serving.error_responses import Refused, error_answer
from serving.metrics import Metrics
from serving.openapi import scope_of

log = logging.getLogger(__name__)

READ_EVERY_SECONDS = 2.0
assert READ_EVERY_SECONDS < REVOKED_WITHIN_SECONDS
PAUSE_SECONDS = 1.0  # between two readings of the table, however many unknown keys come
WAIT_SECONDS = 5.0
WAITING = 256
REFUSED_KEPT = 10_000
POLICY_VIOLATION = 1008

ROUNDING = 1e-9  # seconds; whoever waited as long as the answer said is let in, whatever the last bit says
DOCS_FILES = "/docs/static"
PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"}) | {
    f"{DOCS_FILES}/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
}
"""Paths that describe the interface and need no key; they say nothing about anybody."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``rate`` requests a second (0: any number), of which ``burst`` may come at once."""

    rate: float
    burst: int

    @classmethod
    def of(cls, rate: float, burst: int | None = None) -> "RateLimit":
        """Without a burst it is the requests of one second, and one at the least."""
        return cls(rate, burst or max(math.ceil(rate), 1))

    def __str__(self) -> str:
        return f"{self.rate:g} requests a second, {self.burst} at once"


class TokenBuckets:
    """A token bucket for each name; not for several threads.

    A bucket holds ``burst`` tokens and gains ``rate`` a second; a request takes one. Only the moment at which a bucket
    is full again is kept, which says the same as tokens and a time (the generic cell rate algorithm). There are at most
    ``capacity`` buckets. The one used longest ago is dropped first, and is full if it comes back: a limit per address
    does not stop whoever has that many addresses.
    """

    def __init__(self, capacity: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds, and never goes back."""
        self._clock = clock
        self._full_at: LRUCache[str, float] = LRUCache(capacity)

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, limit: RateLimit, count: int = 1) -> float:
        """Take tokens, at most a burst: 0.0, or the seconds after which there will be so many (and none was taken)."""
        if not limit.rate:
            return 0.0
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now)
        wait = full_at - now - (limit.burst - count) / limit.rate
        if wait > ROUNDING:
            return wait
        self._full_at[name] = full_at + count / limit.rate
        return 0.0


CALLER: ContextVar[str] = ContextVar("caller", default="everybody")
"""Whose request it is, for limits and in words: a key, or without keys an address."""


@dataclass(frozen=True)
class EventLimit:
    """So many events a minute may a key (without keys: an address) send to ``/v1/events``, of all its users; 0: any."""

    a_minute: int = 0
    buckets: TokenBuckets = field(default_factory=TokenBuckets)

    def take(self, count: int) -> None:
        """Count the request's events; raises Refused (429), with when to ask again, where they are too many."""
        wait = self.buckets.take(CALLER.get(), RateLimit(self.a_minute / 60, max(self.a_minute, ROWS_LIMIT)), count)
        if wait:
            seconds = max(math.ceil(wait), 1)
            message = f"{CALLER.get()} may send {self.a_minute:,} events a minute: ask again in {seconds} s"
            raise Refused(429, message, headers={"Retry-After": str(seconds)})


class KeysUnavailable(AttuneError):
    """Whether a key holds cannot be found out now; the same request may be made again."""


class KeyCache:
    """The API keys that hold, in memory: a request looks into a dict, never into the database.

    A thread reads the table every ``every`` seconds, so a revoked key ends soon after. An unknown key may be newer: its
    request waits for the next reading, of which there is one a second at most however many requests wait. While the
    table cannot be read, the known keys go on. ``find`` is for one event loop.
    """

    def __init__(self, open_table: Callable[[], ApiKeys], every: float = READ_EVERY_SECONDS) -> None:
        """``open_table`` is called by the thread, and again as long as it raises."""
        self._open_table = open_table
        self._every = every
        self._table: ApiKeys | None = None
        self._keys: Mapping[str, ApiKey] = {}
        self._refused: FIFOCache[str, bool] = FIFOCache(REFUSED_KEPT)
        self._waiting = 0
        self._lock = threading.Lock()
        self._next: Future[bool] = Future()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._could_read: bool | None = None
        self._thread = threading.Thread(target=self._run, name="attune-keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_SECONDS)

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id, None where none holds. Raises KeysUnavailable when that cannot be found out now."""
        if key := self._keys.get(key_id):
            return key
        if key_id in self._refused:  # ids are drawn at random: one that was absent once is never given to a key
            return None
        if self._waiting >= WAITING:
            raise KeysUnavailable("too many requests with unknown API keys wait already; ask again in a moment")
        with self._lock:
            reading = self._next  # the outcome of a reading that has not begun yet
        self._wake.set()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                could_read = await asyncio.shield(asyncio.wrap_future(reading))
        except TimeoutError:
            could_read = False
        finally:
            self._waiting -= 1
        if key := self._keys.get(key_id):
            return key
        if not could_read:
            raise KeysUnavailable("the table of API keys cannot be read, and this key was not known before; ask again")
        self._refused[key_id] = True
        return None

    def _run(self) -> None:
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
            reading, self._next = self._next, Future()
        before = self._could_read
        try:
            self._table = self._table or self._open_table()
            self._keys = {key.key_id: key for key in self._table.active()}
            self._could_read = True
        except Exception as error:  # a thread that ended would leave revoked keys in use
            self._could_read = False
            if before is not False:
                log.error("the table of API keys cannot be read; those known before go on: %s", error)
        if self._could_read and before is False:
            log.info("the table of API keys can be read again")
        elif self._could_read and before is None and not self._keys:
            log.warning("there is no API key yet: `attune keys create NAME --scope recommend` makes one")
        reading.set_result(self._could_read)


class RouteScopes:
    """The scope that a request needs, as its route declares: found by method and the first two parts of the path."""

    def __init__(self, routes: Iterable[Any]) -> None:
        """``routes`` are FastAPI's, documented by ``serving.openapi``. Raises ValueError where two disagree."""
        self.open_paths = set(PAGES)
        self.needed: dict[tuple[str, str], str] = {}
        for route in routes:
            scope = scope_of(route)
            if scope is None:
                self.open_paths.add(route.path)
                continue
            for method in route.methods:
                if self.needed.setdefault((method, _beginning(route.path)), scope) != scope:
                    raise ValueError(f"{method} {route.path} needs the scope of its neighbours, not {scope!r}")

    def of(self, method: str, path: str) -> str | None:
        """The scope that a request needs; None where it needs no key."""
        if path in self.open_paths:
            return None
        return self.needed.get(("GET" if method == "HEAD" else method, _beginning(path)), ADMIN)


def _beginning(path: str) -> str:
    return "/".join(path.split("/", 3)[:3])


class AccessRefused(Refused):
    """A request that goes no further; the metric counts it under ``reason``."""

    def __init__(self, reason: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers=headers)
        self.reason = reason


@dataclass(frozen=True)
class AccessControl:
    """Decides on each request; ``start`` before the first one, ``close`` after the last.

    Without ``keys`` everybody may ask; ``limit`` holds for whoever has no limit of their own.
    """

    scopes: RouteScopes
    keys: KeyCache | None
    limit: RateLimit
    metrics: Metrics
    buckets: TokenBuckets = field(default_factory=TokenBuckets)

    @classmethod
    def of(cls, settings: Settings, scopes: RouteScopes, metrics: Metrics) -> "AccessControl":
        """As the settings want it. Raises ConfigError where they would let anybody into a production endpoint."""
        if settings.profile == "production" and not settings.asks_for_keys:
            raise ConfigError(
                "ATTUNE_PROFILE is production, and with ATTUNE_API_KEYS=off the endpoint would let anybody in: unset"
                " it, and make keys with `attune keys create`"
            )
        if settings.api_keys == "off":
            log.warning("whoever reaches %s may ask for everything: ATTUNE_API_KEYS is off", settings.serving_host)
        keys = KeyCache(partial(ApiKeys, settings.log_url)) if settings.asks_for_keys else None
        return cls(scopes, keys, RateLimit.of(settings.rate_per_second, settings.rate_burst), metrics)

    def start(self) -> None:
        if self.keys is not None:
            self.keys.start()

    def close(self) -> None:
        if self.keys is not None:
            self.keys.close()

    async def check(self, scope: Scope) -> None:
        """Name the request's key in ``scope["state"]``; raises AccessRefused, and counts it, where it may not go on."""
        needed = self.scopes.of(scope["method"], scope["path"])
        if needed is None:
            return
        try:
            if self.keys is None:
                address = scope["client"][0] if scope.get("client") else "unknown"
                CALLER.set(f"address {address}")
                self._take_token(address, f"address {address}", self.limit)
            else:
                await self._check_key(self.keys, scope, needed)
        except AccessRefused as error:
            self.metrics.turned_away.labels(error.reason).inc()
            raise

    async def _check_key(self, keys: KeyCache, scope: Scope, needed: str) -> None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, text = header.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorized("no_key", "an API key is needed: send it as `Authorization: Bearer KEY`")
        key_id = id_within(text := text.strip())
        if key_id is None:
            raise _unauthorized("unknown_key", "what was sent as the bearer is no API key of attune's")
        try:
            key = await keys.find(key_id)
        except KeysUnavailable as error:
            raise AccessRefused("unreadable", 503, str(error)) from error
        if key is None or not key.is_of(text):
            raise _unauthorized("unknown_key", f"the API key with id {key_id} is not known, or was revoked")
        scope.setdefault("state", {})["key_name"] = key.name
        CALLER.set(f"key {key.name!r}")
        limit = self.limit if key.rate is None else RateLimit.of(key.rate, key.burst)
        self._take_token(key.key_id, f"key {key.name!r}", limit)
        if not key.opens(needed):
            route, has = f"{scope['method']} {scope['path']}", ", ".join(sorted(key.scopes))
            message = f"{route} needs a key with the scope {needed!r}; key {key.name!r} has {has}"
            raise AccessRefused("scope", 403, message)

    def _take_token(self, name: str, who: str, limit: RateLimit) -> None:
        wait = self.buckets.take(name, limit)
        if wait:
            seconds = max(math.ceil(wait), 1)
            message = f"{who} may make {limit}: ask again in {seconds} s"
            raise AccessRefused("rate", 429, message, {"Retry-After": str(seconds)})


class AccessMiddleware:
    """ASGI middleware: a request that is refused reaches nothing behind it."""

    def __init__(self, app: ASGIApp, access: AccessControl) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none: nothing may slip through as one
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] == "http":
            try:
                await self._access.check(scope)
            except AccessRefused as error:
                reply = error_answer(error.status, str(error))
                reply.headers.update(error.headers)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _unauthorized(reason: str, message: str) -> AccessRefused:
    return AccessRefused(reason, 401, message, {"WWW-Authenticate": "Bearer"})
