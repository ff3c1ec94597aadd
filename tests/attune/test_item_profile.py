"""The live item profile: the sums of the definition, the same however events were batched, within bounds."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import HOUR
from attune.events import AnyEvent, Feedback, Interaction, Item, LoggedEvent, Shown, Slate
from attune.influence import MOST_A_MINUTE, MOST_AN_HOUR
from attune.item_profile import HALF_LIFE, PRIOR, QUORUM, TINY, ItemProfile

START = 1_700_000_000 * 1_000_000
ITEMS = [f"i{number}" for number in range(6)]
FAR = 1e-9
USERS = ("ada", "bob", "cleo", "new")


def settled(user_ids: Collection[str], upto: int) -> Mapping[str, Mapping[str, int]]:
    """Everybody has a history, but those whose names begin with "new"."""
    return {user_id: {f"h{n}": 0 for n in range(5)} for user_id in user_ids if not user_id.startswith("new")}


def profile_of(**limits: int) -> ItemProfile:
    return ItemProfile(history=settled, **limits)


def by_people(
    count: int, item_id: str = "i", kind: str = "like", who: str = "p", time: int = START
) -> list[Interaction]:
    return [like(item_id, time, kind, f"{who}{n}-{item_id}-{kind}-{time}", user_id=f"{who}{n}") for n in range(count)]


def like(item_id: str, time: int = START, kind: str = "like", event_id: str = "", **fields) -> Interaction:
    return Interaction(
        event_id=event_id or f"{item_id}-{time}-{kind}",
        event_timestamp=time,
        user_id=fields.pop("user_id", "ada"),
        item_id=item_id,
        kind=kind,
        **fields,
    )


def slate(item_ids: Sequence[str], time: int = START, user_id: str = "ada") -> Slate:
    return Slate(
        event_id=f"slate-{user_id}-{time}",
        event_timestamp=time,
        user_id=user_id,
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
        user_id = draw(st.sampled_from(USERS))
        what = draw(st.sampled_from(["like", "dislike", "view", "impression", "slate", "retract", "item"]))
        event: AnyEvent
        if what == "slate":
            event = slate(draw(st.lists(st.sampled_from(ITEMS), unique=True)), time, user_id)
        elif what == "item":
            event = Item(event_id=f"e{number}", event_timestamp=time, item_id=item_id, attributes={})
        elif what == "retract":
            event = like(item_id, time, what, f"e{number}", retracts=f"e{draw(st.integers(0, 40))}", user_id=user_id)
        else:
            event = like(item_id, time, what, f"e{number}", user_id=user_id)
        found.append(LoggedEvent(position, time + draw(st.integers(0, 5)), event))
    return found


def by_definition(log: Sequence[LoggedEvent], now: int) -> np.ndarray:
    """sums (item, 3): of each user with a history the last reaction to each item that stands, and the last showing,
    by their own times."""
    taken_back = {
        (one.event.retracts, one.event.user_id, one.position)
        for one in log
        if isinstance(one.event, Interaction) and one.event.kind == "retract"
    }
    shown: dict[tuple[str, str], int] = {}
    said: dict[tuple[str, str], Interaction] = {}
    for one in log:
        event = one.event
        if isinstance(event, Item) or event.user_id == "new" or event.event_id == "nobody":
            continue
        if isinstance(event, Slate) or event.kind == "impression":
            names = [item.item_id for item in event.shown] if isinstance(event, Slate) else [event.item_id]
            for name in names:
                shown[event.user_id, name] = max(event.event_timestamp, shown.get((event.user_id, name), 0))
        elif event.kind != "retract" and not any(
            name == event.event_id and user == event.user_id and position > one.position
            for name, user, position in taken_back
        ):
            before = said.get((event.user_id, event.item_id), event)
            said[event.user_id, event.item_id] = max(before, event, key=lambda one: one.event_timestamp)
    sums = np.zeros((len(ITEMS), 3))
    for (_, item_id), time in shown.items():
        sums[ITEMS.index(item_id), 0] += 0.5 ** ((now - time) / HALF_LIFE)
    for (_, item_id), event in said.items():
        centred, left = 2 * event.reward - 1, 0.5 ** ((now - event.event_timestamp) / HALF_LIFE)
        sums[ITEMS.index(item_id)] += (0, centred * left, abs(centred) * left)
    return sums


@given(histories(), st.integers(0, 20))
def test_the_sums_are_those_of_the_definition(log: list[LoggedEvent], hours: int) -> None:
    profile = profile_of()
    profile.fold(log)
    now = START + (60 + hours) * HOUR
    expected = by_definition(log, now)
    np.testing.assert_allclose(profile.sums(ITEMS, now), expected, rtol=1e-6, atol=TINY)
    scores = profile.scores(ITEMS, now)
    assert scores.dtype == np.float32
    assert (np.abs(scores) < 1).all()
    agreed = np.sign(expected[:, 1]) * np.maximum(np.abs(expected[:, 1]) - QUORUM, 0)
    np.testing.assert_allclose(scores, agreed / (expected[:, 0] + expected[:, 2] + PRIOR), atol=2 * TINY / PRIOR)


@given(histories(), st.data())
def test_it_is_the_same_however_the_events_were_batched(log: list[LoggedEvent], data: st.DataObject) -> None:
    whole = profile_of(items_limit=4, pairs_limit=5)
    changed = whole.fold(log)
    parts, said, start = profile_of(items_limit=4, pairs_limit=5), set(), 0
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
    profile = profile_of()
    before = profile.scores(["hit", "flop", "shown", "unknown"], START)
    assert before.tolist() == [0, 0, 0, 0]
    found = []
    for number in range(1, 41):
        user = {"user_id": f"p{number}"}
        events = [
            like("hit", event_id=f"h{number}", **user),
            like("flop", kind="dislike", event_id=f"f{number}", **user),
        ]
        profile.fold(logged([*events, slate(["shown"], START, f"p{number}")], 3 * number))
        found.append(profile.scores(["hit", "flop", "shown", "unknown"], START))
    hit, flop, shown, unknown = np.array(found).T
    assert not hit[:3].any(), "a few agree"
    assert (np.diff(hit[2:]) > 0).all()
    assert hit[3] == pytest.approx(1 / (4 + PRIOR))
    assert hit[19] == pytest.approx(17 / 40)
    np.testing.assert_allclose(flop, -hit)
    assert not shown.any()
    assert not unknown.any()


def test_what_is_shown_and_left_alone_counts_against_what_was_liked() -> None:
    liked, ignored = profile_of(), profile_of()
    liked.fold(logged(by_people(20)))
    ignored.fold(logged([*by_people(20), *[slate(["i"], START + number, f"q{number}") for number in range(60)]]))
    assert liked.scores(["i"], START)[0] == pytest.approx(17 / 40)
    assert ignored.scores(["i"], START)[0] == pytest.approx(17 / 100, abs=1e-4)
    again = [slate(["i"], START + number, f"q{number % 60}") for number in range(60, 600)]
    ignored.fold(logged(again, 1_000))
    assert ignored.scores(["i"], START)[0] == pytest.approx(17 / 100, abs=1e-4), "who sees it again is no other person"


def test_it_fades_to_silence() -> None:
    profile = profile_of()
    profile.fold(logged(by_people(20)))
    later = [profile.scores(["i"], START + halves * HALF_LIFE)[0] for halves in range(4)]
    np.testing.assert_allclose(later, [17 / 40, 7 / 30, 2 / 25, 0], rtol=1e-6)
    assert profile.scores(["i"], START + 10_000 * HALF_LIFE)[0] == 0
    assert profile.scores(["i"], 0)[0] == pytest.approx(1.0)


def test_history_that_is_imported_today_is_no_hit_of_today() -> None:
    profile = profile_of()
    year = 365 * 24 * HOUR
    profile.fold(logged(by_people(500, "old", time=START - year), at=START))
    assert abs(profile.scores(["old"], START)[0]) < FAR
    profile.fold(logged([like("new", START)], 1_000))
    assert profile.item_ids == ["new"]


def test_an_event_dated_after_it_was_logged_counts_from_when_it_was_logged() -> None:
    profile = profile_of()
    profile.fold(logged([like("i", START + 1_000 * HOUR)], at=START))
    assert profile.sums(["i"], START)[0].tolist() == [0, 1, 1]


def test_a_reaction_is_taken_back_by_who_gave_it_and_once() -> None:
    profile = profile_of()
    profile.fold(logged([like("i", event_id="first"), like("i", event_id="second", user_id="bob")]))
    back = {"kind": "retract", "retracts": "first"}
    assert profile.fold(logged([like("i", user_id="bob", event_id="b1", **back)], 3)) == set()
    assert profile.fold(logged([like("i", event_id="b2", **back)], 4)) == {"i"}
    assert profile.fold(logged([like("i", event_id="b3", **back)], 5)) == set()
    np.testing.assert_allclose(profile.sums(["i"], START)[0], [0, 1, 1], atol=FAR)


def test_an_impression_is_counted_once() -> None:
    profile = profile_of()
    told = Feedback(
        event_id="f", event_timestamp=START, user_id="ada", item_id="i", kind="impression", slate_id="slate"
    )
    assert profile.fold(logged([slate(["i"])])) == {"i"}
    assert profile.fold(logged([told], 2)) == set()
    profile.fold(logged([like("i", kind="impression")], 3))
    assert profile.sums(["i"], START)[0].tolist() == [1, 0, 0], "one person"
    assert profile.position == 3


def test_memory_is_bounded_and_nothing_counts_twice() -> None:
    profile = profile_of(items_limit=100, pairs_limit=50)
    for number in range(1_000):
        user = {"user_id": f"p{number}"}
        events = [like("constant", event_id=f"c{number}", **user), like(f"i{number}", event_id=f"e{number}", **user)]
        profile.fold(logged(events, 1 + 2 * number))
        assert len(profile.item_ids) <= 100
    assert profile.sums(["constant"], START)[0, 1] == pytest.approx(25), "what is forgotten says nothing any more"
    assert len(profile._standing._pairs) == 50
    assert len(profile._standing._known) == 50
    profile.fold(logged([like("constant", kind="retract", event_id="late", retracts="c0", user_id="p0")], 5_000))
    assert profile.sums(["constant"], START)[0, 1] == pytest.approx(25)
    profile.fold(logged([like("late", START + 20 * HALF_LIFE)], 6_000))
    assert profile.item_ids == ["late"]


def test_accounts_without_a_history_say_nothing() -> None:
    profile = profile_of()
    assert profile.fold(logged(by_people(50, who="new"))) == set()
    assert profile.scores(["i"], START)[0] == 0
    first = [like(f"other{n}", START + n, user_id="newcomer") for n in range(6)]
    profile.fold(logged([*first, like("i", START + 6, user_id="newcomer")], 100))
    assert profile.sums(["i"], START)[0, 1] == 0, "what was used in the same hour is no history"
    profile.fold(logged([like("i", START + HOUR, user_id="newcomer")], 200))
    assert profile.sums(["i"], START + HOUR)[0, 1] == 1


def test_one_account_is_one_person_however_often_it_says_so() -> None:
    profile = profile_of()
    many = [like("i", START + n, event_id=f"m{n}") for n in range(1_000)]
    profile.fold(logged([*by_people(60, "loved"), *many, *[slate(["loved"], START + n, "bob") for n in range(1_000)]]))
    np.testing.assert_allclose(profile.sums(["i", "loved"], START + 1_000), [[0, 1, 1], [1, 60, 60]], rtol=1e-3)
    assert profile.scores(["i"], START)[0] == 0
    backs = [like("i", START + 2_000 + n, "retract", f"b{n}", retracts=f"m{n}") for n in range(1_000)]
    profile.fold(logged(backs, 5_000))
    np.testing.assert_allclose(profile.sums(["i"], START + 1_000)[0], 0, atol=FAR)


def test_the_reaction_before_a_taken_back_one_stands_again() -> None:
    profile = profile_of()
    profile.fold(logged([like("i", START, "like", "e1"), like("i", START + 1, "dislike", "e2")]))
    assert profile.sums(["i"], START)[0, 1] == pytest.approx(-1)
    profile.fold(logged([like("i", START + 2, "retract", "e3", retracts="e2")], 10))
    assert profile.sums(["i"], START)[0].tolist() == pytest.approx([0, 1, 1])


def test_a_burst_over_http_is_set_aside_and_an_hour_holds_so_much() -> None:
    def sent(count: int, first: int) -> list[LoggedEvent]:
        events = [like(f"x{first + n}", START + n, user_id="ada") for n in range(count)]
        return [LoggedEvent(first + n, event.event_timestamp, event, True) for n, event in enumerate(events)]

    profile = profile_of()
    assert len(profile.fold(sent(200, 1))) == MOST_A_MINUTE
    assert profile.set_aside == 200 - MOST_A_MINUTE
    imported = profile_of()
    assert len(imported.fold(logged([one.event for one in sent(300, 1)]))) == MOST_AN_HOUR
    assert imported.set_aside == 0


def test_what_an_import_brings_of_the_past_has_faded_and_takes_no_place_of_today() -> None:
    """A user's reactions of now count the same before and after a history comes in, in one minute of long ago."""
    old = START - 10 * HALF_LIFE
    past: list[AnyEvent] = [
        Feedback(event_id=f"f{n}", event_timestamp=old, user_id="ada", item_id=f"x{n}", kind="like", slate_id="s")
        for n in range(MOST_AN_HOUR)
    ]
    past += [like("i", old, "dislike"), slate(["i"], old)]
    profile = profile_of()
    profile.fold([LoggedEvent(1, START, slate(["i"], START)), LoggedEvent(2, START, like("i", START), True)])
    profile.fold(logged(past, 10, at=START + 1))
    assert profile.set_aside == 0
    np.testing.assert_allclose(profile.sums(["i"], START)[0], [1, 1, 1])
    np.testing.assert_allclose(profile.sums([f"x{n}" for n in range(100)], START), [[0, 2**-10, 2**-10]] * 100)
    for n in range(MOST_A_MINUTE - 1):
        profile.fold([LoggedEvent(1_000 + n, START + n, like(f"y{n}", START + n), True)])
    np.testing.assert_allclose(profile.sums([f"y{MOST_A_MINUTE - 2}"], START)[0], [0, 1, 1], rtol=1e-6)


