"""Several endpoint processes on one PostgreSQL log: what they answer together."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from attune.settings import Settings
from benchmarks import serving_load, serving_world
from benchmarks.postgres import postgres
from benchmarks.record import Figure, just
from benchmarks.serving_load import Load
from infra.platform.addresses import free_port

PROCESSES = (1, 2, 4)
CONNECTIONS, SECONDS = 16, 20.0
USERS, WARM = 2_000, 50
NOTE = "endpoints, PostgreSQL and wrk share the two cores that one endpoint and wrk fill already"


def measure(seed: int) -> list[Figure]:
    """4.7: requests/s of 1, 2 and 4 processes together, with the same connections in all; nothing is kept in them."""
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="attune-processes-") as folder, postgres() as database:
        settings = serving_load.free_settings(Path(folder), cached_users=0, database_url=database("attune"))
        serving_world.build(settings, serving_world.Size(users=USERS), seed)
        bodies = [json.dumps({"user_id": f"u{user}"}) for user in range(USERS)]
        for number in PROCESSES:
            loads = _together(settings, bodies, number)
            named = f"{number} process{'es' if number > 1 else ''} on PostgreSQL"
            total = sum(load.per_second for load in loads)
            failed = "; ".join(load.failed for load in loads if load.failed)
            figures += [
                just(f"4.7 requests/s of {named} at {CONNECTIONS} connections", total, failed or NOTE),
                just(f"4.7 p50 ms of {named}, the slowest", max(load.p50 for load in loads)),
                just(f"4.7 p99 ms of {named}, the slowest", max(load.p99 for load in loads)),
                just(f"4.7 times the requests/s of one process, {named}", total / figures[0].value if figures else 1.0),
            ]
    return figures


def _together(settings: Settings, bodies: Sequence[str], number: int) -> list[Load]:
    """So many endpoints under load at once, each at its share of the connections."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(number)]
        servers = [
            stack.enter_context(serving_load.endpoint(settings.model_copy(update={"serving_port": port})))
            for port in ports
        ]
        urls = [f"http://127.0.0.1:{port}/v1/recommend" for port in ports]
        for url in urls:
            serving_load.ask(url, bodies[:WARM])
        with ThreadPoolExecutor(number) as pool:
            loads = [
                pool.submit(serving_load.wrk, url, bodies, server, CONNECTIONS // number, SECONDS)
                for url, server in zip(urls, servers, strict=True)
            ]
            return [load.result() for load in loads]
