"""The endpoint: ``create_app`` builds it from its parts, ``python -m serving.app`` runs it."""

import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from attune import process
from attune.clock import Clock, system_clock, to_iso
from attune.errors import AttuneError, ConfigError
from attune.event_log import EventLog
from attune.group_commit import GroupCommit
from attune.log_tail import current
from attune.promotions import Promotions
from attune.settings import Settings
from features.feature_store import FeatureStore
from models.network.sequence import use_one_thread
from models.recommender import POPULARITY, Recommendation
from models.registry import Registry
from serving import error_responses, openapi, request_ids
from serving.authentication import Guard, Guarded
from serving.bounded_executor import Lane, Overloaded
from serving.catalogue_snapshot import ShopKeeper
from serving.champion import ChampionWatch, Downloads, NoRegistry
from serving.exploration_budget import Budgets, Since
from serving.ingestion import Accepting
from serving.item_profile_follower import ItemFollower
from serving.items import Items
from serving.lookups import Reading
from serving.metrics import Measured, Metrics
from serving.micro_batcher import Batcher
from serving.ranking import Question, rank
from serving.recommendation import Recommending
from serving.routes import hot_routes, item_routes, reading_routes, steward_routes
from serving.schemas import ModelAnswer
from serving.slates import RecentSlates, Signer
from serving.state import NOBODY, Look, Lookout, RecentStates, Sight, Snapshot, Snapshots, StateReader
from serving.warm_up import Rehearsal

log = logging.getLogger(__name__)

READERS = 4
WRITERS = 4
WAITING = 256
TOGETHER = 16
"""Requests whose states are read by one statement, and whose slates are made in one pass of the network."""

READ_SECONDS = 5.0
GRACE_SECONDS = 10
GARBAGE = (10_000, 20, 100)
"""Objects made and not gone until the youngest are looked at (2 ms), and how many such looks until older ones are."""

REGISTRY_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's client would try for minutes, while the watcher comes back by itself and has bundles on disk."""


@dataclass(frozen=True)
class Parts:
    """What the endpoint stands on; tests hand over their own.

    ``open_store`` is called when the first state is read, and again after the feature store failed.
    """

    event_log: EventLog
    promotions: Promotions
    downloads: Downloads
    open_store: Callable[[], FeatureStore]
    clock: Clock = system_clock


@dataclass(frozen=True)
class Rooms:
    """What the app is made of, for those who look inside: ``app.state.rooms``."""

    metrics: Metrics
    guard: Guard
    watch: ChampionWatch
    keeper: ShopKeeper
    rehearsal: Rehearsal
    follower: ItemFollower
    snapshots: Snapshots
    states: RecentStates
    commit: GroupCommit
    signer: Signer
    slates: RecentSlates
    features: Batcher[str, Snapshot | None]
    tails: Batcher[Look, Sight]
    explored: Batcher[Since, Mapping[str, int]]
    model: Batcher[Question, Recommendation]
    reads: Lane
    writes: Lane


def open_parts(settings: Settings) -> Parts:
    """The parts that the settings name; raises EventLogError or ConfigError with advice."""
    return Parts(
        event_log=EventLog(settings.log_url, lock_seconds=settings.lock_seconds),
        promotions=Promotions(settings.log_url),
        downloads=Registry(settings.mlflow_url) if settings.mlflow_url else NoRegistry(),
        open_store=lambda: FeatureStore(settings),
    )


def create_app(settings: Settings, parts: Parts) -> FastAPI:
    """The application; its threads start and stop with its lifespan, the parts stay open."""
    rooms = _furnish(settings, parts)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        rooms.guard.start()
        rooms.commit.start()
        for thread in (rooms.features, rooms.tails, rooms.explored, rooms.model, rooms.watch, rooms.follower):
            thread.start()
        yield
        rooms.follower.close()
        rooms.watch.close()
        for room in (rooms.model, rooms.explored, rooms.tails, rooms.features, rooms.writes, rooms.reads):
            room.close()
        rooms.commit.close()
        rooms.guard.close()

    app = FastAPI(
        title="attune",
        description="Recommendations that reflect feedback at the very next request.",
        version="1",
        lifespan=lifespan,
    )
    app.state.rooms = rooms
    app.add_middleware(Guarded, guard=rooms.guard)
    app.add_middleware(Measured, metrics=rooms.metrics)
    app.add_middleware(request_ids.Identified)
    error_responses.install(app)
    openapi.install(app)
    states = StateReader(
        rooms.snapshots, rooms.states, rooms.metrics, rooms.features, rooms.tails,
        partial(current, parts.event_log), rooms.reads,
    )  # fmt: skip
    recommending = Recommending(
        rooms.watch, states, rooms.model, rooms.signer, rooms.slates, rooms.commit, rooms.metrics,
        parts.clock, settings.answer_seconds, rooms.rehearsal, Budgets(rooms.explored, parts.clock),
    )  # fmt: skip
    describe = partial(_describe, settings.endpoint, parts.event_log.log_id(), rooms.watch)
    accepting = Accepting(
        parts.event_log, rooms.commit, rooms.signer, rooms.slates, rooms.metrics, parts.clock, rooms.writes
    )
    reading = Reading(rooms.watch, states, rooms.reads, parts.clock, rooms.keeper)
    app.include_router(hot_routes(recommending, accepting))
    app.include_router(reading_routes(recommending, reading))
    items = Items(parts.event_log, rooms.commit, rooms.watch, rooms.metrics, parts.clock, rooms.reads, rooms.writes)
    app.include_router(item_routes(items))
    app.include_router(steward_routes(describe, lambda: _missing(rooms, parts.event_log), rooms.metrics))
    return app


