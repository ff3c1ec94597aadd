"""`python -m benchmarks NAME --out FILE`: measure, and write the figures as a record."""

import json
import os
import pkgutil
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from benchmarks.record import Figure, write
from infra.commands import execution
from infra.commands.options import AsJson
from infra.commands.output import Progress, note, print_json, table
from models.registry import Registry

BENCHMARKS = {
    "platform": {
        "reaction": "benchmarks.platform_reaction:measure",
        "kills": "benchmarks.platform_kills:measure",
        "volume": "benchmarks.platform_volume:measure",
        "soak": "benchmarks.platform_soak:measure",
    },
    "serving": {
        "cost": "benchmarks.serving_cost:measure",
        "against_mlflow": "benchmarks.serving_mlflow:measure",
        "effect": "benchmarks.serving_feedback:measure",
        "durable": "benchmarks.serving_durability:measure",
        "growth": "benchmarks.serving_growth:measure",
        "processes": "benchmarks.serving_processes:measure",
        "memory": "benchmarks.serving_memory:measure",
    },
    "replay": {
        "movielens_1m": "benchmarks.replay_movielens:measure_1m",
        "movielens_demo": "benchmarks.replay_movielens:measure_demo",
        "pace": "benchmarks.replay_pace:measure",
    },
    "offpolicy": {
        "coverage": "benchmarks.offpolicy_coverage:measure",
        "obp": "benchmarks.offpolicy_obp:measure",
        "open_bandit": "benchmarks.offpolicy_open_bandit:measure",
    },
    "gates": {
        "gates_known": "benchmarks.gates_power:measure_known",
        "gates_unseen": "benchmarks.gates_power:measure_unseen",
    },
    "evidence": {
        "floor": "benchmarks.evidence:measure",
    },
    "training": {
        "peer": "benchmarks.training_peer:measure",
        "growth": "benchmarks.training_growth:measure",
    },
    "cold": {
        "items": "benchmarks.cold:measure",
    },
    "sequential": {
        "leave_one_out": "benchmarks.sequential:measure",
    },
}
"""Every benchmark with its parts; a part is a function that takes a seed and returns figures.

What else it takes are its own options: `python -m benchmarks NAME --only PART --out FILE -- --help` lists them.
"""

OPTIONAL = {"open_bandit": "OPEN_BANDIT_SAMPLE"}
"""Parts that are left out of a whole benchmark where their environment variable is not set."""

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"The benchmark: {', '.join(BENCHMARKS)}.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    only: Annotated[
        str | None,
        typer.Option(
            help="One part: " + "; ".join(f"{', '.join(parts)} of {name}" for name, parts in BENCHMARKS.items()) + "."
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

    [bold]python -m benchmarks platform --out docs/results/platform.json[/bold]
    """
    started = time.time()
    with execution.ending():
        figures = measure(name, only, seed, context.args)
    record = write(out, name, shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]), seed, figures)
    if mlflow:
        publish(record, started, quiet=as_json)
    if as_json:
        print_json(record)
        return
    holds = {True: "yes", False: "NO", None: ""}
    rows = [[figure.name, figure.value, figure.limit, holds[figure.holds]] for figure in figures]
    table(["figure", "value", "limit", "holds"], rows, numbers=(1, 2))


def measure(name: str, part: str | None, seed: int, options: Sequence[str] = ()) -> list[Figure]:
    """The figures of one part, or of every part in turn, each in a process of its own.

    The processes are separate because libraries keep the environment that they read at their first import. Raises
    ConfigError for an unknown name or part, AttuneError when a part fails. ``options`` are the part's
    own; where there is only one part, it needs no name.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    parts = BENCHMARKS[name]
    if part is None and len(parts) == 1:
        (part,) = parts
    if part is None and options:
        raise ConfigError(f"{' '.join(options)}: choose the part with --only, one of {', '.join(parts)}")
    if part is None:
        wanted = [part for part in parts if part not in OPTIONAL or OPTIONAL[part] in os.environ]
        return [figure for part in wanted for figure in _measure_apart(name, part, seed)]
    if part not in parts:
        raise ConfigError(f"{name} has no part {part!r}: choose one of {', '.join(parts)}")
    function = pkgutil.resolve_name(parts[part])
    if not options:
        return list(function(seed))
    single = typer.Typer(add_completion=False)
    single.command()(function)
    return list(single(["--seed", str(seed), *options], standalone_mode=False) or [])  # 0 after --help


def _measure_apart(name: str, part: str, seed: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", name, "--only", part, "--seed", str(seed), "--out", str(out)]
        if subprocess.run(command, check=False).returncode:
            raise AttuneError(f"the part {part} could not be measured; its messages are above")
        return [Figure(**figure) for figure in json.loads(out.read_text())["figures"]]


def publish(record: dict[str, Any], since: float, quiet: bool) -> None:
    """Log a record as a run in MLflow, with the pictures that the benchmark drew ``since`` (seconds since 1970).

    Raises ModelError when MLflow refuses it; the record's file has been written before.
    """
    settings = Settings()
    pictures = recent_pictures(settings, record["bench"], since)
    with execution.registry(settings, Progress(quiet=quiet)) as reached:
        run_id = Registry(reached.mlflow_url).record_bench(record, pictures)
    note(f"run {run_id} of MLflow's experiment attune-bench has the record and {len(pictures)} pictures")


def recent_pictures(settings: Settings, name: str, since: float) -> list[Path]:
    """The pictures of a benchmark that were written ``since`` then."""
    paths = (settings.var / "bench").glob(f"{name}-*.png")
    return sorted(path for path in paths if path.stat().st_mtime >= since)
