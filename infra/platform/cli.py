"""The commands that start, watch and stop the platform; ``infra.cli`` adds them to `attune`."""

import sys
from typing import Annotated

import typer

from infra.commands.options import SERVERS, AsJson


def add_to(app: typer.Typer) -> None:
    """Put the commands under their own heading of the help."""
    for command in (up, status, logs, doctor, down, env):
        app.command(rich_help_panel=SERVERS)(command)


def up(as_json: AsJson = False) -> None:
    """Start the platform in the background: Prefect, MLflow, state keeper, endpoint, worker, watcher.

    Each part is watched and restarted when it ends or no longer answers. Prints where each answers once all are
    ready. Calling it again changes nothing. The ports are settings: ATTUNE_PREFECT_PORT, ATTUNE_MLFLOW_PORT,
    ATTUNE_SERVING_PORT, ATTUNE_WORKER_PORT.
    """
    from infra.platform import commands

    commands.up(as_json)


def status(as_json: AsJson = False) -> None:
    """How each part of the platform is. Exit status 1 when one is not ready, 4 when nothing runs."""
    from infra.platform import commands

    sys.exit(commands.status(as_json))


def logs(
    part: Annotated[str | None, typer.Argument(help="prefect, mlflow, keeper, endpoint, worker or watcher.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many of the last lines of each part.")] = 20,
) -> None:
    """What the parts printed last; all of them, or one."""
    from infra.platform import commands

    commands.show_logs(part, follow, lines)


def doctor(as_json: AsJson = False) -> None:
    """Look for what keeps the platform from running well, and say what to do. Exit status 1 when something does."""
    from infra.platform import commands

    sys.exit(commands.doctor(as_json))


def down(as_json: AsJson = False) -> None:
    """Stop every part of the platform."""
    from infra.platform import commands

    commands.down(as_json)


def env() -> None:
    """Print what the tools' own commands need to know: [bold]eval "$(attune env)"[/bold].

    Afterwards [bold]prefect deployment run finetune/finetune[/bold], [bold]mlflow models[/bold] and
    [bold]feast -c "$FEAST_REPO" feature-views list[/bold] work on this platform.
    """
    from infra.platform import commands

    commands.print_environment()
