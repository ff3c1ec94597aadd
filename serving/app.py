"""The endpoint: ``create_app`` builds it from its components, ``python -m serving.app`` runs it."""

import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError

from attune import process
from attune.clock import Clock, system_clock, to_iso
from attune.errors import AttuneError, ConfigError
from attune.event_log import EventLog
from attune.group_commit import GroupCommit
from attune.promotions import Promotions
from attune.schemas import ModelAnswer
from attune.settings import Settings
from features.feature_store import FeatureStore
from models.item_vectors import text_vectors
from models.network.sequence import use_one_thread
from models.recommender import POPULARITY
from models.registry import Registry
from serving import error_responses, openapi, request_ids
from serving.authentication import DOCS_FILES, AccessControl, AccessMiddleware, EventLimit, RouteScopes
from serving.catalogue_snapshot import CatalogueReader
from serving.champion import ChampionWatcher, WarmUp
from serving.exploration_budget import ExplorationBudgets, Since
from serving.ingestion import IngestionService
from serving.item_profile_follower import ItemProfileFollower
from serving.items import ItemService
from serving.lookups import LookupService
from serving.metrics import Metrics, MetricsMiddleware
from serving.micro_batcher import BoundedExecutor, MicroBatcher, Overloaded
from serving.ranking import rank
from serving.recommendation import RecommendationService
from serving.routes import item_routes, operator_routes, user_routes
from serving.slates import RecentSlates, SlateSigner
from serving.state import NOBODY, RecentStates, StateReader, UserSnapshots, read_tails

log = logging.getLogger(__name__)

READ_THREADS = 4
WRITE_THREADS = 4
CAPACITY = 256  # calls that may run or wait in each executor and micro-batcher
BATCH_SIZE = 16
"""Requests whose states are read by one statement, and whose slates are made in one pass of the network."""

READ_SECONDS = 5.0
GRACE_SECONDS = 10
GARBAGE_THRESHOLDS = (10_000, 20, 100)
"""New objects until the youngest are collected (2 ms), and how many such collections until older ones are."""

REGISTRY_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's client would try for minutes, while the watcher tries again by itself and has bundles on disk."""


@dataclass(frozen=True)
class Backends:
    """What the endpoint stands on; tests bring their own.

    ``open_store`` is called when the first state is read, and again after the feature store failed. Without
    ``bundles`` only bundles on disk can be served.
    """

    event_log: EventLog
    promotions: Promotions
    bundles: Registry | None
    open_store: Callable[[], FeatureStore]
    clock: Clock = system_clock

    @classmethod
    def of(cls, settings: Settings) -> "Backends":
        """The backends that the settings name; raises EventLogError or ConfigError with advice."""
        return cls(
            event_log=EventLog(settings.log_url, lock_seconds=settings.lock_seconds),
            promotions=Promotions(settings.log_url),
            bundles=Registry(settings.mlflow_url) if settings.mlflow_url else None,
            open_store=lambda: FeatureStore(settings),
        )


class Components:
    """What the app is made of, for those who look inside: ``app.state.components``. Its threads run once started."""

    def __init__(self, settings: Settings, backends: Backends) -> None:
        event_log, clock, seconds = backends.event_log, backends.clock, settings.answer_seconds
        self.metrics = metrics = Metrics()
        self.reads = BoundedExecutor("reads", READ_THREADS, CAPACITY, READ_SECONDS)
        self.writes = BoundedExecutor("writes", WRITE_THREADS, CAPACITY, settings.lock_seconds + 1.0)
        self.commit = GroupCommit(event_log, metrics.count_slates)
        metrics.slate_queue.set_function(lambda: self.commit.offers)
        self.catalogue = CatalogueReader(event_log, text_vectors(settings.text_encoder))
        self.warm_up = WarmUp(clock, BATCH_SIZE)
        self.watcher = ChampionWatcher(
            settings, event_log, backends.promotions, backends.bundles, metrics, clock, self.catalogue, self.warm_up
        )
        self.follower = ItemProfileFollower(event_log, lambda: self.watcher.live_models, metrics, clock)

        self.snapshots = UserSnapshots(backends.open_store)
        self.features = MicroBatcher("features", self.snapshots.read, BATCH_SIZE, CAPACITY)
        self.tails = MicroBatcher("tails", partial(read_tails, event_log, self.catalogue), BATCH_SIZE, CAPACITY)
        self.explored: MicroBatcher[Since, Mapping[str, int]]
        self.explored = MicroBatcher("explored", event_log.explored, BATCH_SIZE, CAPACITY)
        self.ranking = MicroBatcher("model", rank, BATCH_SIZE, CAPACITY)
        self.states = RecentStates(settings.cached_users)
        reader = StateReader(event_log, self.states, metrics, self.features, self.tails, self.reads)
        self.signer, self.slates = SlateSigner(settings.slate_key()), RecentSlates()

        self.recommendation = RecommendationService(
            self.watcher, reader, self.ranking, self.signer, self.slates, self.commit, metrics, clock, seconds,
            self.warm_up, ExplorationBudgets(self.explored, clock),
        )  # fmt: skip
        self.ingestion = IngestionService(
            event_log, self.commit, self.signer, self.slates, metrics, clock, self.writes,
            EventLimit(settings.events_per_minute),
        )  # fmt: skip
        self.lookups = LookupService(self.watcher, reader, self.reads, clock, self.catalogue, seconds)
        self.items = ItemService(event_log, self.commit, self.watcher, metrics, clock, self.reads, self.writes)

    def start(self) -> None:
        self.commit.start()
        for thread in (self.features, self.tails, self.explored, self.ranking, self.watcher, self.follower):
            thread.start()

    def close(self) -> None:
        """Stop the threads; the writer of the log is the last, so that slates that still wait are logged."""
        for thread in (self.follower, self.watcher, self.ranking, self.explored, self.tails, self.features):
            thread.close()
        self.writes.close()
        self.reads.close()
        self.commit.close()