def _furnish(settings: Settings, parts: Parts) -> Rooms:
    metrics = Metrics()
    commit = GroupCommit(parts.event_log, metrics.count_slates)
    metrics.slate_queue.set_function(lambda: commit.offers)
    keeper = ShopKeeper(parts.event_log)
    rehearsal = Rehearsal(parts.clock, TOGETHER)
    snapshots = Snapshots(parts.open_store)
    watch = ChampionWatch(
        settings, parts.event_log, parts.promotions, parts.downloads, metrics, parts.clock, keeper, rehearsal
    )

    return Rooms(
        metrics=metrics,
        guard=Guard.of(settings, metrics),
        watch=watch,
        keeper=keeper,
        rehearsal=rehearsal,
        follower=ItemFollower(parts.event_log, lambda: watch.shelves, metrics, parts.clock),
        snapshots=snapshots,
        states=RecentStates(settings.cached_users),
        commit=commit,
        signer=Signer(settings.slate_key()),
        slates=RecentSlates(),
        features=Batcher("features", snapshots.read, TOGETHER, WAITING),
        tails=Batcher("tails", Lookout(parts.event_log, keeper).look, TOGETHER, WAITING),
        explored=Batcher("explored", parts.event_log.explored, TOGETHER, WAITING),
        model=Batcher("model", rank, TOGETHER, WAITING),
        reads=Lane("reads", READERS, WAITING, READ_SECONDS),
        writes=Lane("writes", WRITERS, WAITING, settings.lock_seconds + 1.0),
    )


async def _missing(rooms: Rooms, event_log: EventLog) -> str | None:
    """What keeps the endpoint from being ready, or None; asking opens the feature store, before a user has to wait.

    A feature store that hangs is no reason: the log alone answers.
    """
    try:
        await rooms.features.ask(NOBODY, READ_SECONDS)
    except Overloaded:
        rooms.snapshots.rest()
    try:
        await rooms.reads.run(event_log.head)
    except AttuneError as error:
        return f"the event log does not answer: {error}"
    if rooms.watch.champion is None and rooms.watch.popular is None:
        return "neither a model nor the popularity fallback is loaded yet"
    return None


def _describe(endpoint: str, log_id: str, watch: ChampionWatch) -> ModelAnswer:
    champion = watch.champion
    return ModelAnswer(
        endpoint=endpoint,
        log_id=log_id,
        served_by="champion" if champion else POPULARITY,
        version=champion.version if champion else None,
        previous=champion.promotion.previous if champion else None,
        fence=champion.promotion.fence if champion else None,
        promoted_at=to_iso(champion.promotion.at) if champion else None,
        loaded_at=to_iso(champion.loaded_at) if champion else None,
        items=len(champion.bundle.catalogue) if champion else None,
        config=champion.bundle.config if champion else None,
    )


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
    """Run until SIGTERM or SIGINT: finish the requests at hand, drain the slates, close the parts."""
    with listen(settings.serving_host, settings.serving_port) as bound:
        started = time.monotonic()
        parts = open_parts(settings)
        host, port = bound.getsockname()[:2]
        log.info("listening on http://%s:%s after %.1f s", host, port, time.monotonic() - started)
        config = uvicorn.Config(
            create_app(settings, parts),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        _settle()
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            parts.promotions.close()
            parts.event_log.close()


def _settle() -> None:
    """Let the garbage collector hold up as few requests as can be: while it looks at 100,000 objects, all wait 50 ms.

    What was imported stays for good and is never looked at again. What requests leave behind goes without it but for a
    few cycles a second, so all that is old is looked at after so many new objects that a day may pass.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def _end(number: int, frame: Any) -> NoReturn:
    raise SystemExit(0)


def main() -> int:
    """The process: settings from the environment; returns the exit code."""
    process.set_up()
    request_ids.name_log_lines()
    use_one_thread()
    for name, value in REGISTRY_PATIENCE.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        serve(Settings())
    except (AttuneError, ValidationError) as error:
        log.error("the endpoint cannot start: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
