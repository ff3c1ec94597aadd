"""Half an hour of the platform at work: events arrive, slates are asked for, and parts are killed at random."""

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from attune.client import Client
from attune.clock import system_clock
from attune.errors import EndpointError
from attune.event_log import EventLog, prepare
from attune.settings import Settings
from benchmarks.record import Figure, at_most, just
from features.importer import import_source
from features.lake import Lake
from infra.demo import Dataset
from infra.environment import environment
from infra.platform import addresses, lifecycle

SECONDS = 1_800.0
KILL_EVERY_SECONDS = 75.0
READY_AGAIN_SECONDS = 120.0
ROWS, PAUSE_SECONDS = 5, 0.5
"""What the visitors send at a time, and how long they rest afterwards."""


@dataclass
class Visitors:
    """People who behave, ask for slates and react, all the time; they remember everything that was acknowledged."""

    url: str
    rows: Iterator[Mapping[str, Any]]
    acknowledged: list[str] = field(default_factory=list)
    answered: int = 0
    unanswered: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def visit(self) -> None:
        """Go on until ``stopping``; a request that fails is counted, and its events are sent again later."""
        waiting: list[Mapping[str, Any]] = []
        with Client(self.url, timeout=10.0, retries=0) as client:
            while not self.stopping.wait(PAUSE_SECONDS):
                waiting += [row for row, _ in zip(self.rows, range(ROWS), strict=False)]
                try:
                    self._once(client, waiting)
                    self.answered += 1
                except EndpointError:
                    self.unanswered += 1

    def _once(self, client: Client, waiting: list[Mapping[str, Any]]) -> None:
        if waiting:
            taken = client.events(waiting)
            self.acknowledged += [one for one in taken.event_ids if one is not None]
            user = str(waiting[-1]["user_id"])
            waiting.clear()
            slate = client.recommend(user)
            if slate.slate_id is not None and slate.items:
                felt = client.feedback(slate.slate_id, user, slate.items[0].item_id, "like")
                self.acknowledged.append(felt.event_id)


def measure(seed: int, seconds: float = SECONDS) -> list[Figure]:
    """A champion on the first four fifths of the demo's ratings, then visitors with the rest, then kills."""
    world, chance = Dataset.movielens(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="attune-soak-") as folder:
        here = Settings(var=Path(folder) / "var", batch_seconds=20.0)
        settings = here.model_copy(update=dict.fromkeys(addresses.PORTS, 0))
        prepare(settings.log_url)
        with closing(EventLog(settings.log_url)) as log:
            import_source(log, world.frames, system_clock, "soak", upto=world.cut_a)
        try:
            running, _ = lifecycle.up(settings, lambda _: None)
            os.environ.update(environment(running, lasting=True))
            _run("train")
            _run("promote", accept_undecided=True)
            return _live(running, world, chance, seconds)
        finally:
            lifecycle.down(settings)


def _run(name: str, **parameters: Any) -> None:
    """Have the platform run a deployment. Prefect reads its environment when it is imported: not before it is up."""
    from flows.deployment_runs import run_deployed

    run_deployed(name, parameters, lambda _: None)


def _live(settings: Settings, world: Dataset, chance: random.Random, seconds: float) -> list[Figure]:
    url = f"http://{settings.serving_host}:{settings.serving_port}"
    visitors = Visitors(url, iter(world.events(world.cut_a, len(world.rows))))
    thread = threading.Thread(target=visitors.visit, name="visitors")
    at_first = _memory(settings)
    thread.start()
    deadline, kills, longest = time.monotonic() + seconds, Counter[str](), 0.0
    try:
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.5, 1.5) * KILL_EVERY_SECONDS)
            name, pid = _kill_one(settings, chance)
            kills[name] += 1
            longest = max(longest, _ready_again(settings, name, pid))
    finally:
        visitors.stopping.set()
        thread.join()
    from benchmarks.platform_runs import latest_runs

    found = [
        at_most("longest from a kill to all parts ready, seconds", longest, READY_AGAIN_SECONDS),
        just("rounds of events, slate and feedback answered", visitors.answered),
        just("rounds not answered while a part was dead, tried again", visitors.unanswered),
        just("memory of all parts at the end against the start, times", _memory(settings) / at_first),
    ]
    runs = Counter(f"{run.deployment} {run.state.lower()}" for run in latest_runs(limit=200))
    found += [just(f"kills of {name}", number) for name, number in sorted(kills.items())]
    found += [just(f"runs: {name}", number) for name, number in sorted(runs.items())]
    return [*_kept(settings, visitors.acknowledged), *found]


def _kill_one(settings: Settings, chance: random.Random) -> tuple[str, int]:
    """Kill a part's process, as the kernel would when memory runs out; its name, and its reaper's pid."""
    part = chance.choice(lifecycle.conditions(settings))
    for process in psutil.Process(part.pid).children():
        process.send_signal(signal.SIGKILL)
    return part.name, part.pid


def _ready_again(settings: Settings, name: str, pid: int) -> float:
    """Seconds until the part runs anew and every part is ready."""
    started = time.monotonic()
    while any(one.state != "ready" or (one.name, one.pid) == (name, pid) for one in lifecycle.conditions(settings)):
        if time.monotonic() - started > 2 * READY_AGAIN_SECONDS:
            break
        time.sleep(1.0)
    return time.monotonic() - started


def _kept(settings: Settings, acknowledged: list[str]) -> list[Figure]:
    """Whether everything that was acknowledged is in the log, and in the lake once."""
    _run("ingest")
    with closing(EventLog(settings.log_url)) as log:
        lost = set(acknowledged) - set(log.digests(acknowledged))
        logged = sum(log.counts().values())
    held = Lake(settings.lake_folder).events(columns=("event_id",))["event_id"].to_pylist()
    return [
        at_most("acknowledged events lost", len(lost), 0, f"of {len(acknowledged):,}"),
        at_most("events doubled in the lake", len(held) - len(set(held)), 0),
        at_most("events of the log that the lake lacks", max(0, logged - len(held)), 0),
    ]


def _memory(settings: Settings) -> float:
    return float(sum(one.bytes for one in lifecycle.conditions(settings)))
