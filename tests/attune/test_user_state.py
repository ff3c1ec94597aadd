"""The folded state against a sorted reference, under any batching, and its rules one by one."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY
from attune.event_types import KINDS
from attune.events import AnyEvent, Behaviour, Feedback, Interaction, Item, LoggedEvent, Slate, User
from attune.user_state import Limits, Recent, UserState, fold

SMALL = Limits(recent=4, seen=3, days=2)


def act(
    event_id: str, item_id: str = "tea", kind: str = "click", time: int = 0, value: float | None = None, **more: Any
) -> Interaction:
    fields = {"user_id": "ada", **more}
    return Interaction(event_id=event_id, event_timestamp=time, item_id=item_id, kind=kind, value=value, **fields)


def take_back(event_id: str, retracts: str, time: int = 0, user_id: str = "ada") -> Interaction:
    return act(event_id, kind="retract", retracts=retracts, time=time, user_id=user_id)


def logged(*events: AnyEvent, first: int = 1) -> list[LoggedEvent]:
    return [LoggedEvent(position, 0, event) for position, event in enumerate(events, first)]


def state_of(*events: AnyEvent, limits: Limits = SMALL) -> UserState:
    return fold(UserState("ada"), logged(*events), limits)


MARKS = {name for name, kind in KINDS.items() if kind.marks_seen}


def windows(log: list[LoggedEvent], limits: Limits) -> tuple[list[Recent], list[str]]:
    """Window and seen items by the definition, without regard to time: all that it may look at is a list."""
    window: list[Recent] = []
    seen: list[str] = []
    for one in sorted(log, key=lambda one: one.position):
        event = one.event
        if not isinstance(event, Behaviour) or event.user_id != "ada":
            continue
        if event.kind != "retract":
            head = (event.event_id, event.item_id, event.kind, event.value, event.event_timestamp)
            window.append(Recent(*head, one.position, False))
            window.sort(key=lambda entry: (entry.time, entry.position))
            if len(window) > limits.recent:
                window.remove(([entry for entry in window if entry.retracted] or window)[0])
            if event.kind in MARKS:
                seen = [*(item for item in seen if item != event.item_id), event.item_id][-limits.seen :]
            continue
        named = [entry for entry in window if entry.event_id == event.retracts]
        if [entry for entry in named if entry.retracted] or (not named and len(window) < limits.recent):
            continue
        window = [entry._replace(retracted=True) if entry in named else entry for entry in window]
        if [entry for entry in named if entry.kind not in MARKS]:
            continue
        freed = named[0].item_id if named else event.item_id
        stands = {entry.item_id for entry in window if entry.kind in MARKS and not entry.retracted}
        seen = [item for item in seen if item != freed or item in stands]
    return window, seen


def reference(log: list[LoggedEvent], limits: Limits) -> UserState:
    """The definition of the state, without regard to time or memory: everything is sorted, then cut."""
    mine = sorted((one for one in log if not isinstance(one.event, Item | Slate)), key=lambda one: one.position)
    mine = [one for one in mine if one.event.user_id == "ada"]  # type: ignore[union-attr]
    behaviour = [(one.position, one.event) for one in mine if isinstance(one.event, Behaviour)]
    plain = [(position, event) for position, event in behaviour if event.kind != "retract"]
    window, seen = windows(log, limits)
    days = sorted({event.event_timestamp // DAY for _, event in behaviour})[-limits.days :]
    counts: dict[tuple[int, str], int] = {}
    for _, event in behaviour:
        bucket = (event.event_timestamp // DAY, event.kind)
        if bucket[0] in days:
            counts[bucket] = counts.get(bucket, 0) + 1
    attributes = [one.event.attributes for one in mine if isinstance(one.event, User)]
    times = [event.event_timestamp for _, event in plain]
    return UserState(
        user_id="ada",
        position=mine[-1].position if mine else 0,
        recent=tuple(window),
        seen=tuple(seen),
        counts=counts,
        events=len(behaviour),
        first_time=min(times, default=None),
        last_time=max(times, default=None),
        attributes=attributes[-1] if attributes else {},
    )


TIMES = st.integers(-2, 6).map(lambda half_days: half_days * DAY // 2)
ITEMS = st.sampled_from([f"item{number}" for number in range(6)])
USERS = st.sampled_from(["ada", "ada", "ada", "bob"])


@st.composite
def logs(draw: st.DrawFn) -> list[LoggedEvent]:
    """A log with gaps between positions, in which take-backs name earlier, later, absent and others' events."""
    number = draw(st.integers(0, 25))
    ids = [f"e{place}" for place in range(number)]
    log, position = [], 0
    for event_id in ids:
        position += draw(st.integers(1, 3))
        user_id, time = draw(USERS), draw(TIMES)
        sort = draw(st.sampled_from(["act", "act", "act", "feedback", "retract", "retract", "user", "slate", "item"]))
        kind = draw(st.sampled_from(["click", "like", "impression", "dislike"]))
        event: AnyEvent
        if sort == "act":
            event = act(event_id, draw(ITEMS), kind, time, user_id=user_id)
        elif sort == "feedback":
            event = Feedback(
                event_id=event_id, event_timestamp=time, user_id=user_id, item_id=draw(ITEMS), kind=kind, slate_id="s"
            )
        elif sort == "retract":
            event = take_back(event_id, draw(st.sampled_from([*ids, "nothing"])), time, user_id)
        elif sort == "user":
            event = User(event_id=event_id, event_timestamp=time, user_id=user_id, attributes={"at": position})
        elif sort == "slate":
            event = Slate(
                event_id=event_id,
                event_timestamp=time,
                user_id=user_id,
                model_version="1",
                served_by="champion",
                policy={},
                shown=[],
                candidates=[],
                context={},
                state_position=0,
            )
        else:
            event = Item(event_id=event_id, event_timestamp=time, item_id=draw(ITEMS), attributes={})
        log.append(LoggedEvent(position, 0, event))
    return log


