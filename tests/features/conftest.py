"""A real log in a folder of its own, and a clock that stands still."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from attune.clock import DAY, SECOND, Clock
from attune.event_log import EventLog, prepare
from attune.events import Interaction
from attune.settings import Settings
from features.lake import Lake

NOW = 20_000 * DAY
"""2024-10-04: later than every event of the tests."""


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """The online store is SQLite unless the test is parametrised with "redis"."""
    url = request.getfixturevalue("redis").url if getattr(request, "param", "sqlite") == "redis" else None
    return Settings(var=tmp_path / "var", online_store_url=url)


@pytest.fixture
def clock() -> Clock:
    return lambda: NOW


@pytest.fixture
def log(settings: Settings, clock: Clock) -> Iterator[EventLog]:
    prepare(settings.log_url)
    opened = EventLog(settings.log_url, clock)
    yield opened
    opened.close()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake_folder)


@pytest.fixture
def act() -> Callable[..., Interaction]:
    """Builds an interaction with an id of its own: act(user, item, seconds, kind, value, retracts)."""
    numbers = count(1)

    def one(
        user: str, item: str, seconds: float = 0, kind: str = "view", value: float | None = None,
        retracts: str | None = None,
    ) -> Interaction:  # fmt: skip
        return Interaction(
            event_id=f"e{next(numbers)}", event_timestamp=int(seconds * SECOND), user_id=user, item_id=item,
            kind=kind, value=value, retracts=retracts,
        )  # fmt: skip

    return one
