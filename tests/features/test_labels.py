"""Labels: every shown item has its row, every reaction is told once, and nothing is lost silently."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY, HOUR, MINUTE, SECOND
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Feedback, Interaction, Shown, Slate
from features.labels import (
    ANOTHER_USER,
    BURST,
    KEY,
    NOT_SHOWN,
    OUT_OF_RANGE,
    REASONS,
    UNKNOWN_SLATE,
    Labels,
    Terms,
    labels,
    slate_returns,
)
from features.lake import Lake

NOW = 20_000 * DAY
"""What the log's clock says: far later than every slate that names no other time."""


def slate(slate_id: str, user: str, *items: str, at: int = 0) -> Slate:
    shown = [Shown(item, 1.0 / rank, 0.5 / rank) for rank, item in enumerate(items, start=1)]
    return Slate(
        event_id=slate_id, event_timestamp=at, user_id=user, model_version="1", served_by="champion", policy={},
        shown=shown, candidates=[], context={}, state_position=0,
    )  # fmt: skip


def react(
    number: int, slate_id: str, user: str, item: str, kind: str, at: int = 1, retracts: str | None = None,
    value: float | None = None,
) -> Feedback:  # fmt: skip
    return Feedback(
        event_id=f"f{number}", event_timestamp=at, user_id=user, item_id=item, kind=kind, slate_id=slate_id,
        retracts=retracts, value=value,
    )  # fmt: skip


def test_every_shown_item_has_its_row(log: EventLog, lake: Lake, act: Callable[..., Interaction]) -> None:
    log.append([
        react(1, "early", "u", "b", "like"),
        slate("early", "u", "a", "b"),
        slate("ignored", "v", "a", "c", "d"),
        slate("changed", "u", "c", "d", "e"),
        react(2, "changed", "u", "c", "like"), react(3, "changed", "u", "c", "dislike"),
        react(4, "changed", "u", "d", "like"), react(5, "changed", "u", "d", "retract", retracts="f4"),
        react(6, "changed", "u", "e", "click", at=2 * DAY),
        react(7, "unknown", "u", "e", "click"), react(8, "ignored", "u", "a", "like"),
        act("u", "a", kind="like"),
    ])  # fmt: skip
    lake.ingest(log)
    found = labels(lake)
    rows = [tuple(row) for row in found.frame[["slate_id", "item_id", "rank", "kind", "reward", "late"]].to_numpy()]
    assert rows == [
        ("early", "a", 1, None, 0.5, False), ("early", "b", 2, "like", 1.0, False),
        ("ignored", "a", 1, None, 0.5, False), ("ignored", "c", 2, None, 0.5, False),
        ("ignored", "d", 3, None, 0.5, False),
        ("changed", "c", 1, "dislike", 0.0, False), ("changed", "d", 2, None, 0.5, False),
        ("changed", "e", 3, "click", 1.0, True),
    ]  # fmt: skip
    assert sum(found.counts[reason] for reason in (UNKNOWN_SLATE, ANOTHER_USER, NOT_SHOWN)) == 2
    assert found.frame["propensity"].tolist()[:2] == [0.5, 0.25]
    assert found.frame["score"].tolist()[:2] == [1.0, 0.5]
    assert found.frame[["model_version", "served_by"]].drop_duplicates().to_numpy().tolist() == [["1", "champion"]]
    assert set(labels(lake, after=2).frame["slate_id"]) == {"ignored", "changed"}
    assert labels(lake, upto=5).frame["kind"].tolist()[-3:] == ["like", None, None]


def test_no_slates_no_rows(lake: Lake) -> None:
    found = labels(lake)
    assert not any(found.counts.values())
    assert all(len(frame) == 0 for frame in (found.frame, found.earlier, found.history, found.set_aside, found.organic))
    assert found.settled_upto == 0


@pytest.fixture
def filled(log: EventLog, lake: Lake) -> Callable[..., Lake]:
    """The lake with these events at the positions 1, 2, ..."""

    def fill(*events: AnyEvent) -> Lake:
        log.append(list(events))
        lake.ingest(log)
        return lake

    return fill