LIMITS = st.builds(Limits, st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))


def check(log: list[LoggedEvent], limits: Limits, cuts: list[int], dice: random.Random) -> None:
    expected = reference(log, limits)
    assert fold(UserState("ada"), log, limits) == expected
    state, start = UserState("ada"), 0
    for end in [*sorted(min(cut, len(log)) for cut in cuts), len(log)]:
        batch = [*log[max(start - 2, 0) : end], *log[: min(end, 1)]]
        dice.shuffle(batch)
        state = fold(state, batch, limits)
        assert state == reference(log[:end], limits)
        start = end
    assert state == expected


@settings(max_examples=150, deadline=None)
@given(log=logs(), limits=LIMITS, cuts=st.lists(st.integers(0, 25), max_size=5), dice=st.randoms())
def test_the_state_is_a_function_of_the_set(
    log: list[LoggedEvent], limits: Limits, cuts: list[int], dice: random.Random
) -> None:
    check(log, limits, cuts, dice)


@settings(max_examples=150, deadline=None)
@given(log=logs())
def test_within_the_window_seen_is_what_stands_as_in_training_sets(log: list[LoggedEvent]) -> None:
    mine = [(one.position, one.event) for one in log if isinstance(one.event, Behaviour) and one.event.user_id == "ada"]
    gone = {
        event.event_id
        for position, event in mine
        for later, back in mine
        if back.kind == "retract" and back.retracts == event.event_id and later > position
    }
    stands = {event.item_id for _, event in mine if event.kind in MARKS and event.event_id not in gone}
    assert set(fold(UserState("ada"), log).seen) == stands


@pytest.mark.long
@pytest.mark.timeout(1_200)
@settings(max_examples=3_000, deadline=None)
@given(log=logs(), limits=LIMITS, cuts=st.lists(st.integers(0, 25), max_size=5), dice=st.randoms())
def test_the_state_is_a_function_of_the_set_at_length(
    log: list[LoggedEvent], limits: Limits, cuts: list[int], dice: random.Random
) -> None:
    check(log, limits, cuts, dice)


def test_nothing_known() -> None:
    assert UserState("ada") == UserState("ada", 0, (), (), {}, 0, None, None, {})
    assert fold(UserState("ada"), []) == UserState("ada")


def test_events_of_others_slates_and_items_are_passed_over() -> None:
    others = logged(act("e", user_id="bob"), Item(event_id="i", event_timestamp=0, item_id="tea", attributes={}))
    assert fold(UserState("ada"), others) == UserState("ada")


def test_a_late_event_takes_its_place_by_its_own_time() -> None:
    state = state_of(act("a", time=10), act("b", time=30), act("late", time=20), act("tie", time=10))
    assert [(entry.event_id, entry.position) for entry in state.recent] == [("a", 1), ("tie", 4), ("late", 3), ("b", 2)]


def test_an_event_older_than_the_window_stays_out_but_counts() -> None:
    state = state_of(*(act(f"e{number}", time=10 + number) for number in range(4)), act("old", "milk", time=0))
    assert "old" not in {entry.event_id for entry in state.recent}
    assert state.seen == ("tea", "milk")
    assert (state.events, state.first_time, state.last_time, state.position) == (5, 0, 13, 5)


def test_a_take_back_leaves_a_tombstone_in_its_place() -> None:
    state = state_of(act("a", time=1, kind="rating", value=4.0), act("b", "milk", time=2), take_back("r", "a", time=3))
    assert state.recent == (
        Recent("a", "tea", "rating", 4.0, 1, 1, True),
        Recent("b", "milk", "click", None, 2, 2, False),
    )
    assert state.seen == ("milk",)
    assert state.counts == {(0, "rating"): 1, (0, "click"): 1, (0, "retract"): 1}
    assert (state.events, state.position, state.last_time) == (3, 3, 2)


