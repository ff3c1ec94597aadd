"""Model versions that the policy keeps no longer are removed from the registry."""

from typing import Any

from attune.settings import Settings
from flows import rooms
from flows.making import flow, step


@step
def remove_old_versions() -> list[str]:
    """Remove versions that are old, not among the latest, and neither champion, previous, challenger nor anchor."""
    settings = Settings()
    with rooms.promotions(settings) as table:
        champion, first = table.champion(settings.endpoint), table.first(settings.endpoint)
    named = {champion.version, champion.previous} if champion else set()
    named |= {first.version} if first else set()
    keep = {version for version in named if version is not None}
    return rooms.registry(settings).retire(keep, settings.versions_kept_days, settings.versions_kept)


@flow(name="retire")
def retire() -> dict[str, Any]:
    """Keep the registry small; the policy is in the settings ``versions_kept_days`` and ``versions_kept``."""
    return {"removed": remove_old_versions()}
