"""The live scores follow the log: what changed is scored, a start reads a window, a failing log changes nothing."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from attune.clock import system_clock
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.events import AnyEvent, Interaction, Item, LoggedEvent, Shown, Slate
from attune.item_profile import HALF_LIFE, PRIOR, ItemProfile
from serving import item_profile_follower
from serving.catalogue_snapshot import LiveItem, LiveModel
from serving.item_profile_follower import ItemProfileFollower
from serving.metrics import Metrics
from serving.ranking import PopularityFallback, resized

ITEMS = [f"i{number}" for number in range(50)]
NAMES = iter(range(1_000_000))
PEOPLE = 60


@pytest.fixture
def event_log(event_log: EventLog) -> EventLog:
    """With people of whom each has a history."""
    event_log.append([
        Interaction(event_id=f"h{user}-{use}", event_timestamp=1, user_id=f"u{user}", item_id=f"old{use}", kind="click")
        for user in range(PEOPLE) for use in range(5)
    ])  # fmt: skip
    return event_log


def live_model_of(items: Sequence[str] = ITEMS) -> LiveModel:
    return PopularityFallback([(item_id, 10) for item_id in items]).live


def react(item_id: str, kind: str = "like", age: int = 0) -> Interaction:
    number = next(NAMES)
    return Interaction(
        event_id=f"e{number}",
        event_timestamp=system_clock() - age,
        user_id=f"u{number % PEOPLE}",
        item_id=item_id,
        kind=kind,
    )


def shown(*item_ids: str) -> Slate:
    return Slate(
        event_id=f"s{next(NAMES)}",
        event_timestamp=system_clock(),
        user_id="u0",
        model_version="1",
        served_by="champion",
        policy={},
        shown=[Shown(item_id, 0.5, 0.1) for item_id in item_ids],
        candidates=[],
        context={},
        state_position=0,
    )


class Gate:
    """A log that fails while it is closed, and counts what is read."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self.closed = False
        self.read_events = 0

    def head(self) -> int:
        if self.closed:
            raise EventLogError("the log is closed")
        return self._log.head()

    def logged_between(self, start: int, end: int) -> tuple[int, int]:
        return self._log.logged_between(start, end)

    def first_uses(self, *asked: Any) -> dict[str, dict[str, int]]:
        return self._log.first_uses(*asked)

    def read(self, *asked: Any) -> list[LoggedEvent]:
        found = self._log.read(*asked)
        self.read_events += len(found)
        return found


def follower(event_log: Any, *live_models: LiveModel, clock: Callable[[], int] = system_clock) -> ItemProfileFollower:
    return ItemProfileFollower(event_log, lambda: live_models, Metrics(), clock)


def followed(one: ItemProfileFollower) -> None:
    while one.advance():
        pass


def scores(live_model: LiveModel) -> dict[str, float]:
    """Those that are not 0."""
    assert live_model.live_1N is not None
    found = zip(live_model.snapshot.model.catalogue.item_ids, live_model.live_1N[0].tolist(), strict=True)
    return {item_id: score for item_id, score in found if score}


def test_reactions_and_slates_become_scores(event_log: EventLog) -> None:
    live_model = live_model_of()
    one = follower(event_log, live_model)
    followed(one)
    assert scores(live_model) == {}
    events: list[AnyEvent] = (
        [react("i3") for _ in range(20)] + [react("i5", "dislike") for _ in range(9)] + [react("i6")]
    )
    event_log.append([*events, *[react("elsewhere") for _ in range(9)], shown("i3", "i7")])
    followed(one)
    assert scores(live_model) == pytest.approx({"i3": 17 / (21 + PRIOR), "i5": -6 / (9 + PRIOR)}, rel=1e-3)
    assert one.position == event_log.head()
    assert not live_model.live_1N.flags.writeable