def test_a_take_back_works_only_on_what_was_logged_before_it() -> None:
    assert [entry.retracted for entry in state_of(take_back("r", "a"), act("a")).recent] == [False]
    assert [entry.retracted for entry in state_of(act("a"), take_back("r", "a")).recent] == [True]


def test_a_take_back_of_an_unknown_or_foreign_event_changes_nothing_but_counters() -> None:
    before = state_of(act("a"))
    for useless in (take_back("r", "nothing", time=99), take_back("r", "r"), take_back("r", "of bob")):
        after = fold(before, logged(useless, first=2), SMALL)
        assert (after.recent, after.seen, after.first_time, after.last_time) == (before.recent, ("tea",), 0, 0)
        assert (after.events, after.position) == (2, 2)


def test_a_take_back_of_a_take_back_brings_nothing_back() -> None:
    state = state_of(act("a"), take_back("r", "a"), take_back("rr", "r"))
    assert [(entry.event_id, entry.retracted) for entry in state.recent] == [("a", True)]


def test_a_taken_back_event_frees_its_item_unless_another_stands_for_it() -> None:
    hidden = (act("a", kind="hide"), act("b", "milk"))
    assert state_of(*hidden, take_back("r", "a")).seen == ("milk",)
    assert state_of(*hidden, take_back("r", "a"), act("c")).seen == ("milk", "tea")
    assert state_of(act("c"), *hidden, take_back("r", "a")).seen == ("tea", "milk")
    assert state_of(act("c"), *hidden, take_back("r", "a"), take_back("s", "c")).seen == ("milk",)
    assert state_of(act("c"), act("i", kind="impression"), take_back("r", "i")).seen == ("tea",)


def test_past_the_window_a_take_back_is_believed_by_the_item_that_it_names() -> None:
    old = (act("old", "tea"), *(act(f"e{number}", f"item{number}", time=9) for number in range(2)))
    back = take_back("r", "old")
    assert state_of(*old, act("e2", "item2", time=9), back, limits=Limits(3, 9, 9)).seen == ("item0", "item1", "item2")
    again = act("again", "tea", time=9)
    assert "tea" in state_of(*old, again, act("e3", "item3", time=9), back, limits=Limits(3, 9, 9)).seen
    assert "tea" in state_of(act("old", "tea"), take_back("r", "nothing"), limits=Limits(3, 9, 9)).seen


def test_what_was_taken_back_makes_room_first() -> None:
    backs = [take_back(f"r{number}", f"e{number}") for number in range(4)]
    withdrawn = [*(act(f"e{number}", time=number) for number in range(4)), *backs]
    state = state_of(*withdrawn, *(act(f"n{number}", time=number) for number in range(4)))
    assert [entry.event_id for entry in state.recent] == ["n0", "n1", "n2", "n3"]


def test_impressions_do_not_mark_seen() -> None:
    state = state_of(act("a", "tea", "impression"), act("b", "milk", "dislike"))
    assert state.seen == ("milk",)
    assert len(state.recent) == 2


def test_the_seen_set_keeps_the_items_met_last() -> None:
    state = state_of(*(act(f"e{item}", item) for item in "abca"), act("z", "d"))
    assert state.seen == ("c", "a", "d")


def test_counts_keep_the_latest_days() -> None:
    state = state_of(act("a", time=5 * DAY), act("b", time=-1), act("c", time=9 * DAY), act("d", time=5 * DAY + 1))
    assert state.counts == {(5, "click"): 2, (9, "click"): 1}


def test_attributes_are_those_logged_last() -> None:
    young, old = (
        User(event_id=f"u{time}", event_timestamp=time, user_id="ada", attributes={"age": time}) for time in (30, 20)
    )
    state = state_of(young, old)
    assert (state.attributes, state.events, state.position, state.first_time) == ({"age": 20}, 0, 2, None)


def test_folding_leaves_its_arguments_alone() -> None:
    before = state_of(act("a"), act("b"))
    counts = dict(before.counts)
    fold(before, logged(act("c"), take_back("d", "a"), first=3), SMALL)
    assert before == state_of(act("a"), act("b"))
    assert before.counts == counts


def test_the_seen_set_is_exact_to_its_limit() -> None:
    state = fold(UserState("ada"), logged(*(act(f"e{number}", f"item{number}") for number in range(20_001))))
    assert state.seen == tuple(f"item{number}" for number in range(1, 20_001))
    assert len(state.recent) == 200
    again = fold(state, logged(act("again", "item7"), first=30_000))
    assert (again.seen[-1], again.seen[0], len(again.seen)) == ("item7", "item1", 20_000)
