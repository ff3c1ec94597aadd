"""What a digest says of a content, and that events are values."""

from typing import Any

import msgspec
import pytest

from attune.events import CONTENT, AnyEvent, Candidate, Feedback, Interaction, Item, LoggedEvent, Shown, Slate, User

COMMON: dict[str, Any] = {"event_id": "e", "event_timestamp": 5}
BEHAVIOUR: dict[str, Any] = {**COMMON, "user_id": "ada", "item_id": "tea", "kind": "rating", "value": 4.0}
EVENTS: list[AnyEvent] = [
    Interaction(**BEHAVIOUR),
    Feedback(**BEHAVIOUR, slate_id="s"),
    Slate(
        **COMMON,
        user_id="ada",
        model_version="1",
        served_by="champion",
        policy={"b": 1, "a": 2},
        shown=[Shown("tea", 1.0, 0.5)],
        candidates=[Candidate("tea", 1.0)],
        context={},
        state_position=0,
    ),
    Item(**COMMON, item_id="tea", attributes={"b": 1, "a": 2}),
    User(**COMMON, user_id="ada", attributes={"b": 1, "a": 2}),
]
DIGESTS = [
    "9672b59c1e3ba55d20ea24906a6da074",
    "25811baee51e3f6faf8ec52486242772",
    "94e50442035bfcc46c159ee875903c6f",
    "155b885373c611f2bc70bc716d6ab4da",
    "0602428181fd5eee0b1f4f5c9e8f5e91",
]


def name(event: AnyEvent) -> str:
    return type(event).__name__


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_the_digest_leaves_the_id_out_and_nothing_else(event: AnyEvent) -> None:
    assert len(event.digest()) == 16
    assert msgspec.structs.replace(event, event_id="other").digest() == event.digest()
    for field in event.__struct_fields__:
        if field != "event_id":
            assert msgspec.structs.replace(event, **{field: "changed"}).digest() != event.digest(), field


def test_digests_tell_the_types_apart() -> None:
    assert len({event.digest() for event in EVENTS}) == len(EVENTS)


def test_the_order_of_names_is_no_content() -> None:
    item = Item(**COMMON, item_id="tea", attributes={"b": 1, "a": 2})
    assert Item(**COMMON, item_id="tea", attributes={"a": 2, "b": 1}).digest() == item.digest()


def test_digests_are_the_same_in_every_release() -> None:
    """Logs hold them: a change here would make every repeat a conflict."""
    assert [event.digest().hex() for event in EVENTS] == DIGESTS


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_json_and_back(event: AnyEvent) -> None:
    logged = LoggedEvent(7, 8, event)
    assert msgspec.json.decode(CONTENT.encode(logged), type=LoggedEvent) == logged


def test_events_are_values() -> None:
    with pytest.raises(AttributeError):
        EVENTS[0].event_id = "x"  # type: ignore[misc]
    assert Interaction(**BEHAVIOUR) == EVENTS[0]


def test_the_reward_of_a_behaviour() -> None:
    assert EVENTS[0].reward == 0.75  # type: ignore[union-attr]
