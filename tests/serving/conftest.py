"""Real parts in a temporary folder: an event log, promotions, the feature store, a small bundle, a running endpoint."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attune.event_log import EventLog, prepare


@pytest.fixture
def event_log(tmp_path: Path) -> Iterator[EventLog]:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    with closing(EventLog(url, lock_seconds=1.0)) as log:
        yield log
