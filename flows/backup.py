"""Copies everything that cannot be computed again, while it is in use."""

from typing import Any

from attune.clock import system_clock
from attune.settings import Settings
from flows.steps import HOUR, flow, show_figures, step


@step
def copy_everything(settings: Settings) -> dict[str, Any]:
    """Write a backup that is whole or not there, and remove those beyond the number to keep."""
    from attune import backup as backups

    made = backups.backup(settings, settings.backups, system_clock)
    removed = [path.name for path in backups.prune(settings.backups, settings.backups_kept, made.log_id)]
    figures = {"folder": str(made.folder), "bytes": made.bytes, "files": made.files, "removed": removed}
    show_figures("backup", figures, "What was copied, and which old copies went")
    return figures


@flow(name="backup", timeout_seconds=6 * HOUR)
def backup() -> dict[str, Any]:
    """Back up the log, the lake, the features and the registry; ``attune restore`` brings them back."""
    return copy_everything(Settings())
