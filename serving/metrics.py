"""What /metrics tells Prometheus: one registry an app, so that two apps in one process do not mix."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.effect import Effect

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
EFFECT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Version(Collector):
    """One sample, 1, whose labels name the version that answers."""

    def __init__(self) -> None:
        self.current: str | None = None

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
        self.requests = Counter(
            "attune_requests", "Answers by route and status.", ["route", "method", "status"], registry=registry
        )
        self.latency = Histogram(
            "attune_request_seconds", "Time to answer, by route.", ["route"], registry=registry, buckets=BUCKETS
        )
        self.turned_away = Counter(
            "attune_turned_away",
            "Requests refused before their route: no_key, unknown_key, scope, rate, unreadable (the table of keys).",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.stages = Histogram(
            "attune_stage_seconds", "Time in a stage of a request.", ["stage"], registry=registry, buckets=BUCKETS
        )
        self.served = Counter("attune_slates_served", "Slates by who answered.", ["served_by"], registry=registry)
        self.fallbacks = Counter(
            "attune_fallbacks", "Reads that failed and were done without, by source.", ["source"], registry=registry
        )
        self.tail = Histogram(
            "attune_tail_events", "Events folded on top of the snapshot.", registry=registry,
            buckets=(0, 1, 5, 20, 100, 500, 2_000, 10_000),
        )  # fmt: skip
        self.refolds = Counter(
            "attune_refolds", "Tails that were longer than one page, folded page by page.", registry=registry
        )
        self.events = Counter(
            "attune_events", "Events by type and what became of them.", ["type", "status"], registry=registry
        )
        self.effect = Effect(
            Histogram(
                "attune_feedback_effect_seconds",
                "From acknowledged feedback to the user's first slate with it, within a minute.",
                registry=registry, buckets=EFFECT_BUCKETS,
            )
        )  # fmt: skip
        self.feedback = Counter("attune_feedback", "Reactions that were accepted.", ["kind"], registry=registry)
        self.quarantined = Counter(
            "attune_quarantined", "Rows that were put into quarantine, by the field at fault.", ["field"],
            registry=registry,
        )  # fmt: skip
        self.slates = Counter(
            "attune_slates", "Slates for the log: written, retried, refused (queue full), lost.", ["status"],
            registry=registry,
        )  # fmt: skip
        self.slate_queue = Gauge("attune_slate_queue", "Slates that wait for the log.", registry=registry)
        self.swaps = Counter("attune_champion_swaps", "Champions that took over.", registry=registry)
        self.refused_bundles = Counter(
            "attune_champion_refused", "Champions that could not be loaded; the old one stayed.", registry=registry
        )
        self.stale_champion = Gauge(
            "attune_champion_stale", "1 while another version than the promoted one answers.", registry=registry
        )
        self.version = Version()
        registry.register(self.version)

    def set_version(self, version: str | None) -> None:
        """Say which version answers; None: popularity."""
        self.version.current = version

    def count_slates(self, status: str, slates: int) -> None:
        """Count slates that were written, retried, refused or lost."""
        if slates:
            self.slates.labels(status).inc(slates)

    def exposition(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
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

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - started)
