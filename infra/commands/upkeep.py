"""`attune backup`, `restore`, `backfill`, `retire`: what keeps an installation sound."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from attune.clock import system_clock
from attune.errors import ConfigError
from infra.commands import execution, output
from infra.commands.options import UPKEEP, AsJson

app = typer.Typer()

Day = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="A day (UTC) of the log.")]


@app.command(rich_help_panel=UPKEEP)
def backup(
    to: Annotated[Path | None, typer.Option(help="By default ATTUNE_BACKUP_FOLDER.")] = None,
    check: Annotated[Path | None, typer.Option(help="Only read every file of this backup again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything that cannot be computed again, while it is in use: log, lake, features, registry, promotions.

    The copy is whole or not there. The platform makes one every night; ATTUNE_BACKUPS_KEPT of them stay.

    [bold]attune backup --to /mnt/safe[/bold]
    """
    from attune import backup

    if check is not None:
        with output.Progress(as_json).stage(f"check {check}"):
            made = backup.verify(check)
        figures = {"folder": str(check), "head": made.head, "files": made.files, "bytes": made.bytes, "whole": True}
        _show("checked", figures, as_json)
        return
    settings = execution.settings()
    folder = to or settings.backups
    with output.Progress(as_json).stage(f"back up to {folder}"):
        made = backup.backup(settings, folder, system_clock)
        removed = [] if to else backup.prune(folder, settings.backups_kept, made.log_id)
    figures = {"folder": str(made.folder), "head": made.head, "files": made.files, "bytes": made.bytes}
    figures |= {"not_copied": list(made.not_copied), "removed": [path.name for path in removed]}
    _show("backed up", figures, as_json, f"`attune restore {made.folder}` brings it back into an empty ATTUNE_VAR")


@app.command(rich_help_panel=UPKEEP)
def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `attune backup` named.")], as_json: AsJson = False
) -> None:
    """Bring a backup back into an empty ATTUNE_VAR; the same slates are served afterwards.

    [bold]ATTUNE_VAR=/srv/attune attune restore /mnt/safe/20261122T020000Z[/bold]
    """
    from attune import backup

    settings = execution.settings()
    if execution.running(settings) is not None:
        raise ConfigError(f"a platform runs on {settings.var}: `attune down` first, and restore into an empty folder")
    with output.Progress(as_json).stage(f"restore {folder}"):
        made = backup.restore(settings, folder)
    figures = {"folder": str(folder), "var": str(settings.var), "head": made.head, "files": made.files}
    _show("restored", figures, as_json, "`attune up` starts the platform on it")


@app.command(rich_help_panel=UPKEEP)
def backfill(first_day: Day, last_day: Day, as_json: AsJson = False) -> None:
    """Write the lake of some days again from the log, judge it again and count the features again.

    After a damaged file, a mended suite, a changed feature. Running it again changes nothing.

    [bold]attune backfill 2026-11-01 2026-11-07[/bold]
    """
    first, last = first_day.date(), last_day.date()
    if last < first:
        raise ConfigError(f"{first} is after {last}: name the first day first")
    with execution.runner(execution.settings(), output.Progress(as_json)) as runner:
        figures = runner.run("backfill", first_day=first, last_day=last)
    _show(f"derived again: {first} to {last}", figures, as_json)


@app.command(rich_help_panel=UPKEEP)
def retire(as_json: AsJson = False) -> None:
    """Remove model versions that the policy keeps no longer, and folders of work that can be made again.

    A version goes when it is older than ATTUNE_VERSIONS_KEPT_DAYS and not among the latest ATTUNE_VERSIONS_KEPT;
    champion, previous, challenger and the first champion never go. The platform does this every six hours.
    """
    with execution.runner(execution.settings(), output.Progress(as_json)) as runner:
        figures = runner.run("retire")
    removed = figures["removed"] if as_json else ", ".join(figures["removed"]) or "no version"
    _show("removed", {**figures, "removed": removed}, as_json)


def _show(title: str, figures: dict[str, Any], as_json: bool, advice: str = "") -> None:
    if as_json:
        output.print_json(figures)
        return
    output.facts(title, figures)
    if advice:
        output.say_next(advice)
