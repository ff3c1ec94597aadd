"""Computes the statistics of users and items from the lake; Feast brings them online."""

from typing import Any

from attune.files import write_whole
from attune.settings import Settings
from flows import resources
from flows.steps import flow, show_figures, step


@step
def compute_stats(settings: Settings) -> dict[str, int]:
    """Write the offline rows of ``user_stats`` and ``item_stats``, and tell Feast what they are.

    They count what training sets count, so that a model is asked with what it was taught by.
    """
    from features import stats
    from features.labels import Terms, that_counts
    from features.lake import BEHAVIOUR

    lake, store = resources.lake(settings), resources.feature_store(settings)
    upto = lake.watermark()
    events, _ = that_counts(lake.events(0, upto, BEHAVIOUR).to_pandas(), Terms())
    store.apply()
    users, items = stats.user_stats(events), stats.item_stats(events)
    store.write_stats(users, items)
    return {"user_rows": len(users), "item_rows": len(items), "upto": upto}


@step
def bring_online(settings: Settings, upto: int) -> dict[str, Any]:
    """Materialise both views from the first event's time (explicitly) to now; remember up to which position."""
    window = resources.feature_store(settings).materialize_all()
    # Only now: a killed run leaves the former position, and the next run does all of it again.
    write_whole(settings.feast_folder / "counted_upto", f"{upto}\n")
    show_figures("materialize", {"positions_up_to": upto, **window}, "What the online features count")
    return window


def counted_upto(settings: Settings) -> int:
    """The position up to which the features count; 0 before the first time."""
    try:
        return int((settings.feast_folder / "counted_upto").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def update_features(settings: Settings, again: bool = False) -> dict[str, Any]:
    """Compute and materialise what the lake holds beyond the features; with ``again`` in any case."""
    if not again and counted_upto(settings) == (upto := resources.lake(settings).watermark()):
        return {"user_rows": 0, "item_rows": 0, "upto": upto}
    computed = compute_stats(settings)
    return {**computed, **bring_online(settings, computed["upto"])}


@flow(name="materialize")
def materialize(again: bool = False) -> dict[str, Any]:
    """Bring the feature store up to the lake's watermark.

    Args:
        again: Compute and materialise also when the lake holds nothing new.
    """
    return update_features(Settings(), again)
