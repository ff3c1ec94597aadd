"""How latency and memory of an endpoint grow: with the items, with the users who have a state, with a user's tail."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from attune.clock import SECOND, system_clock
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from attune.user_state import PAGE
from benchmarks import crowd, endpoint, serving_world
from benchmarks.record import Figure, at_most, just

WORLDS: Mapping[int, tuple[int, ...]] = {10_000: (1_000, 100_000, 1_000_000), 100_000: (1_000, 100_000)}
"""For each number of items the numbers of users, fewest first."""

TAILS = (0, 10, 100, PAGE, 3 * PAGE)
"""Events behind the snapshot: none to the most that is folded at once, and beyond."""

RATE, SECONDS, CONNECTIONS = 10.0, 30.0, 4
TAILED, ASKED, WARM = 20, 1_000, 20
GROWTH = 1.5


@dataclass(frozen=True)
class Seen:
    """What one load showed: milliseconds, and MiB of the endpoint at its end."""

    p50: float
    p99: float
    memory: float
    failed: str

    def figures(self, name: str) -> list[Figure]:
        """All three, stated."""
        return [
            just(f"4.6 p50 ms with {name}", self.p50, self.failed or f"at {RATE:g} requests/s, nothing kept"),
            just(f"4.6 p99 ms with {name}", self.p99),
            just(f"4.6 MiB of the endpoint with {name}", self.memory),
        ]


def measure(seed: int) -> list[Figure]:
    """4.6: a world for each number of items, to which users are added, and which is gone before the next is made."""
    figures: list[Figure] = []
    fewest: list[tuple[int, Seen]] = []
    for items, users in WORLDS.items():
        with TemporaryDirectory(prefix="attune-growth-") as folder:
            settings = endpoint.free_settings(Path(folder), cached_users=0)
            serving_world.build(settings, serving_world.Size(users=users[0], items=items), seed)
            few = _loaded(settings, [f"u{number}" for number in range(users[0])])
            figures += few.figures(f"{users[0]:,} users, {items:,} items")
            if not fewest:
                figures += _tails(settings, seed)
            figures += _more_users(settings, items, users, few, seed)
            fewest.append((items, few))
    for (fewer, before), (more, after) in pairwise(fewest):
        figures += _against(f"{more:,} items against {fewer:,}", after, before, more / fewer)
    return figures


def _more_users(settings: Settings, items: int, users: Sequence[int], few: Seen, seed: int) -> list[Figure]:
    """The same world with ever more users; hardly one of those who ask comes twice."""
    figures: list[Figure] = []
    for before, number in pairwise(users):
        crowd.add(settings, before, number)
        chosen = np.random.default_rng(seed).integers(users[0], number, ASKED).tolist()
        many = _loaded(settings, [crowd.NAME % one for one in chosen])
        figures += many.figures(f"{number:,} users, {items:,} items")
        if number == users[-1]:
            figures += _against(f"{number:,} users against {users[0]:,}, {items:,} items", many, few)
    return figures


def _against(name: str, more: Seen, fewer: Seen, limit: float = GROWTH) -> list[Figure]:
    return [
        at_most(f"4.6 p50 with {name}, times", more.p50 / fewer.p50, limit),
        at_most(f"4.6 memory with {name}, times", more.memory / fewer.memory, limit),
    ]


def _tails(settings: Settings, seed: int) -> list[Figure]:
    """The first users of the world, some with each tail: their snapshots stay as they are, nobody pushes new ones."""
    groups = {tail: [f"u{TAILED * place + one}" for one in range(TAILED)] for place, tail in enumerate(TAILS)}
    with closing(EventLog(settings.log_url)) as log:
        for tail, users in groups.items():
            _append(log, users, tail, np.random.default_rng(seed + tail))
    seen = {tail: _loaded(settings, users) for tail, users in groups.items()}
    figures = [figure for tail, one in seen.items() for figure in one.figures(f"a tail of {tail:,} events")]
    least, most = TAILS[-2:]
    times = seen[most].p50 / seen[least].p50
    return [*figures, at_most(f"4.6 p50 with a tail of {most:,} against {least:,}, times", times, most / least)]


def _append(log: EventLog, users: Sequence[str], tail: int, random: np.random.Generator) -> None:
    now = system_clock()
    for user in users:
        items = random.integers(min(WORLDS), size=tail).tolist()
        log.append([
            Interaction(
                event_id=f"tail-{user}-{place}", user_id=user, item_id=f"i{item}", kind="click",
                event_timestamp=now + place * SECOND // 1_000,
            )
            for place, item in enumerate(items)
        ])  # fmt: skip


def _loaded(settings: Settings, users: Sequence[str]) -> Seen:
    bodies = [json.dumps({"user_id": user}) for user in users]
    with endpoint.endpoint(settings) as server:
        url = f"http://127.0.0.1:{settings.serving_port}/v1/recommend"
        endpoint.ask(url, bodies[:WARM])
        load = endpoint.wrk(url, bodies, server, CONNECTIONS, SECONDS, rate=RATE)
        return Seen(load.p50, load.p99, endpoint.memory(server), load.failed)
