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

from attune.clock import SECOND
from attune.event_log import EventLog
from attune.events import Interaction
from attune.promotions import Promotions
from attune.settings import Settings
from features.lake import Lake
from features.verdicts import Verdicts
from flows.materialize import counted_upto
from infra.bench import children, synthetic
from infra.bench.record import Figure, at_most, just
from infra.local import Stack
from models.registry import Registry

EVENTS, SLICE = 12_000, 1_500
STAGES = ("ingest", "validate", "materialize", "finetune", "promote")
POINTS = 30
LONGEST_LEASE_SECONDS = 60.0
BEHAVIOUR = ("interaction", "feedback")


def measure(seed: int, points: int = POINTS) -> list[Figure]:
    """Kill each of the stages in turn, ``points`` kills in all, with new events before each."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="attune-kills-") as folder:
        settings = Settings(var=Path(folder) / "var")
        synthetic.fill(settings, EVENTS, seed)
        with Stack(settings) as stack:
            stack.start_batch_servers()
            stack.wait()
            usual = {"ingest": _timed("ingest"), "train": _timed("train"), "promote": _timed("promote")}
            usual |= {"validate": 1.0, "materialize": 2.0, "finetune": usual["train"]}
            tally: Counter[str] = Counter()
            for place in range(points):
                stage = STAGES[place % len(STAGES)]
                _append(stack.settings, place)
                tally[f"killed in {stage}"] += _killed(stage, chance.uniform(0.0, usual[stage]))
                usual[stage] = max(usual[stage] / 2, _timed(stage))
            return [*_verdict(stack.settings), *(just(name, count) for name, count in sorted(tally.items()))]


def run_flow(stage: str) -> dict[str, Any]:
    """One flow as the platform runs it; gates that cannot decide are let pass, so that promotions happen."""
    parameters: dict[str, Any] = {"accept_undecided": True} if stage == "promote" else {}
    flow = getattr(importlib.import_module(f"flows.{stage}"), stage)
    result: dict[str, Any] = flow(**parameters)
    return result


def _killed(stage: str, seconds: float) -> bool:
    """Start the flow, kill it after so many seconds; False when it had ended before."""
    child, receiver = children.start(run_flow, stage)
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
            children.run(run_flow, stage)
        except RuntimeError:
            if stage != "promote" or time.monotonic() > deadline:
                raise
            time.sleep(5.0)
            continue
        return time.monotonic() - started


def _append(settings: Settings, place: int) -> None:
    """New behaviour, as it would arrive while flows run."""
    start = 1_700_000_000 * SECOND + place * SLICE * SECOND
    with closing(EventLog(settings.log_url)) as log:
        log.append([
            Interaction(
                event_id=f"late-{place}-{number}", event_timestamp=start + number * SECOND,
                user_id=f"late-{number % 97}", item_id=str(1 + number % 50), kind="click",
            )
            for number in range(SLICE)
        ])  # fmt: skip


def _verdict(settings: Settings) -> Iterator[Figure]:
    """Bring everything up to the log's head once more, and compare with the log."""
    for stage in ("ingest", "validate", "materialize"):
        _timed(stage)
    lake = Lake(settings.lake_folder)
    held = lake.events(columns=("event_id", "type"))
    with closing(EventLog(settings.log_url)) as log:
        wanted = sum(log.counts().values())
        behind = log.head() - min(
            lake.watermark(), Verdicts(settings.validation_folder).passed_upto(), counted_upto(settings)
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
