"""What people look up in the log, and where in it a stretch of time lies."""

import random

import pytest

from attune import event_log
from attune.clock import DAY, HOUR
from attune.event_log import ActiveUser, EventLog
from attune.events import Feedback, Interaction, Item, Shown, Slate, User
from attune.group_commit import GroupCommit

START = 20_000 * DAY


def click(number: int, user_id: str = "ada") -> Interaction:
    return Interaction(event_id=f"c{number}", event_timestamp=number, user_id=user_id, item_id="tea", kind="click")


def item(number: int, item_id: str, **attributes: object) -> Item:
    return Item(event_id=f"i{number}", event_timestamp=0, item_id=item_id, attributes=attributes)


def logged(log: EventLog, times: list[int]) -> list[int]:
    for number, moment in enumerate(times):
        log._clock = lambda moment=moment: moment
        log.append([click(number)])
    return times


def expected(times: list[int], start: int, end: int) -> tuple[int, int]:
    inside = [place for place, moment in enumerate(times, start=1) if start <= moment < end]
    return (inside[0], inside[-1]) if inside else (0, 0)


def test_the_positions_of_a_day_are_found(log: EventLog) -> None:
    assert log.logged_between(0, START) == (0, 0)
    times = logged(log, [START + number * 7 * HOUR for number in range(40)])
    for day in range(-2, 15):
        start = START + day * DAY
        assert log.logged_between(start, start + DAY) == expected(times, start, start + DAY)
    assert log.logged_between(0, 2 * START) == (1, 40)


def test_a_clock_that_was_put_back_by_less_than_a_day_hides_nothing(log: EventLog) -> None:
    draw = random.Random(3)
    times = logged(log, [START + number * 3 * HOUR - draw.choice([0, 0, 5, 20]) * HOUR for number in range(80)])
    for start in range(START - DAY, START + 11 * DAY, 5 * HOUR):
        assert log.logged_between(start, start + DAY) == expected(times, start, start + DAY)


def test_who_was_active_last(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "FIRST_LOOK", 2)
    slate = Slate(
        event_id="s", event_timestamp=0, user_id="only looked", model_version="1", served_by="champion", policy={},
        shown=[Shown("tea", 1.0, 1.0)], candidates=[], context={}, state_position=0,
    )  # fmt: skip
    assert log.users(3) == []
    log.append([
        click(1, "ada"), click(2, "bob"), click(3, "eve"), click(4, "ada"), item(1, "tea"), slate,
        User(event_id="u", event_timestamp=0, user_id="dan", attributes={}), click(5, "bob"), slate,
    ])  # fmt: skip
    latest = [("bob", 8), ("dan", 7), ("ada", 4), ("eve", 3)]
    assert log.users(10) == [ActiveUser(user_id, position, 1_700_000_000_000_000) for user_id, position in latest]
    assert [user.user_id for user in log.users(2)] == ["bob", "dan"]


def test_items_are_told_by_their_latest_version_and_found_by_words_of_their_title(log: EventLog) -> None:
    log.append([
        item(1, "a", title="Old name"), item(2, "b", title="Star Wars"), click(1), item(3, "c"),
        item(4, "a", title="The Wars of the STARS", genres=["x"]), item(5, "d", title="STRAßE"),
    ])  # fmt: skip
    assert [found.item_id for found in log.items(10)] == ["c", "b", "d", "a"]
    assert [found.item_id for found in log.items(2)] == ["c", "b"]
    assert [found.title for found in log.items(10, "star WARS")] == ["Star Wars", "The Wars of the STARS"]
    assert [found.item_id for found in log.items(10, "strasse")] == ["d"]
    assert log.items(10, "old") == []
    found = log.item("a")
    assert found is not None
    assert (found.attributes["genres"], found.position) == (["x"], 5)
    assert log.item("tea") is None


def test_the_first_uses_of_users_and_an_account_cannot_make_itself_a_past(log: EventLog) -> None:
    log._clock = lambda: START
    log.append([click(5), click(3), click(7, "bob"), click(9, "cleo")])
    told = {"event_timestamp": 1, "user_id": "ada", "item_id": "milk"}
    log.append([Feedback(event_id="f", kind="like", slate_id="s", **told)])
    log.append([Interaction(event_id="shown", kind="impression", **told | {"item_id": "unused"})])
    commit = GroupCommit(log)
    commit.start()
    commit.submit([Interaction(event_id="live", kind="like", **told | {"item_id": "bread"})]).result(10)
    commit.close()
    found = {"ada": {"tea": 3, "milk": START, "bread": START}, "bob": {"tea": 7}}
    assert log.first_uses(["ada", "bob", "nobody"], log.head()) == found
    assert log.first_uses(["ada"], 1) == {"ada": {"tea": 5}}
    assert log.read(log.head() - 1, 1)[0].happened_at == START
    log.append(
        [Feedback(event_id="g", kind="like", slate_id="s", **told | {"user_id": "dan"})], log.imports.begin("f", {})
    )
    assert log.first_uses(["dan"], log.head()) == {"dan": {"milk": 1}}, "a past that an import brings is one"
    assert log.read(log.head() - 1, 1)[0].happened_at == 1