def words(frame: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in frame[["item_id", "kind", "reward"]].to_numpy()]


def test_a_window_without_events_says_nothing(filled) -> None:
    lake = filled(slate("s", "u", "a"), react(1, "s", "u", "a", "like"))
    found = labels(lake, after=2)
    assert not any(found.counts.values())
    assert found.settled_upto == 2
    assert list(found.frame.columns) == list(labels(lake).frame.columns)


def test_feedback_that_comes_after_the_window_is_told_by_the_next_one_once(filled) -> None:
    lake = filled(
        slate("s", "u", "a", "b", "c"), react(1, "s", "u", "a", "click"), react(2, "s", "u", "c", "like"),
        react(3, "s", "u", "b", "like", at=2 * DAY), react(4, "s", "u", "a", "dislike"),
        react(5, "s", "u", "c", "retract", retracts="f2"),
        slate("t", "v", "a"),
    )  # fmt: skip
    first, second, third = (labels(lake, *window) for window in ((0, 3), (3, 6), (6, 7)))
    assert words(first.frame) == [("a", "click", 1.0), ("b", None, 0.5), ("c", "like", 1.0)]
    assert len(first.earlier) == len(second.frame) == len(third.earlier) == 0
    assert words(second.earlier) == [("a", "dislike", 0.0), ("b", "like", 1.0), ("c", None, 0.5)]
    assert second.earlier["before"].tolist() == [1.0, 0.5, 1.0]
    assert second.earlier["late"].tolist() == [False, True, False]
    assert (second.counts["late reactions"], second.counts["changed later"]) == (1, 3)


def test_the_last_word_counts_and_every_word_is_kept(filled) -> None:
    lake = filled(
        slate("s", "u", "a", "b"), react(1, "s", "u", "a", "like"), react(2, "s", "u", "a", "dislike"),
        react(3, "s", "u", "b", "view"), react(4, "s", "u", "b", "like"),
    )  # fmt: skip
    found = labels(lake)
    assert words(found.frame) == [("a", "dislike", 0.0), ("b", "like", 1.0)]
    assert found.history["kind"].tolist() == ["like", "dislike", "view", "like"]
    assert found.history["stands"].tolist() == [False, True, False, True]
    assert found.counts["contradicted"] == 1, "a like after a view agrees with it"


def test_what_comes_late_is_the_last_word_only_if_it_was_said_last(filled) -> None:
    lake = filled(
        slate("s", "u", "a", "b"), react(1, "s", "u", "a", "like", at=9), react(2, "s", "u", "a", "dislike", at=5),
        react(3, "s", "u", "b", "like", at=9), react(4, "s", "u", "b", "dislike", at=9),
    )  # fmt: skip
    assert words(labels(lake).frame) == [("a", "like", 1.0), ("b", "dislike", 0.0)]


def test_what_does_not_count_is_set_aside_with_the_reason(filled) -> None:
    lake = filled(
        slate("s", "u", "a", "b"),
        react(1, "nowhere", "u", "a", "like"), react(2, "s", "v", "a", "like"), react(3, "s", "u", "z", "like"),
        react(4, "s", "u", "a", "watch", value=1.5), react(5, "s", "u", "a", "survey", value=-0.2),
        react(6, "s", "u", "b", "watch", value=0.8),
    )  # fmt: skip
    found = labels(lake)
    assert dict(found.set_aside[["event_id", "reason"]].to_numpy().tolist()) == {
        "f1": UNKNOWN_SLATE, "f2": ANOTHER_USER, "f3": NOT_SHOWN, "f4": OUT_OF_RANGE, "f5": OUT_OF_RANGE,
    }  # fmt: skip
    assert [found.counts[reason] for reason in REASONS] == [2, 0, 1, 1, 1]
    assert words(found.frame) == [("a", None, 0.5), ("b", "watch", pytest.approx(0.8))]


