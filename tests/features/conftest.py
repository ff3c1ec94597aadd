"""A real log in a folder of its own, and a clock that stands still."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from attune.clock import DAY, Clock
from attune.event_log import EventLog, prepare
from attune.settings import Settings

NOW = 20_000 * DAY
"""2024-10-04: later than every event of the tests."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var")


@pytest.fixture
def clock() -> Clock:
    return lambda: NOW


@pytest.fixture
def log(settings: Settings, clock: Clock) -> Iterator[EventLog]:
    prepare(settings.log_url)
    opened = EventLog(settings.log_url, clock)
    yield opened
    opened.close()
