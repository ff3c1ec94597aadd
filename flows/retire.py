"""What is kept no longer is removed: old model versions, and folders of things that can be made again."""

from typing import Any

from attune.promotions import Promotions
from attune.settings import Settings
from attune.tidying import remove_old
from flows import rooms
from flows.making import HOUR, flow, step
from flows.showing import show_figures

WORK_KEPT, WORK_SECONDS = 3, 12 * HOUR
"""Training sets and bundles in work: the latest stay, and whatever a run may still be using."""


@step
def remove_old_versions() -> list[str]:
    """Remove versions that are old, not among the latest, and neither champion, previous, challenger nor anchor."""
    settings = Settings()
    with rooms.promotions(settings) as table:
        keep = named(table, settings.endpoint)
    return rooms.registry(settings).retire(keep, settings.versions_kept_days, settings.versions_kept)


def named(table: Promotions, endpoint: str) -> set[str]:
    """The versions that the promotions table may ask for: champion, the one before it, and the first anchor."""
    champion, first = table.champion(endpoint), table.first(endpoint)
    found = {champion.version, champion.previous, first.version} if champion and first else set()
    return {version for version in found if version is not None}


@step
def tidy_folders() -> dict[str, int]:
    """Remove training sets and bundles on disk that nobody uses; all of them can be made or fetched again."""
    settings = Settings()
    with rooms.promotions(settings) as table:
        spared = named(table, settings.endpoint) | {"made"}
    folders = {
        "training_sets": (settings.training_folder, ()),
        "bundles_made": (settings.bundles_folder / "made", ()),
        "bundles_fetched": (settings.bundles_folder, spared),
    }
    return {name: len(remove_old(path, WORK_KEPT, WORK_SECONDS, kept)) for name, (path, kept) in folders.items()}


@flow(name="retire")
def retire() -> dict[str, Any]:
    """Keep the installation small; the policy is in the settings ``versions_kept_days`` and ``versions_kept``."""
    found = {"removed": remove_old_versions(), **tidy_folders()}
    show_figures("retire", found, "What was removed: versions, and folders that can be made again")
    return found
