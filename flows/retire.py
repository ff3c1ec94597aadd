"""What is kept no longer is removed: old model versions, and folders of things that can be made again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attune.files import remove_old
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from features.validation_results import Verdicts
from flows import resources
from flows.steps import HOUR, flow, show_figures, step

WORK_KEPT, WORK_SECONDS = 3, 12 * HOUR
"""Training sets, logged slates and bundles in work: the latest of each kind stay, and whatever may still be
in use."""
RESULTS_SECONDS = 31 * 24 * HOUR
"""What runs returned stays a little longer than the runs themselves (``infra.environment``)."""
CHAMPIONS_KEPT = 20
"""So many promotions back a roll-back finds its version."""


@step
def remove_old_versions() -> list[str]:
    """Remove versions that are old, not among the latest, named by no alias, and no endpoint's latest champions."""
    settings = Settings()
    with resources.promotions(settings) as table:
        keep = {version for row in needed(table) for version in (row.version, row.previous) if version is not None}
    return resources.registry(settings).retire(keep, settings.versions_kept_days, settings.versions_kept)


def needed(table: Promotions) -> list[Promotion]:
    """What may be asked for: every endpoint's latest champions and its first, which gates measure by."""
    rows = [row for endpoint in table.endpoints() for row in table.history(endpoint, CHAMPIONS_KEPT)]
    return rows + [row for endpoint in table.endpoints() if (row := table.first(endpoint)) is not None]


@step
def join_files() -> dict[str, Any]:
    """Yesterday's many small files of the lake become few, and the verdicts that passed become one."""
    settings = Settings()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    with resources.event_log(settings) as log:
        after, upto = resources.lake(settings).rebuild(log, yesterday, yesterday)
    return {"positions_joined": upto - after, "verdicts_joined": Verdicts(settings.validation_folder).join()}


@step
def tidy_folders() -> dict[str, int]:
    """Remove training sets, logged slates and bundles that nobody uses; all of them can be made or fetched again."""
    settings = Settings()
    with resources.promotions(settings) as table:
        spared = {row.bundle_name for row in needed(table)} | {"made"}
    folders = {
        "training_sets": (settings.training_folder, "upto-*", ()),
        "logged_slates": (settings.training_folder, "slates-*", ()),
        "bundles_made": (settings.bundles_folder / "made", "*", ()),
        "bundles_fetched": (settings.bundles_folder, "*", spared),
    }
    gone = {
        kind: len(remove_old(path, WORK_KEPT, WORK_SECONDS, kept, named))
        for kind, (path, named, kept) in folders.items()
    }
    results = settings.var / "prefect" / "storage"
    return {**gone, "results_of_runs": len(remove_old(results, 0, RESULTS_SECONDS))}


@flow(name="retire")
def retire() -> dict[str, Any]:
    """Keep the installation small; the policy is in the settings ``versions_kept_days`` and ``versions_kept``."""
    found = {"removed": remove_old_versions(), **tidy_folders(), **join_files()}
    show_figures("retire", found, "What was removed: versions, and folders that can be made again")
    return found
