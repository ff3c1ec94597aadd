"""Opens the rooms that the flows' steps work in, from the settings of this process.

Libraries that take seconds to load are imported when a room is opened, so that a run that finds nothing to do costs
little.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from attune.event_log import EventLog
from attune.promotions import Promotions
from attune.settings import Settings

if TYPE_CHECKING:
    from features.feature_store import FeatureStore
    from features.lake import Lake
    from models.registry import Registry


@contextmanager
def event_log(settings: Settings) -> Iterator[EventLog]:
    """The event log, closed on leaving."""
    with closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log:
        yield log


@contextmanager
def promotions(settings: Settings) -> Iterator[Promotions]:
    """The truth of what is champion, closed on leaving."""
    with closing(Promotions(settings.log_url)) as table:
        yield table


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
