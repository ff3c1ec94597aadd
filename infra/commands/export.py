"""`attune export`: the event log as files for other tools."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import EVENTS, AsJson


def add_to(app: typer.Typer) -> None:
    """Put the command under its heading of the help."""
    app.command(rich_help_panel=EVENTS)(export)


class Format(StrEnum):
    """What the files are."""

    parquet = "parquet"
    csv = "csv"
    jsonl = "jsonl"


class Type(StrEnum):
    """The types of events in the log."""

    interaction = "interaction"
    feedback = "feedback"
    slate = "slate"
    item = "item"
    user = "user"


def export(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    format: Annotated[Format, typer.Option(help="What the files are.")] = Format.parquet,
    after: Annotated[int, typer.Option(min=0, help="Only events after this position of the log.")] = 0,
    upto: Annotated[int | None, typer.Option(min=0, help="Only events up to this position.")] = None,
    type: Annotated[
        list[Type] | None, typer.Option(help="Only events of this type; may be given again. All by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the event log as files, one a type of event, for other tools.

    The folder appears whole or not at all. The columns bear attune's own names,
    so a Parquet or CSV file of interactions can be imported again without a map.

    [bold]attune export /tmp/log[/bold]
    [bold]attune export /tmp/new --format csv --after 100000 --type interaction[/bold]
    """
    from infra.commands import exporting

    exporting.export(folder, format.value, after, upto, [one.value for one in type or ()], as_json)
