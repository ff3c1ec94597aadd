"""What a recommendation costs the server, against the sum of its unavoidable parts, each measured alone."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from attune.clock import system_clock
from attune.event_log import EventLog
from attune.settings import Settings
from benchmarks import serving_load, serving_world
from benchmarks.record import Figure, at_most, just
from features.feature_store import FeatureStore
from models.bundle import Bundle
from models.network.sequence import use_one_thread
from models.ranking.retrieval import top_k, without
from models.recommender import Request, SlateQuery, encode

CONNECTIONS, SECONDS = 16, 10.0
TURNS, WARM = 400, 20
RATIO, LATENCY_RATIO = 2.0, 2.0


def measure(seed: int) -> list[Figure]:
    """4.1 (processor time) and 4.3 (latency at half of the most that it answers), with and without what is kept."""
    with TemporaryDirectory(prefix="attune-cost-") as folder:
        settings = serving_load.free_settings(Path(folder), cached_users=0)
        serving_world.build(settings, serving_world.Size(), seed)
        bodies = [json.dumps({"user_id": f"u{user}"}) for user in range(serving_world.Size().users)]
        figures, parts = _parts(settings, bodies)
        total = sum(parts.values())
        known = total - parts["encode"] - parts["one Feast read"]
        kept = settings.model_copy(update={"cached_users": 10_000})
        for name, asked, unavoidable in (("", settings, total), (", known users", kept, known)):
            with serving_load.endpoint(asked) as server:
                figures += _loaded(asked, bodies, server, unavoidable, name)
    return figures


def _loaded(
    settings: Settings, bodies: list[str], server: psutil.Process, unavoidable: float, name: str
) -> list[Figure]:
    url = f"http://127.0.0.1:{settings.serving_port}/v1/recommend"
    serving_load.ask(url, bodies if settings.cached_users else bodies[:200])
    full = serving_load.wrk(url, bodies, server, CONNECTIONS, SECONDS)
    half = serving_load.wrk(url, bodies, server, CONNECTIONS, SECONDS, rate=full.per_second / 2)
    return [
        just(f"4.1 server ms of processor a recommendation{name}", full.cpu_ms, full.failed),
        at_most(f"4.1 times the sum of its parts{name}", full.cpu_ms / unavoidable, RATIO),
        just(f"4.1 requests/s at {CONNECTIONS} connections{name}", full.per_second),
        just(f"4.1 p99 ms at {CONNECTIONS} connections{name}", full.p99),
        just(f"4.3 p50 ms at {half.per_second:.0f} requests/s, half of the most{name}", half.p50, half.failed),
        just(f"4.3 p99 ms at half of the most{name}", half.p99),
        at_most(f"4.3 p50 against the sum of its parts{name}", half.p50 / unavoidable, LATENCY_RATIO),
    ]


def _parts(settings: Settings, bodies: list[str]) -> tuple[list[Figure], dict[str, float]]:
    """Milliseconds of processor time of each part alone."""
    use_one_thread()
    with serving_load.endpoint(settings):
        url = f"http://127.0.0.1:{settings.serving_port}/v1/recommend"
        body = httpx.post(url, content=bodies[0], headers={"Content-Type": "application/json"}).content
    with serving_load.bare_route(body, settings.logs_folder) as (bare, server):
        route = serving_load.wrk(f"{bare}/v1/recommend", bodies, server, CONNECTIONS, SECONDS)
    parts = {"a bare route with the same bytes": route.cpu_ms, **_blocking_parts(settings)}
    return [just(f"4.1 ms of {name}", value) for name, value in parts.items()], parts


def _blocking_parts(settings: Settings) -> dict[str, float]:
    (folder,) = (one for one in settings.bundles_folder.iterdir() if one.name != "made")
    bundle, store, now = Bundle.load(folder), FeatureStore(settings), system_clock()
    with closing(EventLog(settings.log_url)) as log:
        users = [f"u{user}" for user in range(TURNS + WARM)]
        states = [store.online(user)[0] for user in users]
        asked = [[SlateQuery(state, None, Request(10, now))] for state in states if state is not None]
        scores_N = bundle.hybrid.scores(encode(bundle, asked[0]).batch)[0]
        seen = [bundle.catalogue.places(one[0].state.seen) for one in asked]

        def search(turn: int) -> None:
            top_k(without(scores_N, seen[turn]), bundle.policy.depth)

        return {
            "encode": _alone(lambda turn: encode(bundle, asked[turn])),
            "exact top-k": _alone(search),
            "one Feast read": _alone(lambda turn: store.online(users[turn])),
            "one log read": _alone(lambda turn: log.tail(users[turn], states[turn].position - 1, 1_000)),  # type: ignore[union-attr]
        }


def _alone(part: Callable[[int], object]) -> float:
    """Milliseconds of processor time a call."""
    for turn in range(WARM):
        part(turn)
    started = time.process_time()
    for turn in range(WARM, WARM + TURNS):
        part(turn)
    return 1_000 * (time.process_time() - started) / TURNS
