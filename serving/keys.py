"""Who may ask for what: the door before the routes.

A request brings its key as ``Authorization: Bearer KEY``. What a route needs stands in ``NEEDED``; whatever is not
named there is open to the scope ``admin`` alone, so a new route is closed until somebody says whom it is for. Where
the installation asks for no keys, everybody may ask for everything, and the limits hold for each address.

A look-up, one SHA-256 and a token bucket take about 10 microseconds of a request (``docs/adr/0014-api-keys.md``).
"""

import logging
import math
from collections.abc import Mapping
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from attune.api_keys import ApiKey, ApiKeys, id_within
from attune.errors import ConfigError
from attune.scopes import ADMIN
from attune.settings import Settings
from serving.errors import JSON, Refused, error_answer
from serving.keyring import KeyRing, Unreadable
from serving.metrics import Metrics
from serving.rates import Limit, TokenBuckets

log = logging.getLogger(__name__)

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
