"""What the commands of upkeep do."""

from datetime import date
from pathlib import Path

from attune import backup as backups
from attune.clock import system_clock
from attune.errors import ConfigError
from attune.settings import Settings
from infra.commands.execution import runner
from infra.commands.output import Progress, facts, print_json, say_next
from infra.platform import addresses


def backup(to: Path | None, as_json: bool) -> None:
    """Make one backup and remove those beyond the number to keep."""
    settings = Settings()
    folder = to or settings.backups
    with Progress(as_json).stage(f"back up to {folder}"):
        made = backups.backup(settings, folder, system_clock)
        removed = [] if to else backups.prune(folder, settings.backups_kept, made.log_id)
    found = {"folder": str(made.folder), "head": made.head, "files": made.files, "bytes": made.bytes}
    found |= {"not_copied": list(made.not_copied), "removed": [one.name for one in removed]}
    if as_json:
        print_json(found)
        return
    facts("backed up", found)
    say_next(f"`attune restore {made.folder}` brings it back into an empty ATTUNE_VAR")


def check(folder: Path, as_json: bool) -> None:
    """Hold every file of a backup against its sha256. Raises BackupError that names the first that is not whole."""
    with Progress(as_json).stage(f"check {folder}"):
        made = backups.verify(folder)
    found = {"folder": str(folder), "head": made.head, "files": made.files, "bytes": made.bytes, "whole": True}
    if as_json:
        print_json(found)
    else:
        facts("checked", found)


def restore(folder: Path, as_json: bool) -> None:
    """Bring one backup back. Raises ConfigError while a platform runs there."""
    settings = Settings()
    if addresses.running(settings) is not None:
        raise ConfigError(f"a platform runs on {settings.var}: `attune down` first, and restore into an empty folder")
    with Progress(as_json).stage(f"restore {folder}"):
        made = backups.restore(settings, folder)
    found = {"folder": str(folder), "var": str(settings.var), "head": made.head, "files": made.files}
    if as_json:
        print_json(found)
        return
    facts("restored", found)
    say_next("`attune up` starts the platform on it")


def backfill(first_day: date, last_day: date, as_json: bool) -> None:
    """Derive some days again, on the platform if it is up. Raises ConfigError for days the wrong way round."""
    if last_day < first_day:
        raise ConfigError(f"{first_day} is after {last_day}: name the first day first")
    with runner(Settings(), Progress(as_json)) as run:
        found = run.run("backfill", first_day=first_day, last_day=last_day)
    if as_json:
        print_json(found)
        return
    facts(f"derived again: {first_day} to {last_day}", found)


def retire(as_json: bool) -> None:
    """Remove old versions, on the platform if it is up."""
    with runner(Settings(), Progress(as_json)) as run:
        found = run.run("retire")
    if as_json:
        print_json(found)
    else:
        facts("removed", {**found, "removed": ", ".join(found["removed"]) or "no version"})