def test_only_what_changed_is_scored(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    live_model = live_model_of()
    one = follower(event_log, live_model)
    event_log.append([react(item_id) for item_id in ITEMS])
    followed(one)
    asked: list[int] = []
    scored = ItemProfile.scores

    def counted(self: ItemProfile, item_ids: Sequence[str], now: int) -> np.ndarray:
        asked.append(len(item_ids))
        return scored(self, item_ids, now)

    monkeypatch.setattr(ItemProfile, "scores", counted)
    before = live_model.live_1N
    followed(one)
    assert asked == []
    assert live_model.live_1N is before
    event_log.append([react("i3"), react("i3"), react("i4")])
    followed(one)
    assert asked == [2]
    assert live_model.live_1N is not before


def test_what_was_liked_fades_without_any_event(event_log: EventLog) -> None:
    live_model, later = live_model_of(), [0]
    one = follower(event_log, live_model, clock=lambda: system_clock() + later[0])
    event_log.append([react("i3") for _ in range(20)])
    followed(one)
    assert scores(live_model)["i3"] == pytest.approx(17 / 40, rel=1e-3)
    later[0] = HALF_LIFE
    followed(one)
    assert scores(live_model)["i3"] == pytest.approx(7 / 30, rel=1e-3)


def test_a_start_reads_the_window_and_not_the_log(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    event_log.append([react("i1") for _ in range(500)])
    gate, live_model = Gate(event_log), live_model_of()
    monkeypatch.setattr(item_profile_follower, "WINDOW_POSITIONS", 40)
    event_log.append([react("i2") for _ in range(20)])
    followed(follower(gate, live_model))
    assert gate.read_events == 40
    assert scores(live_model).keys() == {"i1", "i2"}
    gate, live_model = Gate(event_log), live_model_of()
    late = follower(gate, live_model, clock=lambda: system_clock() + 10 * HALF_LIFE)
    followed(late)
    assert gate.read_events == 0
    assert late.position == event_log.head()


def test_after_a_restart_it_says_the_same(event_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_profile_follower, "PAGE", 7)
    now = system_clock()
    first, second = live_model_of(), live_model_of()
    one = follower(event_log, first, clock=lambda: now)
    for number in range(30):
        disliked = [react(ITEMS[number % 3], "dislike") for _ in range(3)]
        event_log.append([react(ITEMS[number]), *disliked, shown(*ITEMS[:10])])
        if number % 4 == 0:
            followed(one)
    followed(one)
    one._scored_at = {}  # score all of it at the same moment as the other
    followed(one)
    followed(follower(event_log, second, clock=lambda: now))
    np.testing.assert_array_equal(first.live_1N, second.live_1N)
    assert scores(first).keys() >= {"i0", "i1", "i2"}


def test_a_log_that_fails_leaves_the_scores_and_is_told_of_once(
    event_log: EventLog, caplog: pytest.LogCaptureFixture, eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_profile_follower, "RETRY_SECONDS", 0.01)
    gate, live_model = Gate(event_log), live_model_of()
    one = follower(gate, live_model)
    event_log.append([react("i3") for _ in range(20)])
    caplog.set_level(logging.INFO, "attune.follower")
    one.start()
    try:
        eventually(lambda: live_model.live_1N is not None and scores(live_model).get("i3"))
        gate.closed = True
        eventually(lambda: caplog.records)
        event_log.append([react("i4") for _ in range(9)])
        before = live_model.live_1N
        eventually(lambda: one._scored_at == {})
        assert live_model.live_1N is before
        assert len(caplog.records) == 1
        gate.closed = False
        eventually(lambda: "i4" in scores(live_model))
        assert ["the item profile failed" in caplog.text, "the item profile works again" in caplog.text] == [True, True]
        assert len(caplog.records) == 2
    finally:
        one.close()


def test_a_log_that_was_put_back_is_followed_from_its_own_window(event_log: EventLog) -> None:
    live_model = live_model_of()
    one = follower(event_log, live_model)
    event_log.append([react(item_id) for item_id in ("i3", "i4") for _ in range(9)])
    followed(one)
    one._profile = ItemProfile(position=1_000)
    followed(one)
    assert one.position == event_log.head()
    assert scores(live_model).keys() == {"i3", "i4"}


def test_a_shop_that_grows_and_a_model_that_comes_are_scored_too(event_log: EventLog) -> None:
    old, live_models = live_model_of(), []
    one = ItemProfileFollower(event_log, lambda: live_models, Metrics(), system_clock)
    live_models.append(old)
    event_log.append([react(item_id) for item_id in ("fresh", "i3") for _ in range(9)])
    followed(one)
    assert scores(old).keys() == {"i3"}
    item = Item(event_id="item", event_timestamp=1, item_id="fresh", attributes={})
    old.snapshot = old.snapshot.advanced([LiveItem(item.item_id, item.attributes, 3, 3)], 3)
    assert resized(old.live_1N, 51)[0, -1] == 0
    followed(one)
    assert scores(old).keys() == {"i3", "fresh"}
    new = live_model_of(["fresh", *ITEMS])
    live_models.append(new)
    followed(one)
    assert scores(new) == pytest.approx(scores(old))
    live_models.clear()
    followed(one)
    assert one._scored_at == {}


def test_scores_fit_the_shop_that_a_request_took() -> None:
    live_1N = np.array([[0.1, 0.2, 0.3]], np.float32)
    assert resized(None, 3) is None
    assert resized(live_1N, 3) is live_1N
    np.testing.assert_array_equal(resized(live_1N, 5), np.array([[0.1, 0.2, 0.3, 0, 0]], np.float32))
    np.testing.assert_array_equal(resized(live_1N, 2), live_1N[:, :2])


def test_the_metric_says_how_far_behind_it_was(event_log: EventLog) -> None:
    metrics = Metrics()
    one = ItemProfileFollower(event_log, lambda: [], metrics, system_clock)
    followed(one)
    event_log.append([react("i3") for _ in range(30)])
    one.advance()
    assert metrics.registry.get_sample_value("attune_item_profile_lag") == 30
    one.advance()
    assert metrics.registry.get_sample_value("attune_item_profile_lag") == 0
