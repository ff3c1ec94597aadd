"""Everything that cannot be computed again is copied while it is in use."""

from typing import Any

from attune.clock import system_clock
from attune.settings import Settings
from flows.steps import HOUR, flow, show_figures, step


@step
def copy_everything() -> dict[str, Any]:
    """Write a backup that is whole or not there, and remove those beyond the number to keep."""
    from attune import backup as backups

    settings = Settings()
    made = backups.backup(settings, settings.backups, system_clock)
    removed = backups.prune(settings.backups, settings.backups_kept, made.log_id)
    found = {"folder": str(made.folder), "bytes": made.bytes, "files": made.files, "removed": [p.name for p in removed]}
    show_figures("backup", found, "What was copied, and which old copies went")
    return found


@flow(name="backup", timeout_seconds=6 * HOUR)
def backup() -> dict[str, Any]:
    """Back up the log, the lake, the features and the registry; ``attune restore`` brings them back."""
    return copy_everything()
