"""`attune quarantine`: the rows that broke a rule, listed, written to be mended, and brought back."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune.clock import system_clock
from attune.errors import ConfigError, DataContractError
from infra.commands import execution, output
from infra.commands.data import show_tallies
from infra.commands.options import EVENTS, AsJson

if TYPE_CHECKING:
    from attune.event_log import QuarantinedRow

app = typer.Typer()
quarantined = typer.Typer(
    help="Rows that broke a rule: list them, mend them, and bring them back.", no_args_is_help=True
)
app.add_typer(quarantined, name="quarantine", rich_help_panel=EVENTS)

Source = Annotated[str, typer.Option(help="Only rows whose source begins so: a file's name, or http:/v1/events.")]

OPEN_ROWS = 5_000
"""Rows read at once."""


@quarantined.command("list")
def list_quarantined(source: Source = "", as_json: AsJson = False) -> None:
    """List how many open rows there are, by source, type and field."""
    counts: dict[tuple[str, str, str], list[Any]] = {}
    for row in _open_rows(source):
        counts.setdefault((row.source.partition("#")[0], row.type, row.field or ""), [row.reason, 0])[1] += 1
    if as_json:
        named = [{"source": key[0], "type": key[1], "field": key[2], "rows": rows, "first_reason": reason}
                 for key, (reason, rows) in counts.items()]  # fmt: skip
        output.print_json({"quarantine": named})
        return
    rows = [[*key, rows, reason] for key, (reason, rows) in counts.items()]
    output.table(["source", "type", "field", "rows", "first reason"], rows, numbers=[3])
    if rows:
        output.say_next(
            "`attune quarantine export FILE` writes them to be mended, `attune quarantine replay` tries again"
        )


@quarantined.command("export")
def export_quarantined(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.")],
    source: Source = "",
    as_json: AsJson = False,
) -> None:
    """Write open rows as JSON lines: edit each one's `row`, and hand the file to attune quarantine replay."""
    import msgspec

    from attune.files import whole_file

    if file.exists():
        raise ConfigError(f"{file} exists already; name a file that does not")
    rows = 0
    with whole_file(file) as draft, draft.open("wb") as stream:
        for row in _open_rows(source):
            named = {name: getattr(row, name) for name in ("id", "source", "type", "row", "reason")}
            stream.write(msgspec.json.encode(named) + b"\n")
            rows += 1
    if as_json:
        output.print_json({"file": str(file.resolve()), "rows": rows})
        return
    output.facts(f"wrote {file}", {"rows": rows})
    output.say_next(f"mend each `row` there, then `attune quarantine replay {file}`")


@quarantined.command()
def replay(
    file: Annotated[Path | None, typer.Argument(help="What attune quarantine export wrote, mended.")] = None,
    source: Source = "",
    as_json: AsJson = False,
) -> None:
    """Bring rows in that the rules admit by now, or as a file mends them; they leave the quarantine.

    Each comes in once, and keeps its event id. Mend a row here or in its source file, not in both:
    the mended file's row is another event. Such an import can be withdrawn, too.
    """
    import msgspec

    from features.importer import readmit

    edited: dict[int, Any] | None = None
    if file is not None:
        edited = {}
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                named = msgspec.json.decode(line)
                edited[int(named["id"])] = named["row"]
            except (ValueError, LookupError, TypeError) as error:
                raise DataContractError(f"{file}:{number} is no line of `attune quarantine export`: {error}") from error
    with execution.event_log() as log:
        tally = readmit(log, system_clock, source, edited)
        left = log.quarantined()
    show_tallies({"row": tally}, "brought in from quarantine", {**asdict(tally), "open": left}, as_json)
    if not as_json:
        output.console().print(f"  {left:,} rows are open")


def _open_rows(source: str) -> "Iterator[QuarantinedRow]":
    """Every open row, some thousands at a time."""
    after = 0
    with execution.event_log() as log:
        while rows := log.quarantined_rows(after, OPEN_ROWS, source):
            yield from rows
            after = rows[-1].id
