"""Whether an endpoint's memory stays where it is: half an hour of slates and reactions."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import psutil

from attune.client import Client
from attune.errors import EndpointError
from benchmarks import serving_load, serving_world
from benchmarks.record import Figure, at_most, just

MINUTES, SETTLED_MINUTES = 30.0, 5.0
"""How long the load lasts, and after how long the memory is the yardstick."""

READ_SECONDS = 5.0
RATE, VISITORS, USERS = 50.0, 8, 2_000
GROWTH = 1.05


@dataclass
class Visits:
    """What the visitors got, over all of them."""

    answered: int = 0
    failed: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


def measure(seed: int) -> list[Figure]:
    """4.7: resident memory at the end against that after five minutes, each the mean of a minute; users are kept."""
    with TemporaryDirectory(prefix="attune-memory-") as folder:
        settings = serving_load.free_settings(Path(folder))
        serving_world.build(settings, serving_world.Size(users=USERS), seed)
        counts, deadline = Visits(), time.monotonic()
        with serving_load.endpoint(settings) as server, ThreadPoolExecutor(VISITORS) as pool:
            url, deadline = f"http://127.0.0.1:{settings.serving_port}", time.monotonic() + 60.0 * MINUTES
            visitors = [
                pool.submit(_visit, url, deadline, counts, random.Random(seed + one)) for one in range(VISITORS)
            ]
            read = _read(server, deadline)
            for visitor in visitors:
                visitor.result()
    settled = _around(read, SETTLED_MINUTES)
    end = _around(read, MINUTES)
    note = f"{counts.answered} slates and reactions, {counts.failed} failed"
    return [
        just("4.7 MiB of memory at the start of the load", read[0][1]),
        *(just(f"4.7 MiB of memory after {minute:g} minutes", _around(read, minute)) for minute in _minutes()),
        at_most(
            f"4.7 memory after {MINUTES:g} minutes of load against {SETTLED_MINUTES:g}, times",
            end / settled,
            GROWTH,
            note,
        ),
        just("4.7 requests/s of that load", counts.answered / (60.0 * MINUTES)),
    ]


def _minutes() -> list[float]:
    """Moments of the curve: the settled one, as far apart again, up to the end."""
    step = SETTLED_MINUTES
    return [step * number for number in range(1, round(MINUTES / step) + 1)]


def _read(server: psutil.Process, deadline: float) -> list[tuple[float, float]]:
    """(minutes, MiB) every few seconds until the deadline."""
    started, read = time.monotonic(), list[tuple[float, float]]()
    while time.monotonic() < deadline:
        read.append(((time.monotonic() - started) / 60.0, serving_load.memory(server)))
        time.sleep(READ_SECONDS)
    return read


def _around(read: list[tuple[float, float]], minute: float) -> float:
    """The mean of the minute that ends then, or of the last reading before."""
    until = [(at, value) for at, value in read if at <= minute]
    return fmean([value for at, value in until if at > minute - 1.0] or [until[-1][1]])


def _visit(url: str, deadline: float, counts: Visits, chance: random.Random) -> None:
    """Slates and reactions in turn, at the visitor's share of the rate."""
    pause = 2.0 * VISITORS / RATE  # two requests a round
    due = time.monotonic() + chance.random() * pause
    with Client(url, timeout=30.0, retries=0) as client:
        while due < deadline:
            time.sleep(max(due - time.monotonic(), 0.0))
            due = max(due + pause, time.monotonic())
            try:
                answered = _round(client, chance)
            except EndpointError:
                answered = 0
            with counts.turn:
                counts.answered += answered
                counts.failed += not answered


def _round(client: Client, chance: random.Random) -> int:
    """A slate, and a reaction to one of its items; how many requests that were."""
    user = f"u{chance.randrange(USERS)}"
    slate = client.recommend(user)
    if slate.slate_id is None or not slate.items:
        return 1
    client.feedback(slate.slate_id, user, chance.choice(slate.items).item_id, chance.choice(("like", "dislike")))
    return 2
