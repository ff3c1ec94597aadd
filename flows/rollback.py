"""Makes the previous champion, or a former one, champion again."""

from dataclasses import asdict
from typing import Any

from attune.settings import Settings
from flows import resources
from flows.promote import holder
from flows.steps import flow, step


@step
def restore_champion(settings: Settings, version: str | None) -> dict[str, Any]:
    """Append the row under the endpoint's lease; MLflow's aliases follow."""
    from models.rollback import rollback as roll_back

    with resources.promotions(settings) as table:
        return asdict(roll_back(table, resources.registry(settings), settings.endpoint, version, holder()))


@flow(name="rollback")
def rollback(version: str | None = None) -> dict[str, Any]:
    """Make a former champion champion again; serving follows within seconds.

    Args:
        version: The version to go back to; by default the one that the champion replaced.
    """
    return restore_champion(Settings(), version)
