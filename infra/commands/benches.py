"""`attune bench`: measures, and writes what it found."""

import importlib
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import UPKEEP, AsJson


class Bench(StrEnum):
    """The benchmarks: a module of `infra.bench` each."""

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
    from infra.bench.record import write
    from infra.commands.output import print_json, table
    from infra.commands.running import ending

    started = time.time()
    with ending():
        figures = importlib.import_module(f"infra.bench.{name}").measure(seed, only)
    command = shlex.join(["attune", *sys.argv[1:]])
    found = write(out, name, command, seed, figures)
    if mlflow:
        from infra.commands.publishing import publish

        publish(found, started, quiet=as_json)
    if as_json:
        print_json(found)
        return
    rows = [[one.name, one.value, one.limit, {True: "yes", False: "NO", None: ""}[one.holds]] for one in figures]
    table(["figure", "value", "limit", "holds"], rows, numbers=(1, 2))
