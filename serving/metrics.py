"""What /metrics tells Prometheus: one registry an app, so that two apps in one process do not mix."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EFFECT_SECONDS = 60.0
EFFECT_USERS = 50_000
"""Users remembered at a time, some 10 MB; beyond it the one who has waited longest is forgotten."""


class FeedbackEffect:
    """How long it takes from a user's feedback to the first slate that reflects it: the platform's promise, measured.

    It counts from the acknowledgement of the feedback to the user's first slate whose state includes it. Users who come
    back after more than a minute are not counted: that would be their pause, not the platform's. For the event loop
    alone.
    """

    def __init__(self, histogram: Histogram, clock: Callable[[], float] = time.monotonic) -> None:
        self._histogram = histogram
        self._clock = clock
        self._waiting: TTLCache[str, tuple[int, float]] = TTLCache(EFFECT_USERS, EFFECT_SECONDS, clock)

    def acknowledged(self, user_id: str, position: int) -> None:
        """Feedback was written at that position; of several the first that waits is measured."""
        if user_id not in self._waiting:
            self._waiting[user_id] = (position, self._clock())

    def shown(self, user_id: str, state_position: int) -> None:
        """The user got a slate that reflects everything up to that position."""
        waiting = self._waiting.get(user_id)
        if waiting is not None and waiting[0] <= state_position:
            del self._waiting[user_id]
            self._histogram.observe(self._clock() - waiting[1])


BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TAIL_BUCKETS = (0, 1, 5, 20, 100, 500, 2_000, 10_000)
EFFECT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

TURNED_AWAY = "Requests refused before their route: no_key, unknown_key, scope, rate, unreadable (the table of keys)."
SLATES = "Slates for the log: written, retried, refused (queue full), lost."
SET_ASIDE = "Events of a user beyond 60 a minute, as the item profile reads them: logged, and counted for nobody."
PROFILE_LAG = "Log positions by which the live item profile lags."
EFFECT = "From acknowledged feedback to the user's first slate with it, within a minute."


class ModelVersion(Collector):
    """One sample, 1, whose labels name the version that answers."""

    def __init__(self) -> None:
        self.current: str | None = None  # popularity answers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The sample of this moment; earlier versions leave no trace."""
        family = GaugeMetricFamily(
            "attune_model_version", "1 for the version that answers.", labels=["version", "served_by"]
        )
        family.add_metric([self.current or "", "champion" if self.current else "popularity"], 1)
        yield family


class Metrics:
    """Every metric of the endpoint, named ``attune_*``."""

    def __init__(self) -> None:
        values.ValueClass = values.MutexValue  # importing Feast had switched to files that all registries share
        registry = self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.requests = counter("attune_requests", "Answers by route and status.", ["route", "method", "status"])
        self.latency = histogram("attune_request_seconds", "Time to answer, by route.", ["route"], buckets=BUCKETS)
        self.turned_away = counter("attune_turned_away", TURNED_AWAY, ["reason"])
        self.stages = histogram("attune_stage_seconds", "Time in a stage of a request.", ["stage"], buckets=BUCKETS)
        self.served = counter("attune_slates_served", "Slates by who answered.", ["served_by"])
        self.fallbacks = counter("attune_fallbacks", "Reads that failed, by source.", ["source"])
        self.tail = histogram("attune_tail_events", "Events folded on top of the snapshot.", buckets=TAIL_BUCKETS)
        self.refolds = counter("attune_refolds", "Tails longer than one page.")
        self.events = counter(
            "attune_events",
            "Events by type and status (accepted, repeated, rejected, conflict, limited: beyond its key's limit).",
            ["type", "status"],
        )
        self.effect = FeedbackEffect(histogram("attune_feedback_effect_seconds", EFFECT, buckets=EFFECT_BUCKETS))
        self.set_aside = counter("attune_set_aside", SET_ASIDE)
        self.feedback = counter("attune_feedback", "Accepted reactions.", ["kind"])
        self.quarantined = counter("attune_quarantined", "Quarantined rows, by field.", ["field"])
        self.slates = counter("attune_slates", SLATES, ["status"])
        self.slate_queue = gauge("attune_slate_queue", "Slates that wait for the log.")
        self.profile_lag = gauge("attune_item_profile_lag", PROFILE_LAG)
        self.swaps = counter("attune_champion_swaps", "Champions that took over.")
        self.refused_bundles = counter("attune_champion_refused", "Champions that could not be loaded.")
        self.stale_champion = gauge("attune_champion_stale", "1 while another version than the promoted one answers.")
        self.version = ModelVersion()
        registry.register(self.version)

    def count_slates(self, status: str, slates: int) -> None:
        """Count slates that were written, retried, refused or lost."""
        if slates:
            self.slates.labels(status).inc(slates)

    def exposition(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)


class MetricsMiddleware:
    """ASGI middleware: counts every answer and takes its time, by the route's own path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - started)
