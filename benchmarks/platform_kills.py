"""Flows that are killed at random moments and run again: nothing may be lost, and nothing may be there twice."""

import importlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from attune.clock import system_clock
from attune.event_log import EventLog, prepare
from attune.promotions import Promotions
from attune.settings import Settings
from benchmarks import child_process
from benchmarks.record import Figure, at_most, just
from features.importer import import_source
from features.lake import Lake
from features.sources import movielens
from features.validation_results import ValidationResults
from infra.local_stack import Stack
from models.registry import Registry

FIRST, SLICE = 8_000, 500
"""Real ratings at the start, and before each kill."""
STAGES = ("ingest", "validate", "materialize", "finetune", "promote")
POINTS = 30
LONGEST_LEASE_SECONDS = 60.0


def measure(seed: int, points: int = POINTS) -> list[Figure]:
    """Kill each of the stages in turn, ``points`` kills in all, with new events before each."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="attune-kills-") as folder:
        settings = Settings(var=Path(folder) / "var")
        prepare(settings.log_url)
        arriving = _arriving(settings)
        next(arriving)
        with Stack(settings) as stack:
            stack.start("prefect", "mlflow")
            stack.wait()
            usual = {stage: _timed(stage) for stage in ("train", "promote", *STAGES)}
            killed = Counter(_kill_one(place, usual, arriving, chance) for place in range(points))
            found = list(_verdict(stack.settings))
    return [*found, *(just(f"kills inside {stage}", number) for stage, number in sorted(killed.items()))]


def _arriving(settings: Settings) -> Iterator[int]:
    """Imports real ratings in the order of time: many at first, a slice at each step; gives how many there are."""
    frames, upto = movielens.read(), 0
    while True:
        after, upto = upto, upto + (SLICE if upto else FIRST)
        with closing(EventLog(settings.log_url)) as log:
            import_source(log, frames, system_clock, "kills", upto=upto, after=after)
        yield upto


def _kill_one(place: int, usual: dict[str, float], arriving: Iterator[int], chance: random.Random) -> str:
    """Kill the next stage somewhere on its way, and run it again to its end; the stage's name.

    A run that ended before it was killed counts for nothing and is repeated, to be killed sooner.
    """
    stage = STAGES[place % len(STAGES)]
    longest = usual[stage]
    while True:
        next(arriving)
        hit = _killed(stage, chance.uniform(0.0, longest))
        usual[stage] = _timed(stage)
        if hit:
            return stage
        longest /= 2


def run_flow(stage: str) -> dict[str, Any]:
    """One flow as the platform runs it; gates that cannot decide are let pass, so that promotions happen."""
    parameters: dict[str, Any] = {"accept_undecided": True} if stage == "promote" else {}
    flow = getattr(importlib.import_module(f"flows.{stage}"), stage)
    result: dict[str, Any] = flow(**parameters)
    return result


def _killed(stage: str, seconds: float) -> bool:
    """Start the flow, kill it after so many seconds; False when it had ended before."""
    child, receiver = child_process.start(run_flow, stage)
    receiver.recv()
    child.join(seconds)
    ended = child.exitcode is not None
    child.kill()
    child.join()
    return not ended


def _timed(stage: str) -> float:
    """Run the flow to its end; its seconds. A lease that a killed run holds is waited out."""
    deadline = time.monotonic() + LONGEST_LEASE_SECONDS
    while True:
        started = time.monotonic()
        try:
            child_process.run(run_flow, stage)
        except RuntimeError:
            if stage != "promote" or time.monotonic() > deadline:
                raise
            time.sleep(5.0)
            continue
        return time.monotonic() - started


def _verdict(settings: Settings) -> Iterator[Figure]:
    """Bring everything up to the log's head once more, and compare with the log."""
    from flows.materialize import counted_upto

    for stage in ("ingest", "validate", "materialize"):
        _timed(stage)
    lake = Lake(settings.lake_folder)
    held = lake.events(columns=("event_id", "type"))
    with closing(EventLog(settings.log_url)) as log:
        wanted = sum(log.counts().values())
        behind = log.head() - min(
            lake.watermark(), ValidationResults(settings.validation_folder).passed_upto(), counted_upto(settings)
        )
    distinct = pc.count_distinct(held["event_id"]).as_py()
    yield at_most("events lost between log and lake", wanted - distinct, 0)
    yield at_most("events doubled in the lake", len(held) - distinct, 0)
    yield at_most("positions that lake, verdicts or features are behind the log", behind, 0)
    versions = Registry(settings.mlflow_url).versions()
    bundles = [one["tags"]["bundle_digest"] for one in versions]
    yield at_most("bundles registered twice", len(bundles) - len(set(bundles)), 0)
    with closing(Promotions(settings.log_url)) as table:
        history = table.history(settings.endpoint, 1_000)
    yield at_most(
        "promotions of the version that was champion already", sum(one.version == one.previous for one in history), 0
    )
    yield just("versions registered", len(versions))
    yield just("promotions", len(history))
