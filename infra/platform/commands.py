"""`attune up`, `status`, `logs`, `doctor`, `down`, `env` and `serve`: the platform from a shell."""

import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from attune.errors import AttuneError
from infra.commands import execution, output
from infra.commands.options import SERVERS, AsJson, part_names

if TYPE_CHECKING:
    from infra.platform.lifecycle import Condition

app = typer.Typer()

NOTHING_RUNS = 4
STATE_COLOURS = {"ready": "green", "starting": "yellow"}
VERDICT_COLOURS = {"good": "green", "warning": "yellow", "bad": "red"}


@app.command(rich_help_panel=SERVERS)
def serve() -> None:
    """Run only the endpoint and the state keeper, in the foreground until Ctrl-C."""
    from infra.child_processes import Interrupted, interrupted_by_signals, log_end, uninterrupted_cleanup
    from infra.local_stack import Stack

    console = Console()
    with interrupted_by_signals(), Stack(execution.settings()) as stack, uninterrupted_cleanup():
        try:
            stack.start("mlflow", "keeper", "endpoint")
            stack.wait()
            url = stack.endpoint_url
            console.print(f"[bold]{url}[/] answers; its API is described at {url}/docs. Ctrl-C stops it.")
            process = stack.wait_for_end()
            sys.exit(f"{process.name} ended; {log_end(process.log)}")
        except Interrupted:
            console.print("stopping")


@app.command(rich_help_panel=SERVERS)
def up(as_json: AsJson = False) -> None:
    """Start the platform in the background: Prefect, MLflow, state keeper, endpoint, worker, watcher.

    Each part is watched and restarted when it ends or no longer answers. Prints where each answers once all are
    ready. Calling it again changes nothing. The ports are settings: ATTUNE_PREFECT_PORT, ATTUNE_MLFLOW_PORT,
    ATTUNE_SERVING_PORT, ATTUNE_WORKER_PORT.
    """
    from rich.live import Live

    from infra.child_processes import uninterrupted_cleanup
    from infra.platform import lifecycle

    with (
        execution.ending(),
        uninterrupted_cleanup(),
        Live(console=Console(stderr=True, quiet=as_json), refresh_per_second=4, transient=True) as live,
    ):
        settings, seconds = lifecycle.up(execution.settings(), lambda conditions: live.update(_table(conditions)))
    conditions = lifecycle.conditions(settings)
    if as_json:
        output.print_json({"seconds": round(seconds, 1), "parts": [vars(part) for part in conditions]})
        return
    output.console().print(_table(conditions))
    output.console().print(f"the platform is up after {seconds:.0f} s" if seconds else "the platform was up already")
    output.say_next("`attune train` makes a model, `attune status` shows this table, `attune down` stops it")


@app.command(rich_help_panel=SERVERS)
def status(as_json: AsJson = False) -> None:
    """How each part of the platform is. Exit status 1 when one is not ready, 4 when nothing runs."""
    from infra.platform import lifecycle

    settings = execution.settings()
    running = execution.running(settings)
    conditions = lifecycle.conditions(running) if running else []
    if as_json:
        output.print_json({"running": running is not None, "parts": [vars(part) for part in conditions]})
    elif running is None:
        output.console().print(f"nothing runs on {settings.var}: `attune up` starts the platform")
    else:
        output.console().print(_table(conditions))
    if running is None:
        sys.exit(NOTHING_RUNS)
    sys.exit(0 if all(part.state == "ready" for part in conditions) else 1)


@app.command(rich_help_panel=SERVERS)
def logs(
    part: Annotated[
        str | None, typer.Argument(help="A part as `attune status` names it.", autocompletion=part_names)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines of each part.")] = 20,
) -> None:
    """What the parts printed last; all of them, or one."""
    from infra.platform.parts import log_of, part_named, parts

    settings = execution.settings()
    chosen = [part_named(settings, part)] if part else parts(settings)
    files = [path for piece in chosen if (path := log_of(settings, piece.name)).exists()]
    if not files:
        raise AttuneError(f"{settings.logs_folder} holds no logs yet: `attune up` starts the platform")
    if follow:
        with suppress(KeyboardInterrupt):
            subprocess.run(["tail", "-n", str(lines), "-F", *map(str, files)], check=False)
        return
    for path in files:
        if len(files) > 1:
            output.console().rule(f"{path}", align="left")
        with path.open(errors="replace") as stream:
            sys.stdout.writelines(deque(stream, lines))
        sys.stdout.flush()


@app.command(rich_help_panel=SERVERS)
def doctor(as_json: AsJson = False) -> None:
    """Look for faults of the installation and say what to do. Exit status 1 when there are any."""
    from infra.platform.doctor import check

    findings = check(execution.settings())
    if as_json:
        output.print_json({"findings": [vars(finding) for finding in findings]})
    else:
        rows = [
            [Text(finding.verdict, VERDICT_COLOURS[finding.verdict]), finding.name, finding.found, finding.advice]
            for finding in findings
        ]
        output.table(["", "checked", "found", "what to do"], rows)
    sys.exit(1 if any(finding.verdict == "bad" for finding in findings) else 0)


@app.command(rich_help_panel=SERVERS)
def down(as_json: AsJson = False) -> None:
    """Stop every part of the platform."""
    from infra.platform import lifecycle

    settings = execution.settings()
    with Console(stderr=True, quiet=as_json).status("stopping"):
        stopped = lifecycle.down(settings)
    if as_json:
        output.print_json({"stopped": stopped})
    else:
        output.console().print("the platform is down" if stopped else f"nothing runs on {settings.var}")


@app.command(rich_help_panel=SERVERS)
def env() -> None:
    """Print what the tools' own commands need to know: [bold]eval "$(attune env)"[/bold].

    Afterwards [bold]prefect deployment run finetune/finetune[/bold], [bold]mlflow models[/bold] and
    [bold]feast -c "$FEAST_REPO" feature-views list[/bold] work on this platform.
    """
    from infra.environment import shell_environment
    from infra.platform.parts import with_addresses

    settings = execution.settings()
    for name, value in sorted(shell_environment(execution.running(settings) or with_addresses(settings)).items()):
        print(f"export {name}={shlex.quote(value)}")


def _table(conditions: "Sequence[Condition]") -> Table:
    table = Table("part", "state", Column("address", no_wrap=True), "up for", "memory", "what it does", box=SIMPLE)
    for part in conditions:
        table.add_row(
            part.name,
            f"[{STATE_COLOURS.get(part.state, 'red')}]{part.state}[/]",
            part.address or "-",
            output.duration(part.seconds) if part.seconds else "-",
            f"{part.bytes / 2**20:,.0f} MiB" if part.bytes else "-",
            part.purpose,
        )
    return table
