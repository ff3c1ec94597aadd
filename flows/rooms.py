"""Opens the rooms that the flows' tasks work in, from the settings of this process."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from attune.event_log import EventLog
from attune.promotions import Promotions
from attune.settings import Settings
from features.lake import Lake
from models.registry import Registry


@contextmanager
def event_log(settings: Settings) -> Iterator[EventLog]:
    """The event log, closed on leaving."""
    with closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log:
        yield log


def lake(settings: Settings) -> Lake:
    """The log's events as Parquet."""
    return Lake(settings.lake_folder)


def registry(settings: Settings) -> Registry:
    """The model registry."""
    return Registry(settings.mlflow_url)


@contextmanager
def promotions(settings: Settings) -> Iterator[Promotions]:
    """The truth of what is champion, closed on leaving."""
    with closing(Promotions(settings.log_url)) as table:
        yield table
