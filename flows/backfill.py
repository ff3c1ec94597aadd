"""Rebuilds some days of the lake from the log, then validates and counts them again."""

from datetime import date
from typing import Any

from attune.settings import Settings
from flows import resources
from flows.materialize import update_features
from flows.steps import HOUR, flow, step
from flows.validate import validate_window


@step
def rebuild(settings: Settings, first_day: date, last_day: date) -> tuple[int, int]:
    """Replace the partitions of the days on which events were logged; the positions (after, upto] that they hold."""
    with resources.event_log(settings) as log:
        return resources.lake(settings).rebuild(log, first_day, last_day)


@flow(name="backfill", timeout_seconds=6 * HOUR)
def backfill(first_day: date, last_day: date) -> dict[str, Any]:
    """Derive again what comes from the events of some days: after a repair, a new suite, a damaged file.

    Args:
        first_day: The first day (UTC) on which the events were logged.
        last_day: The last such day, included.
    """
    settings = Settings()
    after, upto = rebuild(settings, first_day, last_day)
    if upto <= after:
        return {"after": after, "upto": upto, "ok": True, "materialize": None}
    verdict = validate_window(settings, after, upto)
    return {**verdict, "materialize": update_features(settings, again=True)}
