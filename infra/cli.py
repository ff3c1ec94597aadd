"""The `attune` command. Each command imports its libraries only when it runs, so `attune --help` is quick.

The commands are declared in ``infra.commands`` and ``infra.platform.commands``: a new one needs no line here.
"""

import os
import sys
from typing import NoReturn

import typer

from attune.errors import AttuneError
from infra.commands import data, keys, learning, quarantine, recommend, upkeep, versions
from infra.commands.options import START
from infra.platform import commands as platform

EXIT = (
    "Exit status: [bold]0[/bold] done, [bold]1[/bold] something attune can explain, [bold]2[/bold] a wrong call, "
    "[bold]3[/bold] refused by the gates or undecided, [bold]4[/bold] no platform runs, "
    "[bold]130[/bold] interrupted. Results go to standard output, messages to "
    "standard error; with [bold]--json[/bold] the result is one JSON object. Everything lies under "
    "[bold]ATTUNE_VAR[/bold] (var)."
)

app = typer.Typer(
    name="attune",
    help="Real-time personalised recommendation that learns from its users' feedback.\n\n"
    "[bold]attune import movielens && attune train\n"
    "attune promote --accept-undecided && attune recommend 257[/bold]\n\n"
    "[bold]attune up[/bold] starts a platform that does all of this by itself."
    " [bold]attune COMMAND --help[/bold] has examples;"
    " [bold]attune --install-completion[/bold] completes commands, kinds, recipes and versions in your shell.",
    epilog=EXIT,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command(rich_help_panel=START)
def demo() -> None:
    """Run the whole loop on real data: import, validate, train, promote, serve, feedback, fine-tune, take over.

    Five minutes on two cores; everything lies under var/demo afterwards.
    """
    from infra.demo import run

    sys.exit(run())


for module in (platform, keys, data, quarantine, recommend, learning, versions, upkeep):
    app.add_typer(module.app)


def main() -> NoReturn:
    """The entry point: what attune can explain ends in one line and exit status 1, never in a traceback."""
    os.umask(0o077)  # what people did is nobody else's to read
    try:
        app(prog_name="attune")
        sys.exit(0)
    except AttuneError as error:
        _say(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"{error.filename}: {error.strerror}; see to it that attune may read and write there (ATTUNE_VAR)")
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        for fault in error.errors():
            _say("setting ATTUNE_" + "_".join(str(part) for part in fault["loc"]).upper() + f": {fault['msg']}")
    sys.exit(1)


def _say(message: str) -> None:
    typer.secho(f"attune: {message}", err=True, fg=typer.colors.RED)