def create_app(settings: Settings, backends: Backends) -> FastAPI:
    """The application; its threads start and stop with its lifespan, the backends stay open."""
    components = Components(settings, backends)

    async def model() -> ModelAnswer:
        champion = components.watcher.champion
        return ModelAnswer(
            endpoint=settings.endpoint,
            log_id=backends.event_log.log_id(),
            served_by="champion" if champion else POPULARITY,
            version=champion.version if champion else None,
            previous=champion.promotion.previous if champion else None,
            fence=champion.promotion.fence if champion else None,
            promoted_at=to_iso(champion.promotion.at) if champion else None,
            loaded_at=to_iso(champion.loaded_at) if champion else None,
            items=len(champion.bundle.catalogue) if champion else None,
            config=champion.bundle.config if champion else None,
        )

    routers = [
        user_routes(components.recommendation, components.ingestion, components.lookups),
        item_routes(components.items, components.lookups),
        operator_routes(model, lambda: _missing(components, backends.event_log), components.metrics.exposition),
    ]
    scopes = RouteScopes(route for router in routers for route in router.routes)
    access = AccessControl.of(settings, scopes, components.metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        access.start()
        components.start()
        yield
        components.close()
        access.close()

    app = FastAPIOffline(
        redoc_url=None,
        static_url=DOCS_FILES,
        title="attune",
        description="Recommendations that reflect feedback at the very next request.",
        version="1",
        lifespan=lifespan,
    )
    app.state.components = components
    for router in routers:
        app.include_router(router)
    app.add_middleware(AccessMiddleware, access=access)
    app.add_middleware(MetricsMiddleware, metrics=components.metrics)
    app.add_middleware(request_ids.RequestIdMiddleware)
    error_responses.install(app)
    openapi.install(app)
    return app


async def _missing(components: Components, event_log: EventLog) -> str | None:
    """What keeps the endpoint from being ready, or None; this opens the feature store, before a user has to wait.

    A feature store that hangs is no reason: the log alone answers.
    """
    with suppress(Overloaded):
        await components.features.submit(NOBODY, READ_SECONDS)
    try:
        await components.reads.run(event_log.head)
    except AttuneError as error:
        return f"the event log does not answer: {error}"
    if components.watcher.champion is None and components.watcher.popular is None:
        return "neither a model nor the popularity fallback is loaded yet"
    return None


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; raises ConfigError naming the setting when the port is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop the program that has the port, or set "
            "ATTUNE_SERVING_PORT (0 takes any free one) and ATTUNE_SERVING_HOST"
        ) from error
    return bound


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT: finish the requests at hand, drain the slates, close the backends."""
    with listen(settings.serving_host, settings.serving_port) as bound:
        started = time.monotonic()
        backends = Backends.of(settings)
        host, port = bound.getsockname()[:2]
        log.info("listening on http://%s:%s after %.1f s", host, port, time.monotonic() - started)
        config = uvicorn.Config(
            create_app(settings, backends),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        # A collection that walks 100,000 objects holds all requests up for 50 ms. What was imported is never walked
        # again; requests leave few cycles behind, so old objects are walked only after so many new ones.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            backends.promotions.close()
            backends.event_log.close()


def main() -> int:
    """The process: settings from the environment; returns the exit code."""
    process.set_up_logging()
    request_ids.prefix_log_lines()
    use_one_thread()
    for name, value in REGISTRY_PATIENCE.items():
        os.environ.setdefault(name, value)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        serve(Settings())
    except (AttuneError, ValidationError) as error:
        log.error("the endpoint cannot start: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