def test_of_a_bots_burst_a_minutes_worth_counts_and_the_rest_is_set_aside(filled) -> None:
    items = [f"i{place}" for place in range(10)]
    burst = [react(place, "s", "bot", item, "like", at=HOUR + place) for place, item in enumerate(items)]
    slow = [react(10 + place, "t", "person", item, "like", at=HOUR + place * MINUTE)
            for place, item in enumerate(items)]  # fmt: skip
    lake = filled(slate("s", "bot", *items), slate("t", "person", *items), *burst, *slow)
    terms = Terms(most_a_minute=4)
    found = labels(lake, terms=terms)
    assert found.set_aside["event_id"].tolist() == ["f4", "f5", "f6", "f7", "f8", "f9"]
    assert found.counts[BURST] == 6
    assert found.counts["reactions"] == 14
    assert found.frame.groupby("slate_id")["kind"].count().to_dict() == {"s": 4, "t": 10}
    later = labels(lake, after=8, terms=terms)
    assert later.counts[BURST] == 4, "the minute is the same one, wherever the window begins"


def test_organic_interactions_are_told_from_those_that_a_slate_may_have_prompted(filled, act) -> None:
    lake = filled(
        slate("s", "u", "a", "b", at=HOUR),
        act("u", "a", seconds=HOUR // SECOND + 1), act("u", "b", seconds=1), act("u", "z", seconds=HOUR // SECOND + 1),
        act("v", "a", seconds=HOUR // SECOND + 1), act("u", "b", seconds=2 * DAY // SECOND),
        act("u", "a", seconds=HOUR // SECOND + 2, kind="impression"),
    )  # fmt: skip
    found = labels(lake)
    assert found.organic["prompted"].tolist() == [True, False, False, False, False]
    assert (found.counts["prompted"], found.counts["organic"]) == (1, 4)
    assert labels(lake, after=1).organic["prompted"].tolist() == [True, False, False, False, False]


def test_silence_is_final_once_the_attribution_window_has_passed(filled) -> None:
    lake = filled(
        slate("old", "u", "a", at=NOW - DAY), slate("new", "u", "a", at=NOW - DAY + 1), slate("late", "u", "a", at=0)
    )
    found = labels(lake)
    assert found.frame["settled"].tolist() == [True, False, True]
    assert found.settled_upto == 1, "the next window of final labels starts at the first slate that is open"


def test_a_reaction_that_was_logged_before_its_slate_is_used_with_it(filled) -> None:
    lake = filled(react(1, "s", "u", "a", "like"), slate("s", "u", "a"))
    first, second = labels(lake, 0, 1), labels(lake, 1, 2)
    assert first.counts[UNKNOWN_SLATE] == 1
    assert words(second.frame) == [("a", "like", 1.0)]
    assert second.counts["reactions"] == 1


def test_a_slate_out_of_reach_is_an_unknown_one(filled) -> None:
    lake = filled(slate("s", "u", "a"), slate("t", "u", "a"), react(1, "s", "u", "a", "like"))
    assert labels(lake, after=2, terms=Terms(reach=2)).counts["reactions"] == 1
    assert labels(lake, after=2, terms=Terms(reach=1)).counts[UNKNOWN_SLATE] == 1


def test_files_that_hold_none_of_the_slates_that_are_spoken_of_are_passed_over(log: EventLog, lake: Lake) -> None:
    for number in range(3):
        log.append([slate(f"s{number}", "u", "a", "b"), slate(f"empty{number}", "u")])
        lake.ingest(log)
    log.append(
        [react(1, "s0", "u", "a", "like"), react(2, "s2", "u", "b", "like"), react(3, "empty1", "u", "b", "like")]
    )
    lake.ingest(log)
    found = labels(lake, after=6)
    assert found.earlier[["slate_id", "item_id"]].to_numpy().tolist() == [["s0", "a"], ["s2", "b"]]
    assert found.counts[NOT_SHOWN] == 1


@pytest.mark.parametrize("name", ["patience", "reach", "most_a_minute"])
def test_terms_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Terms(**{name: 0})


ITEMS = [f"i{place}" for place in range(6)]


def anything(seed: int, count: int = 160) -> list[AnyEvent]:
    """Slates and all kinds of feedback on them, take-backs and organic behaviour, in no good order."""
    random, events = np.random.default_rng(seed), []
    for number in range(count):
        user, at = f"u{random.integers(3)}", int(random.integers(3 * DAY))
        item, kind = ITEMS[random.integers(6)], ["like", "dislike", "view", "retract"][random.integers(4)]
        named = f"s{random.integers(number + 1)}"
        if random.random() < 0.3:
            shown = [ITEMS[place] for place in random.permutation(6)[:3]]
            events.append(slate(f"s{number}", user, *shown, at=at))
        elif kind == "retract":
            events.append(react(number, named, user, item, kind, at, retracts=f"f{random.integers(number + 1)}"))
        else:
            known = [one for one in events if isinstance(one, Slate)]
            if known and random.random() < 0.9:
                chosen = known[random.integers(len(known))]
                named, user, item = chosen.event_id, chosen.user_id, chosen.shown[random.integers(3)].item_id
            events.append(react(number, named, user, item, kind, at))
    return events


@pytest.fixture(scope="module", params=[0, 1])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("crowded")
    url = f"sqlite:///{folder}/log.db"
    prepare(url)
    log, lake = EventLog(url, lambda: NOW), Lake(folder / "lake")
    log.append(anything(request.param))
    lake.ingest(log)
    log.close()
    return lake


@settings(max_examples=15)
@given(cuts=st.sets(st.integers(1, 159), max_size=4), most=st.sampled_from([2, 60]))
def test_however_the_log_is_cut_the_windows_add_up_to_the_whole(crowded: Lake, cuts: set[int], most: int) -> None:
    terms = Terms(most_a_minute=most)
    whole = labels(crowded, terms=terms)
    parts = [labels(crowded, after, upto, terms) for after, upto in pairwise([0, *sorted(cuts), 160])]
    told: dict[tuple, tuple] = {}
    for part in parts:
        for row in part.earlier.to_dict("records"):
            assert told[tuple(row[name] for name in KEY)][1] == row["before"]
        for row in [*part.frame.to_dict("records"), *part.earlier.to_dict("records")]:
            told[tuple(row[name] for name in KEY)] = (row["kind"], row["reward"], row["late"])
    expected = {
        tuple(row[name] for name in KEY): (row["kind"], row["reward"], row["late"])
        for row in whole.frame.to_dict("records")
    }
    assert told == expected
    assert sorted(event for part in parts for event in part.history["event_id"]) == sorted(whole.history["event_id"])
    assert_nothing_is_lost(crowded, parts)


def assert_nothing_is_lost(lake: Lake, parts: list[Labels]) -> None:
    """All feedback but take-backs is a reaction or set aside; only what came before its slate is both."""
    feedback = lake.events(types=("feedback",), columns=("event_id", "kind")).to_pandas()
    expected = set(feedback.loc[feedback["kind"] != "retract", "event_id"])
    reacted = [event for part in parts for event in part.history["event_id"]]
    aside = pd.concat([part.set_aside for part in parts])
    assert len(reacted) == len(set(reacted))
    assert set(reacted) | set(aside["event_id"]) == expected
    both = aside[aside["event_id"].isin(reacted)]
    assert set(both["reason"]) <= {UNKNOWN_SLATE}


REWARDS = st.lists(st.floats(0, 1, width=32), max_size=20)


@given(rewards=REWARDS, ignored=st.integers(0, 50))
def test_being_ignored_more_is_worth_no_more(rewards: list[float], ignored: int) -> None:
    frame = pd.DataFrame({"slate_id": "s", "reward": [*rewards, 0.5]})
    more = pd.DataFrame({"slate_id": "s", "reward": [*rewards, *[0.5] * (1 + ignored)]})
    assert slate_returns(more)["s"] == pytest.approx(slate_returns(frame)["s"], abs=1e-9)


@given(rewards=REWARDS, one=st.floats(0, 1, width=32))
def test_a_return_grows_with_what_pleased_and_shrinks_with_what_did_not(rewards: list[float], one: float) -> None:
    frame = pd.DataFrame({"slate_id": "s", "reward": [*rewards, 0.5]})
    more = pd.DataFrame({"slate_id": "s", "reward": [*rewards, 0.5, one]})
    gained = slate_returns(more)["s"] - slate_returns(frame)["s"]
    assert gained == pytest.approx(2 * one - 1, abs=1e-9)
