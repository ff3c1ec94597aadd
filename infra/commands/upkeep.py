"""`attune backup`, `restore`, `backfill`, `retire`: what keeps an installation sound."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import UPKEEP, AsJson

Day = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="A day (UTC) on which events were logged.")]


def add_to(app: typer.Typer) -> None:
    """Declare the commands."""
    for command in (backup, restore, backfill, retire):
        app.command(rich_help_panel=UPKEEP)(command)


def backup(
    to: Annotated[Path | None, typer.Option(help="The folder of backups; by default ATTUNE_BACKUP_FOLDER.")] = None,
    check: Annotated[Path | None, typer.Option(help="Copy nothing; read this backup again, every file of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything that cannot be computed again, while it is in use: log, lake, features, registry, promotions.

    The copy is whole or not there. The platform makes one every night; ATTUNE_BACKUPS_KEPT of them stay.

    [bold]attune backup --to /mnt/safe[/bold]
    """
    from infra.commands import keeping

    if check is not None:
        keeping.check(check, as_json)
    else:
        keeping.backup(to, as_json)


def restore(
    folder: Annotated[Path, typer.Argument(help="One backup: a folder that `attune backup` named.")],
    as_json: AsJson = False,
) -> None:
    """Bring a backup back into an empty ATTUNE_VAR; the same slates are served afterwards.

    [bold]ATTUNE_VAR=/srv/attune attune restore /mnt/safe/20261122T020000Z[/bold]
    """
    from infra.commands import keeping

    keeping.restore(folder, as_json)


def backfill(first_day: Day, last_day: Day, as_json: AsJson = False) -> None:
    """Write the lake of some days again from the log, judge it again and count the features again.

    After a damaged file, a mended suite, a changed feature. Running it again changes nothing.

    [bold]attune backfill 2026-11-01 2026-11-07[/bold]
    """
    from infra.commands import keeping

    keeping.backfill(first_day.date(), last_day.date(), as_json)


def retire(as_json: AsJson = False) -> None:
    """Remove model versions that the policy keeps no longer, and folders of work that can be made again.

    A version goes when it is older than ATTUNE_VERSIONS_KEPT_DAYS and not among the latest ATTUNE_VERSIONS_KEPT;
    champion, previous, challenger and the first champion never go. The platform does this every six hours.
    """
    from infra.commands import keeping

    keeping.retire(as_json)
