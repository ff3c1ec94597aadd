"""When the watcher announces: never nothing, at once when much came, soon when little did, and never twice."""

from contextlib import closing
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.event_log import EventLog, prepare
from attune.events import Interaction, Slate
from attune.settings import Settings
from flows.watcher import Debounce, Watcher


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 5.0)), max_size=60),
    at_once=st.integers(1, 50),
    longest=st.floats(0.5, 20.0),
)
def test_whatever_arrives_is_announced_in_time(arrivals, at_once: int, longest: float) -> None:
    """Each look adds events and lets time pass; a batch waits neither longer nor larger than was set."""
    debounce, now, head, waited_since, told, last = Debounce(at_once, longest), 0.0, 0, None, 0, None
    for came, seconds in arrivals:
        now += seconds
        head += came
        new = head - debounce.announced
        if new and waited_since is None:
            waited_since = now
        if debounce.due(new, now):
            assert new > 0
            assert new >= at_once or now - waited_since >= longest
            assert last is None or now - last >= longest
            debounce.announce(head, now)
            last = now
            told += new
            waited_since = None
        elif new:
            assert new < at_once or (last is not None and now - last < longest)
            assert now - waited_since < longest
    assert told == debounce.announced
    assert told <= head


class Bus:
    """Stands for Prefect's API: takes what is posted, or breaks down."""

    def __init__(self) -> None:
        self.heard: list[dict] = []
        self.broken = False

    def request(self, method: str, path: str, json: list[dict]) -> httpx.Response:
        if self.broken:
            raise httpx.ConnectError("nobody there")
        self.heard += json
        return httpx.Response(204, request=httpx.Request(method, f"http://bus{path}"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(var=tmp_path / "var", batch_events=3, batch_seconds=3600.0)
    prepare(found.log_url)
    return found


def clicks(first: int, count: int) -> list[Interaction]:
    return [
        Interaction(event_id=f"e{first + n}", event_timestamp=n, user_id="u", item_id="i", kind="view")
        for n in range(count)
    ]


def test_a_batch_is_announced_once_and_again_when_the_bus_was_down(settings: Settings) -> None:
    bus = Bus()
    with closing(EventLog(settings.log_url)) as log:
        watcher = Watcher(log, bus, settings)
        assert not watcher.step()
        log.append(clicks(0, 2))
        assert not watcher.step(), "two are fewer than a batch"
        log.append(clicks(2, 2))
        bus.broken = True
        with pytest.raises(httpx.ConnectError):
            watcher.step()
        bus.broken = False
        assert watcher.step()
        assert not watcher.step()
    assert [one["payload"] for one in bus.heard] == [{"events": 4, "position": 4}]
    assert bus.heard[0]["event"] == "attune.events.batch"


def test_slates_are_no_new_behaviour(settings: Settings) -> None:
    bus = Bus()
    slates = [
        Slate(
            event_id=f"s{n}", event_timestamp=n, user_id="u", model_version="", served_by="popularity", policy={},
            shown=[], candidates=[], context={}, state_position=0,
        )
        for n in range(9)
    ]  # fmt: skip
    with closing(EventLog(settings.log_url)) as log:
        log.append(slates)
        assert not Watcher(log, bus, settings).step()
    assert bus.heard == []
