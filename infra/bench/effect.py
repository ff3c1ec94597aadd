"""From an acknowledged reaction to the slate that reflects it, under a mixed load at a fixed rate."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from attune.client import Client
from infra.bench import endpoint, serving_world
from infra.bench.record import Figure, at_most, just

RATE, SECONDS, VISITORS = 50.0, 30.0, 8
FELT_MS = 50.0


@dataclass
class Felt:
    """What the visitors saw: milliseconds from sending a reaction to holding the next slate, and what was not felt."""

    milliseconds: list[float] = field(default_factory=list)
    behind: int = 0
    shown_again: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


def measure(seed: int) -> list[Figure]:
    """4.4: half of the requests are slates, half reactions; each reaction is followed by a slate of the same user."""
    with TemporaryDirectory(prefix="attune-effect-") as folder:
        settings = endpoint.free_settings(Path(folder))
        serving_world.build(settings, serving_world.Size(users=500), seed)
        felt = Felt()
        with endpoint.endpoint(settings):
            url = f"http://127.0.0.1:{settings.serving_port}"
            with ThreadPoolExecutor(VISITORS) as pool:
                list(pool.map(lambda number: _visit(url, number, felt, random.Random(seed + number)), range(VISITORS)))
    milliseconds = np.array(felt.milliseconds)
    return [
        at_most(
            "4.4 ms from a reaction to the slate that reflects it, p99", float(np.percentile(milliseconds, 99)), FELT_MS
        ),
        just(
            "4.4 the same, median",
            float(np.median(milliseconds)),
            f"{len(milliseconds)} reactions, {RATE:g} requests/s",
        ),
        at_most("4.4 next slates that did not know the reaction", felt.behind, 0),
        at_most("4.4 next slates that showed the item again", felt.shown_again, 0),
    ]


def _visit(url: str, number: int, felt: Felt, chance: random.Random) -> None:
    """Slates and reactions in turn, at the visitor's share of the rate."""
    pause = 3.0 * VISITORS / RATE  # three requests a round
    deadline, due = time.monotonic() + SECONDS, time.monotonic() + chance.random() * pause
    with Client(url, timeout=30.0, retries=0) as client:
        while due < deadline:
            time.sleep(max(due - time.monotonic(), 0.0))
            due += pause
            user = f"u{chance.randrange(500)}"
            slate = client.recommend(user)
            if slate.slate_id is None or not slate.items:
                continue
            item = chance.choice(slate.items).item_id
            started = time.perf_counter()
            told = client.feedback(slate.slate_id, user, item, chance.choice(("like", "dislike")))
            after = client.recommend(user)
            with felt.turn:
                felt.milliseconds.append(1_000 * (time.perf_counter() - started))
                felt.behind += after.state_position < told.position
                felt.shown_again += any(one.item_id == item for one in after.items)
