"""The live item profile: the sums of the definition, the same however events were batched, within bounds."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import HOUR
from attune.events import AnyEvent, Feedback, Interaction, Item, LoggedEvent, Shown, Slate
from attune.item_profile import HALF_LIFE, PRIOR, TINY, ItemProfile

START = 1_700_000_000 * 1_000_000
ITEMS = [f"i{number}" for number in range(6)]
FAR = 1e-9


def like(item_id: str, time: int = START, kind: str = "like", event_id: str = "", **fields) -> Interaction:
    return Interaction(
        event_id=event_id or f"{item_id}-{time}-{kind}",
        event_timestamp=time,
        user_id=fields.pop("user_id", "ada"),
        item_id=item_id,
        kind=kind,
        **fields,
    )


def slate(item_ids: Sequence[str], time: int = START) -> Slate:
    return Slate(
        event_id=f"slate-{time}",
        event_timestamp=time,
        user_id="ada",
        model_version="1",
        served_by="champion",
        policy={},
        shown=[Shown(item_id, 0.5, 0.1) for item_id in item_ids],
        candidates=[],
        context={},
        state_position=0,
    )


def logged(events: Sequence[AnyEvent], first: int = 1, at: int | None = None) -> list[LoggedEvent]:
    """At consecutive positions, logged when they happened."""
    return [
        LoggedEvent(position, event.event_timestamp if at is None else at, event)
        for position, event in enumerate(events, start=first)
    ]


@st.composite
def histories(draw: st.DrawFn) -> list[LoggedEvent]:
    """A log: times that go forth and back over days, take-backs of what may have been, gaps between positions."""
    found: list[LoggedEvent] = []
    position = 0
    for number in range(draw(st.integers(0, 40))):
        position += draw(st.integers(1, 3))
        time = START + draw(st.integers(0, 60)) * HOUR + number
        item_id = draw(st.sampled_from(ITEMS))
        what = draw(st.sampled_from(["like", "dislike", "view", "impression", "slate", "retract", "item"]))
        event: AnyEvent
        if what == "slate":
            event = slate(draw(st.lists(st.sampled_from(ITEMS), unique=True)), time)
        elif what == "item":
            event = Item(event_id=f"e{number}", event_timestamp=time, item_id=item_id, attributes={})
        elif what == "retract":
            event = like(item_id, time, what, f"e{number}", retracts=f"e{draw(st.integers(0, 40))}")
        else:
            event = like(item_id, time, what, f"e{number}")
        found.append(LoggedEvent(position, time + draw(st.integers(0, 5)), event))
    return found


def by_definition(log: Sequence[LoggedEvent], now: int) -> np.ndarray:
    """sums (item, 3), event by event, for a log of one user."""
    taken_back = {
        one.event.retracts: one.position
        for one in reversed(log)
        if isinstance(one.event, Interaction) and one.event.kind == "retract"
    }
    sums = np.zeros((len(ITEMS), 3))
    for one in log:
        event, left = one.event, 0.5 ** ((now - one.event.event_timestamp) / HALF_LIFE)
        if isinstance(event, Slate):
            for shown in event.shown:
                sums[ITEMS.index(shown.item_id), 0] += left
        elif isinstance(event, Interaction) and event.kind != "retract":
            centred = 2 * event.reward - 1
            gone = event.event_id in taken_back and any(
                isinstance(other.event, Interaction)
                and other.event.retracts == event.event_id
                and other.position > one.position
                for other in log
            )
            weight = 0.0 if gone else left
            sums[ITEMS.index(event.item_id)] += (
                (event.kind == "impression") * left,
                centred * weight,
                abs(centred) * weight,
            )
    return sums


@given(histories(), st.integers(0, 20))
def test_the_sums_are_those_of_the_definition(log: list[LoggedEvent], hours: int) -> None:
    profile = ItemProfile()
    profile.fold(log)
    now = START + (60 + hours) * HOUR
    expected = by_definition(log, now)
    np.testing.assert_allclose(profile.sums(ITEMS, now), expected, rtol=1e-6, atol=TINY)
    scores = profile.scores(ITEMS, now)
    assert scores.dtype == np.float32
    assert (np.abs(scores) < 1).all()
    np.testing.assert_allclose(
        scores, expected[:, 1] / (expected[:, 0] + expected[:, 2] + PRIOR), atol=2 * TINY / PRIOR
    )


@given(histories(), st.data())
def test_it_is_the_same_however_the_events_were_batched(log: list[LoggedEvent], data: st.DataObject) -> None:
    whole = ItemProfile(items_limit=4, known_limit=5)
    changed = whole.fold(log)
    parts, said, start = ItemProfile(items_limit=4, known_limit=5), set(), 0
    while start < len(log):
        end = data.draw(st.integers(start + 1, len(log)))
        again = data.draw(st.integers(0, start))  # what was folded before comes once more
        said |= parts.fold(data.draw(st.permutations(log[again:end])))
        start = end
    assert parts.position == whole.position
    assert parts.item_ids == whole.item_ids
    assert said == changed
    now = START + 60 * HOUR
    np.testing.assert_array_equal(parts.sums(ITEMS, now), whole.sums(ITEMS, now))


def test_a_hit_rises_and_a_flop_falls_as_more_people_say_so() -> None:
    profile = ItemProfile()
    before = profile.scores(["hit", "flop", "shown", "unknown"], START)
    assert before.tolist() == [0, 0, 0, 0]
    found = []
    for number in range(1, 41):
        events = [like("hit", event_id=f"h{number}"), like("flop", kind="dislike", event_id=f"f{number}")]
        profile.fold(logged([*events, slate(["shown"], START)], 3 * number))
        found.append(profile.scores(["hit", "flop", "shown", "unknown"], START))
    hit, flop, shown, unknown = np.array(found).T
    assert (np.diff(hit) > 0).all()
    assert hit[0] == pytest.approx(1 / (1 + PRIOR))
    assert hit[19] == pytest.approx(0.5)
    np.testing.assert_allclose(flop, -hit)
    assert not shown.any()
    assert not unknown.any()


def test_what_is_shown_and_left_alone_counts_against_what_was_liked() -> None:
    liked, ignored = ItemProfile(), ItemProfile()
    likes = [like("i", event_id=f"e{number}") for number in range(20)]
    liked.fold(logged(likes))
    ignored.fold(logged([*likes, *[slate(["i"], START + number) for number in range(60)]]))
    assert liked.scores(["i"], START)[0] == pytest.approx(0.5)
    assert ignored.scores(["i"], START)[0] == pytest.approx(0.2, abs=1e-4)


def test_it_fades_to_silence() -> None:
    profile = ItemProfile()
    profile.fold(logged([like("i", event_id=f"e{number}") for number in range(20)]))
    later = [profile.scores(["i"], START + halves * HALF_LIFE)[0] for halves in range(4)]
    np.testing.assert_allclose(later, [20 / 40, 10 / 30, 5 / 25, 2.5 / 22.5], rtol=1e-6)
    assert profile.scores(["i"], START + 10_000 * HALF_LIFE)[0] == 0
    assert profile.scores(["i"], 0)[0] == pytest.approx(1.0)


def test_history_that_is_imported_today_is_no_hit_of_today() -> None:
    profile = ItemProfile()
    year = 365 * 24 * HOUR
    profile.fold(logged([like("old", START - year, event_id=f"o{number}") for number in range(500)], at=START))
    assert abs(profile.scores(["old"], START)[0]) < FAR
    profile.fold(logged([like("new", START)], 1_000))
    assert profile.item_ids == ["new"]


def test_an_event_dated_after_it_was_logged_counts_from_when_it_was_logged() -> None:
    profile = ItemProfile()
    profile.fold(logged([like("i", START + 1_000 * HOUR)], at=START))
    assert profile.sums(["i"], START)[0].tolist() == [0, 1, 1]


def test_a_reaction_is_taken_back_by_who_gave_it_and_once() -> None:
    profile = ItemProfile()
    profile.fold(logged([like("i", event_id="first"), like("i", event_id="second", user_id="bob")]))
    back = {"kind": "retract", "retracts": "first"}
    assert profile.fold(logged([like("i", user_id="bob", event_id="b1", **back)], 3)) == set()
    assert profile.fold(logged([like("i", event_id="b2", **back)], 4)) == {"i"}
    assert profile.fold(logged([like("i", event_id="b3", **back)], 5)) == set()
    np.testing.assert_allclose(profile.sums(["i"], START)[0], [0, 1, 1], atol=FAR)


def test_an_impression_is_counted_once() -> None:
    profile = ItemProfile()
    told = Feedback(
        event_id="f", event_timestamp=START, user_id="ada", item_id="i", kind="impression", slate_id="slate"
    )
    assert profile.fold(logged([slate(["i"])])) == {"i"}
    assert profile.fold(logged([told], 2)) == set()
    profile.fold(logged([like("i", kind="impression")], 3))
    assert profile.sums(["i"], START)[0].tolist() == [2, 0, 0]
    assert profile.position == 3


def test_memory_is_bounded() -> None:
    profile = ItemProfile(items_limit=100, known_limit=50)
    for number in range(1_000):
        events = [like("constant", event_id=f"c{number}"), like(f"i{number}", event_id=f"e{number}")]
        profile.fold(logged(events, 1 + 2 * number))
        assert len(profile.item_ids) <= 100
    assert "constant" in profile.item_ids
    assert profile.sums(["constant"], START)[0, 1] == pytest.approx(1_000)
    assert len(profile._known) <= 50
    profile.fold(logged([like("constant", kind="retract", event_id="late", retracts="c0")], 5_000))
    assert profile.sums(["constant"], START)[0, 1] == pytest.approx(1_000)
    profile.fold(logged([like("late", START + 20 * HALF_LIFE)], 6_000))
    assert profile.item_ids == ["late"]


def test_nothing_is_left_out_of_what_is_said_to_be_folded() -> None:
    profile = ItemProfile(position=10)
    assert profile.fold(logged([like("i")], 10), upto=9) == set()
    assert profile.position == 10
    profile.fold(logged([like("i")], 12), upto=20)
    assert profile.position == 20
    assert math.isclose(profile.sums(["i"], START)[0, 1], 1)
