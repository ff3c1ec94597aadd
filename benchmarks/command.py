"""`attune bench`: measures, and writes what it found."""

import importlib
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from attune.settings import Settings
from infra.commands import execution
from infra.commands.options import UPKEEP, AsJson
from infra.commands.output import Progress, note
from models.registry import Registry


class Bench(StrEnum):
    """The benchmarks: a module of `benchmarks` each."""

    platform = "platform"
    replay = "replay"
    serving = "serving"
    offpolicy = "offpolicy"
    gates = "gates"


def add_to(app: typer.Typer) -> None:
    """Declare the command."""
    app.command(rich_help_panel=UPKEEP)(bench)


def bench(
    name: Annotated[Bench, typer.Argument(help="What to measure.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="One part: reaction, kills, volume, soak of platform; cost, against_mlflow, effect, durable, growth, "
            "processes, memory of serving; movielens_1m, movielens_demo, pace of replay; coverage, obp, open_bandit of "
            "offpolicy; gates_known, gates_unseen of gates."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds draw equal events.")] = 0,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also log the record and its pictures as a run in MLflow.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure on a scratch installation of its own and write figures with their limits. Minutes to an hour.

    The load on the endpoint comes from wrk: apt-get install wrk.

    [bold]attune bench platform --out docs/results/platform.json[/bold]
    """
    from benchmarks.record import write
    from infra.commands.execution import ending
    from infra.commands.output import print_json, table

    started = time.time()
    with ending():
        figures = importlib.import_module(f"benchmarks.{name}").measure(seed, only)
    command = shlex.join(["attune", *sys.argv[1:]])
    found = write(out, name, command, seed, figures)
    if mlflow:
        publish(found, started, quiet=as_json)
    if as_json:
        print_json(found)
        return
    rows = [[one.name, one.value, one.limit, {True: "yes", False: "NO", None: ""}[one.holds]] for one in figures]
    table(["figure", "value", "limit", "holds"], rows, numbers=(1, 2))


# `attune bench --mlflow`: a benchmark's record and its pictures as a run in MLflow.


def publish(found: dict[str, Any], since: float, quiet: bool) -> None:
    """Log a record, and the pictures that the benchmark drew ``since`` (seconds since 1970), where MLflow is.

    Raises ModelError when MLflow takes none; the record's file is there all the same.
    """
    settings = Settings()
    pictures = drawn(settings, found["bench"], since)
    with execution.registry(settings, Progress(quiet=quiet)) as told:
        run_id = Registry(told.mlflow_url).record_bench(found, pictures)
    note(f"run {run_id} of MLflow's experiment attune-bench has the record and {len(pictures)} pictures")


def drawn(settings: Settings, bench: str, since: float) -> list[Path]:
    """The pictures of that benchmark that are not older."""
    found = (settings.var / "bench").glob(f"{bench}-*.png")
    return sorted(path for path in found if path.stat().st_mtime >= since)
