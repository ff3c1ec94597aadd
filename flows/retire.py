"""Removes what is no longer kept: old model versions, and folders that can be made again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attune.files import remove_old
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from features.validation_results import ValidationResults
from flows import resources
from flows.steps import HOUR, flow, show_figures, step

WORK_KEPT, WORK_SECONDS = 3, 12 * HOUR
"""Of training sets, logged slates and bundles the latest of each kind stay, and whatever may still be in use."""
RESULTS_SECONDS = 31 * 24 * HOUR
"""What runs returned stays a little longer than the runs themselves (``infra.environment``)."""
CHAMPIONS_KEPT = 20
"""A rollback finds the version of any of so many promotions."""


@step
def remove_old_versions(settings: Settings) -> list[str]:
    """Remove versions that are old, not among the latest, named by no alias, and no endpoint's latest champions."""
    with resources.promotions(settings) as table:
        keep = {version for row in needed(table) for version in (row.version, row.previous) if version is not None}
    return resources.registry(settings).retire(keep, settings.versions_kept_days, settings.versions_kept)


def needed(table: Promotions) -> list[Promotion]:
    """What may be asked for: every endpoint's latest champions and its first, which gates measure by."""
    rows = [row for endpoint in table.endpoints() for row in table.history(endpoint, CHAMPIONS_KEPT)]
    return rows + [row for endpoint in table.endpoints() if (row := table.first(endpoint)) is not None]


@step
def join_files(settings: Settings) -> dict[str, Any]:
    """Join yesterday's small files of the lake into a few, and the verdicts that passed into one."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    with resources.event_log(settings) as log:
        after, upto = resources.lake(settings).rebuild(log, yesterday, yesterday)
    return {"positions_joined": upto - after, "verdicts_joined": ValidationResults(settings.validation_folder).join()}


@step
def tidy_folders(settings: Settings) -> dict[str, int]:
    """Remove training sets, logged slates and bundles that nobody uses; all of them can be made or fetched again.

    The training report of a removed bundle goes with it.
    """
    from models.training_job import report_file

    with resources.promotions(settings) as table:
        in_use = {row.bundle_name for row in needed(table)} | {"made"}
    made, training = settings.bundles_folder / "made", settings.training_folder
    bundles_made = remove_old(made, WORK_KEPT, WORK_SECONDS, named="*/")
    remove_old(made, WORK_KEPT, WORK_SECONDS, named="*.checkpoint")
    for name in bundles_made:
        report_file(made / name).unlink(missing_ok=True)
    return {
        "training_sets": len(remove_old(training, WORK_KEPT, WORK_SECONDS, named="upto-*")),
        "logged_slates": len(remove_old(training, WORK_KEPT, WORK_SECONDS, named="slates-*")),
        "bundles_made": len(bundles_made),
        "bundles_fetched": len(remove_old(settings.bundles_folder, WORK_KEPT, WORK_SECONDS, in_use)),
        "results_of_runs": len(remove_old(settings.var / "prefect" / "storage", 0, RESULTS_SECONDS)),
    }


@flow(name="retire")
def retire() -> dict[str, Any]:
    """Keep the installation small; the policy is in the settings ``versions_kept_days`` and ``versions_kept``."""
    settings = Settings()
    figures = {"removed": remove_old_versions(settings), **tidy_folders(settings), **join_files(settings)}
    show_figures("retire", figures, "What was removed: versions, and folders that can be made again")
    return figures
