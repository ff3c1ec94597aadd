"""Opens the stores and tables that the flows' steps work on, by the settings of this process.

A function imports its slow libraries when it is called, so that a run that finds nothing to do costs little.
"""

from contextlib import closing
from typing import TYPE_CHECKING

from attune.event_log import EventLog
from attune.promotions import Promotions
from attune.settings import Settings

if TYPE_CHECKING:
    from features.feature_store import FeatureStore
    from features.lake import Lake
    from models.registry import Registry


def event_log(settings: Settings) -> "closing[EventLog]":
    """The event log; a context manager that closes it."""
    return closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds))


def promotions(settings: Settings) -> "closing[Promotions]":
    """The table of promotions, which decides who is champion; a context manager that closes it."""
    return closing(Promotions(settings.log_url))


def lake(settings: Settings) -> "Lake":
    """The log's events as Parquet."""
    from features.lake import Lake

    return Lake(settings.lake_folder)


def feature_store(settings: Settings) -> "FeatureStore":
    """Feast."""
    from features.feature_store import FeatureStore

    return FeatureStore(settings)


def registry(settings: Settings) -> "Registry":
    """The model registry."""
    from models.registry import Registry

    return Registry(settings.mlflow_url)
