"""Statistics of users and items are computed from the lake and brought online by Feast."""

from typing import Any

from prefect import flow, task

from attune.settings import Settings
from features import stats
from features.store import FeatureStore
from flows import rooms


@task
def compute_stats() -> dict[str, int]:
    """Write the offline rows of ``user_stats`` and ``item_stats``, and tell Feast what they are."""
    settings = Settings()
    events = rooms.lake(settings).behaviour().to_pandas()
    store = FeatureStore(settings)
    store.apply()
    users, items = stats.user_stats(events), stats.item_stats(events)
    store.write_stats(users, items)
    return {"user_rows": len(users), "item_rows": len(items)}


@task
def bring_online() -> dict[str, Any]:
    """Materialise both views from the first event's time (explicitly) to now."""
    return FeatureStore(Settings()).materialize_all()


@flow(name="materialize")
def materialize() -> dict[str, Any]:
    """Bring the feature store up to the lake's watermark."""
    return {**compute_stats(), **bring_online()}
