"""How many events an endpoint makes durable a second: in batches, and one by one over many connections."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from attune.event_log import EventLog, prepare
from benchmarks import serving_load
from benchmarks.record import Figure, at_least, just

SECONDS = 10.0
BATCH, SENDERS, CONNECTIONS = 500, 2, 16
BATCHED, SINGLE = 20_000.0, 1_000.0


def measure(seed: int) -> list[Figure]:
    """4.5, with what the log holds at the end against what was acknowledged."""
    with TemporaryDirectory(prefix="attune-durable-") as folder:
        settings = serving_load.free_settings(Path(folder))
        prepare(settings.log_url)
        with serving_load.endpoint(settings, champion=False) as server:
            url = f"http://127.0.0.1:{settings.serving_port}/v1/events"
            batched, seconds = _batches(url)
            single = [json.dumps(_events(f"one-{number}", 1)) for number in range(1_000)]
            alone = serving_load.wrk(url, single, server, CONNECTIONS, SECONDS)
        with closing(EventLog(settings.log_url)) as log:
            held = log.counts()["interaction"]
    note = "SQLite in WAL mode, synchronous=FULL: one fsync a transaction, many callers share one"
    return [
        at_least(f"4.5 durable events/s in batches of {BATCH}", batched / seconds, BATCHED, note),
        at_least(
            f"4.5 durable events/s one by one at {CONNECTIONS} connections", alone.per_second, SINGLE, alone.failed
        ),
        just("4.5 p99 ms of one event", alone.p99),
        just("4.5 ms of processor for one event", alone.cpu_ms),
        just("4.5 acknowledged events that the log lacks", max(batched + alone.requests - held, 0)),
    ]


def _batches(url: str) -> tuple[int, float]:
    """Events acknowledged, and the seconds that it took."""
    numbers = count()
    deadline = time.monotonic() + SECONDS

    def send(sender: int) -> int:
        taken = 0
        with httpx.Client(timeout=30.0) as client:
            while time.monotonic() < deadline:
                body = json.dumps(_events(f"batch-{sender}-{next(numbers)}", BATCH))
                answer = client.post(url, content=body, headers={"Content-Type": "application/json"})
                answer.raise_for_status()
                taken += answer.json()["accepted"]
        return taken

    started = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        taken = sum(pool.map(send, range(SENDERS)))
    return taken, time.monotonic() - started


def _events(name: str, number: int) -> dict[str, list[dict[str, str]]]:
    """So many clicks of as many users. Without an id each is a new event, however often the body is sent."""
    rows = [{"user_id": f"{name}-{place}", "item_id": f"i{place}", "kind": "click"} for place in range(number)]
    return {"events": rows}
