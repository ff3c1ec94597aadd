"""A state brought up to date is the fold of everything, wherever it started and however long its tail is."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attune.event_log import EventLog
from attune.events import Interaction, User
from attune.user_state import UserState, current, currents, fold

EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=12)


def event(number: int, user_id: str, about: bool) -> Interaction | User:
    if about:
        return User(event_id=f"e{number}", event_timestamp=number, user_id=user_id, attributes={"age": number})
    return Interaction(event_id=f"e{number}", event_timestamp=number, user_id=user_id, item_id="tea", kind="click")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, known=st.integers(0, 12), page=st.integers(1, 4))
def test_it_is_the_fold_of_everything(
    fresh_log: Callable[[], EventLog], events: list[tuple[str, bool]], known: int, page: int
) -> None:
    log = fresh_log()
    log.append([event(number, *one) for number, one in enumerate(events)])
    whole = fold(UserState("a"), log.tail("a", 0))
    earlier = fold(UserState("a"), [one for one in log.tail("a", 0) if one.position <= known])
    found = current(log, earlier, page)
    assert found.state == whole
    assert not found.astray
    assert found.folded == len([one for one in log.tail("a", 0) if one.position > earlier.position])


@pytest.mark.parametrize("position", [2, 3, 1_000])
def test_a_state_of_another_log_is_thrown_away(log: EventLog, position: int) -> None:
    """It claims the position of somebody else's event, or one that the log has not reached."""
    log.append([event(1, "a", False), event(2, "b", False)])
    found = current(log, replace(UserState("a"), position=position, seen=("never",)))
    assert found.astray
    assert found.state == fold(UserState("a"), log.tail("a", 0))


def test_nobody_known_is_empty(log: EventLog) -> None:
    assert current(log, UserState("a")).state == UserState("a")


def test_many_are_brought_up_to_date_together_and_who_takes_longer_is_left_out(log: EventLog) -> None:
    log.append([event(number, user, False) for number, user in enumerate("abababccc")])
    earlier = fold(UserState("b"), log.tail("b", 0)[:2])
    astray = replace(UserState("a"), position=2)
    asked = [UserState("a"), earlier, UserState("nobody"), UserState("c"), astray]
    found = currents(log, asked, page=4)
    assert [one and one.state for one in found[:4]] == [current(log, state).state for state in asked[:4]]
    assert found[4] is None, "a state of another log"
    assert [one and one.folded for one in found[:4]] == [3, 1, 0, 3]
    assert [one is None for one in currents(log, asked[:4], page=3)] == [True, False, False, True]
    assert currents(log, []) == []