ATTACKS = ["like", "dislike", "hide", "impression", "slate", "retract"]


@given(histories(), st.integers(1, 8), st.data())
def test_n_accounts_move_an_items_score_by_no_more_than_the_bound(
    log: list[LoggedEvent], accounts: int, data: st.DataObject
) -> None:
    """Whatever they send, in whatever order among the others' events."""
    sent = []
    for number in range(data.draw(st.integers(0, 60))):
        user_id, what = f"x{data.draw(st.integers(1, accounts))}", data.draw(st.sampled_from(ATTACKS))
        time = START + data.draw(st.integers(0, 60)) * HOUR
        about = {"user_id": user_id, "event_id": f"a{number}"}
        if what == "retract":
            about["retracts"] = f"a{data.draw(st.integers(0, 60))}"
        event = slate(ITEMS, time, user_id) if what == "slate" else like(ITEMS[0], time, what, **about)
        sent.append((data.draw(st.integers(0, len(log))), event))
    now, quiet, loud = START + 61 * HOUR, profile_of(), profile_of()
    quiet.fold(log)
    events = [(one.event, place) for place, one in enumerate(log)]
    merged = sorted(
        [*((event, at, 0) for at, event in sent), *((event, at, 1) for event, at in events)], key=lambda m: m[1:]
    )
    loud.fold([LoggedEvent(n, event.event_timestamp, event) for n, (event, *_) in enumerate(merged, start=1)])
    before, after = quiet.scores(ITEMS, now), loud.scores(ITEMS, now)
    assert np.abs(after - before).max() <= 2 * accounts / (accounts + PRIOR) + 1e-3
    untouched = [place for place, sums in enumerate(quiet.sums(ITEMS, now)) if not sums.any()]
    assert np.abs(after[untouched]).max(initial=0) <= max(accounts - QUORUM, 0) / (accounts + PRIOR) + 1e-6


def test_nothing_is_left_out_of_what_is_said_to_be_folded() -> None:
    profile = ItemProfile(10, history=settled)
    assert profile.fold(logged([like("i")], 10), upto=9) == set()
    assert profile.position == 10
    profile.fold(logged([like("i")], 12), upto=20)
    assert profile.position == 20
    assert math.isclose(profile.sums(["i"], START)[0, 1], 1)
