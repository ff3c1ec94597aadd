"""The platform at rest and at work: up to ready, memory, from an event on the bus to a fine-tune that runs, a no-op.

Prefect reads its environment when it is imported: what asks it is imported once the platform is up.
"""

import os
import statistics
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil

from attune.clock import system_clock
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from benchmarks.datasets import fill_log
from benchmarks.record import Figure, at_most, just
from infra.environment import environment
from infra.platform import addresses, lifecycle
from infra.platform.supervisor import Supervisor

READY_SECONDS, REACTION_SECONDS = 40.0, 20.0
EVENTS, REPEATS, NO_OPS = 20_000, 20, 5
SETTLE_SECONDS = 20.0
PATIENCE_SECONDS = 120.0


def measure(seed: int, repeats: int = REPEATS) -> list[Figure]:
    """Start the platform twice on a ``var`` of its own, and watch it react."""
    with tempfile.TemporaryDirectory(prefix="attune-reaction-") as folder:
        here = Settings(var=Path(folder) / "var", batch_events=10, batch_seconds=5.0)
        settings = here.model_copy(update=dict.fromkeys(addresses.PORTS, 0))
        fill_log(settings, EVENTS, seed)
        try:
            _, first = lifecycle.up(settings, lambda _: None)
            lifecycle.down(settings)
            running, second = lifecycle.up(settings, lambda _: None)
            figures = [
                just("seconds up to ready, first start", first),
                at_most("seconds up to ready, existing var", second, READY_SECONDS),
            ]
            return figures + _at_work(running, repeats)
        finally:
            lifecycle.down(settings)


def _at_work(settings: Settings, repeats: int) -> list[Figure]:
    os.environ.update(environment(settings, lasting=True))
    with closing(EventLog(settings.log_url)) as log:
        _await_quiet()
        time.sleep(SETTLE_SECONDS)
        figures = _memory(settings)
        reactions = [_reaction(log, place) for place in range(repeats)]
        figures += _no_op(settings)
    heard = [one["bus"] for one in reactions]
    appended = [one["log"] for one in reactions]
    note = f"over {repeats}, nothing else running; the run starts, finds no champion and ends"
    return [
        *figures,
        at_most("seconds from an event on the bus to a started fine-tune, p95", _p95(heard), REACTION_SECONDS, note),
        just("seconds from an event on the bus to a started fine-tune, median", statistics.median(heard)),
        just("seconds from the log's append to a started fine-tune, p95", _p95(appended), note),
    ]


def _memory(settings: Settings) -> list[Figure]:
    parts = lifecycle.conditions(settings)
    found = [just(f"idle memory of {one.name}, MiB", one.bytes / 2**20) for one in parts]
    return [*found, just("idle memory of all parts, MiB", sum(one.bytes for one in parts) / 2**20, "resident")]


def _reaction(log: EventLog, place: int) -> dict[str, float]:
    """Append a few events; the seconds until a fine-tune runs, from the append and from the announcement."""
    from benchmarks.platform_runs import announcements
    from flows.automations import BATCH

    since = datetime.now().astimezone()
    log.append([
        Interaction(
            event_id=f"new-{place}-{number}", event_timestamp=system_clock(), user_id=f"new-{number}", item_id="1",
            kind="view",
        )
        for number in range(20)
    ])  # fmt: skip
    appended = datetime.now().astimezone()
    started = _await_fine_tune(since)
    announced = max(moment for moment in announcements(BATCH) if moment <= started)
    return {"log": (started - appended).total_seconds(), "bus": (started - announced).total_seconds()}


def _await_fine_tune(since: datetime) -> datetime:
    """When the next fine-tune started; returns once it has ended."""
    from benchmarks.platform_runs import latest_runs

    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for run in latest_runs("finetune", 5):
            if run.started is not None and run.started >= since and run.ended is not None:
                return run.started
        time.sleep(0.5)
    raise AssertionError(f"no fine-tune started in {PATIENCE_SECONDS:.0f} s")


def _await_quiet() -> None:
    """Wait until nothing runs or is about to."""
    from benchmarks.platform_runs import is_quiet

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_quiet() and time.monotonic() < deadline:
        time.sleep(1.0)


def _no_op(settings: Settings) -> list[Figure]:
    """What a scheduled fine-tune costs that finds nothing new: seconds from asked to done, and of one core."""
    from flows.deployment_runs import run_deployed

    pid = int(Supervisor(settings).states()["worker"]["pid"])
    worker = psutil.Process(pid).children()[0]
    before, waited = _spent(worker), []
    for _ in range(NO_OPS):
        started = time.monotonic()
        run_deployed("finetune", {"at_least": 10**9}, lambda _: None)
        waited.append(time.monotonic() - started)
    spent = (_spent(worker) - before) / NO_OPS
    return [
        just("seconds of a fine-tune that finds nothing to do, asked to done", statistics.median(waited)),
        just("seconds of one core for it", spent, "the run's process; every 15 minutes"),
    ]


def _spent(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return float(times.children_user + times.children_system)


def _p95(values: list[float]) -> float:
    return float(np.quantile(values, 0.95))
