"""Feast for real, over small worlds whose answers can be counted by hand."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from attune.clock import DAY, HOUR, SECOND
from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import FeatureStoreError
from attune.event_types import reward
from attune.events import Interaction
from attune.influence import influence
from attune.settings import Settings
from attune.user_state import SEEN_LIMIT, Recent, UserState
from features import feature_store as stores
from features import stats
from features.feature_store import FeatureStore, from_row, to_row

BOTH = [*USER_STATS, *ITEM_STATS]
in_either_store = pytest.mark.parametrize("settings", ["sqlite", "redis"], indirect=True)
in_redis_at_length = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("redis", marks=pytest.mark.long)], indirect=True
)
"""Processes that must load Feast cost seconds."""

WORDS = st.text(min_size=1, max_size=5)
WHOLE = st.integers(-(2**62), 2**62)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RECENT = st.builds(Recent, WORDS, WORDS, WORDS, st.none() | NUMBERS, WHOLE, WHOLE, st.booleans())
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | WORDS
TIMES = st.tuples(st.none(), st.none()) | st.tuples(WHOLE, WHOLE)


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    opened = FeatureStore(settings)
    opened.apply()
    return opened


def random_world(seed: int, rows: int = 300) -> pd.DataFrame:
    """Events with many ties, many on the very edges of hours and days."""
    draw = np.random.default_rng(seed)
    times = draw.integers(0, 200 * 24, rows) * HOUR
    times[draw.random(rows) < 0.5] += draw.integers(0, HOUR, rows)[0]
    times[draw.random(rows) < 0.1] += SECOND
    return pd.DataFrame(
        {
            "position": np.arange(1, rows + 1),
            "event_id": [f"e{n}" for n in range(rows)],
            "user_id": draw.choice(["a", "b", "c"], rows).astype(object),
            "item_id": draw.choice([f"i{n}" for n in range(8)], rows).astype(object),
            "kind": draw.choice(["like", "dislike", "view"], rows).astype(object),
            "value": np.full(rows, np.nan),
            "retracts": np.full(rows, None),
            "event_timestamp": times.astype(np.int64),
        }
    )


def write(store: FeatureStore, events: pd.DataFrame) -> None:
    store.write_stats(stats.user_stats(events), stats.item_stats(events))


def by_hand(events: pd.DataFrame, key: str, entity: str, moment: int, bucket: int, window: int) -> list[float]:
    """Statistics as of ``moment``: those of the last bucket with events that ended at or before it.

    Of an item count the people, each with the latest reaction and the weight that it has by ``attune.influence``.
    """
    mine = events[events[key] == entity]
    ends = (mine["event_timestamp"] // bucket + 1) * bucket
    ends = ends[ends <= moment]
    if not len(ends):
        return [np.nan] * 4
    end = ends.max()
    past = mine[mine["event_timestamp"] < end]
    days, weights = (end - past["event_timestamp"].min()) / DAY, np.ones(len(past))
    if key == "item_id":
        ordered = events.sort_values(["event_timestamp", "position"])
        codes = (pd.factorize(ordered[name])[0] for name in ("user_id", "item_id"))
        ordered["weight"] = influence(*codes, ordered["event_timestamp"].to_numpy())
        past = ordered.loc[ordered.index.isin(past.index)].drop_duplicates("user_id", keep="last")
        weights = past["weight"].to_numpy()
    recent = weights[past["event_timestamp"] >= end - window].sum()
    return [weights.sum(), np.average([reward(kind) for kind in past["kind"]], weights=weights), recent, days]


def test_history_equals_a_count_by_hand(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_world(0)
    write(store, events)
    expected = []
    for event in events.itertuples():
        moment = event.event_timestamp // SECOND * SECOND - SECOND
        expected.append(
            by_hand(events, "user_id", event.user_id, moment, HOUR, 30 * DAY)
            + by_hand(events, "item_id", event.item_id, moment, DAY, 90 * DAY)
        )
    shuffled = events.sample(frac=1, random_state=1)
    found = store.historical(shuffled)
    assert found["event_id"].tolist() == shuffled["event_id"].tolist()
    assert list(found.columns) == ["event_id", *BOTH]
    np.testing.assert_allclose(found[BOTH].to_numpy(), np.array(expected)[shuffled.index], rtol=1e-6)
    assert np.isnan(found[BOTH].to_numpy()).any(axis=0).all()
    monkeypatch.setattr(stores, "JOIN_ROWS", 500)
    pd.testing.assert_frame_equal(store.historical(shuffled), found)


def test_a_planted_future_event_changes_no_earlier_row(store: FeatureStore) -> None:
    events = random_world(1)
    write(store, events)
    before = store.historical(events)
    planted = events.iloc[:40].copy()
    planted["event_id"] = [f"planted{n}" for n in range(40)]
    planted["position"] += 1_000
    cut = int(events["event_timestamp"].median())
    planted["event_timestamp"] = cut
    write(store, pd.concat([events, planted]))
    after = store.historical(events)
    early = (events["event_timestamp"] <= cut).to_numpy()
    pd.testing.assert_frame_equal(before[early], after[early])
    assert not before[~early].equals(after[~early])


def test_a_row_is_visible_only_after_its_events(store: FeatureStore) -> None:
    events = random_world(2, 1).assign(event_timestamp=10 * HOUR + 5)
    write(store, events)
    moments = [10 * HOUR + 6, 11 * HOUR - 1, 11 * HOUR, 11 * HOUR + SECOND, 11 * HOUR + 2 * SECOND]
    asked = pd.concat([events.assign(event_timestamp=moment, event_id=str(moment)) for moment in moments])
    assert store.historical(asked)["user_events"].isna().tolist() == [True, True, True, False, False]


@in_either_store
def test_online_statistics_are_those_of_the_same_moment_in_history(store: FeatureStore) -> None:
    events = random_world(3)
    write(store, events)
    for day in (60, 150, 250):
        moment = day * DAY + 7 * HOUR
        store.materialize(-DAY, moment)
        users = pd.DataFrame({"user_id": ["a", "b", "c"], "item_id": "i0", "event_id": ["a", "b", "c"],
                              "event_timestamp": moment + SECOND})  # fmt: skip
        offline = store.historical(users)[list(USER_STATS)].to_numpy(np.float32)
        online = np.stack([store.online(user)[1] for user in "abc"])
        np.testing.assert_array_equal(online, offline)
        assert online.dtype == np.float32


@in_either_store
def test_an_older_window_never_replaces_newer_rows(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_world(4)
    write(store, events)
    monkeypatch.setattr(stores, "MATERIALIZE_ROWS", 37)
    report = store.materialize_all(lambda: 300 * DAY)
    assert report["online_upto"] == "1970-10-28T00:00:00+00:00"
    newest = store.online("a")[1]
    store.materialize(-DAY, 20 * DAY)
    np.testing.assert_array_equal(store.online("a")[1], newest)


def test_item_statistics_at_a_moment(store: FeatureStore) -> None:
    events = random_world(5)
    write(store, events)
    moment = 100 * DAY + 3 * HOUR
    found = store.item_stats_at(["i3", "nothing", "i0"], moment)
    assert found["item_id"].tolist() == ["i3", "nothing", "i0"]
    expected = [by_hand(events, "item_id", item, moment, DAY, 90 * DAY) for item in found["item_id"]]
    np.testing.assert_allclose(found[list(ITEM_STATS)].to_numpy(), expected, rtol=1e-6)


@in_either_store
def test_entities_without_statistics_are_nan(store: FeatureStore, act: Callable[..., Interaction]) -> None:
    frame = random_world(6, 3)
    assert store.historical(frame)[BOTH].isna().all().all()
    store.materialize_all()
    state, user_stats = store.online("nobody")
    assert state is None
    assert np.isnan(user_stats).all()


def recent(number: int, value: float | None = None, retracted: bool = False) -> Recent:
    return Recent(f"e{number}", f"i{number}", "rating", value, number * 1_234_567 - DAY, number + 1, retracted)


STATES = [
    UserState("nothing", 1),
    UserState("attributes only", 2, attributes={"age": 31, "tags": ["a", "é"], "nested": None, "share": 0.1}),
    UserState("a ä 中", 9, (recent(0, 0.1), recent(1, None, True), recent(2, 5.0)), ("i1", "i2"), {(-3, "view"): 2},
              3, -DAY, 17, {}),
    UserState("take-backs only", 4, (), (), {(5, "retract"): 1}, 1, None, None, {}),
    UserState("much", 2**53 + 1, tuple(recent(number, number / 3) for number in range(200)),
              tuple(f"item-{number}" for number in range(SEEN_LIMIT)),
              {(day, kind): day for day in range(64) for kind in ("view", "like", "rating")},
              10**12, 1, 1_900_000_000_123_456, {}),
]  # fmt: skip


@in_either_store
def test_states_come_back_as_they_were(store: FeatureStore) -> None:
    store.push_states(STATES)
    for state in STATES:
        assert store.online(state.user_id)[0] == state
    found = store.states(["nobody", *(state.user_id for state in STATES)])
    assert list(found.values()) == STATES
    store.push_states([])
    store.forget_states([])
    assert store.states([]) == {}


@in_either_store
def test_an_older_state_does_not_replace_a_newer(store: FeatureStore) -> None:
    newer, older = UserState("u", 7, events=3), UserState("u", 5, events=2)
    store.push_states([newer])
    store.push_states([older])
    store.push_states([newer])
    assert store.online("u")[0] == newer
    store.push_states([replace(newer, position=9), older, replace(newer, position=8)])
    assert store.online("u")[0].position == 9


@in_either_store
def test_a_late_event_makes_a_newer_state(store: FeatureStore) -> None:
    """The last event's time may stay where it was, and in a state of another log even go back."""
    for position, last_time in ((7, 2 * DAY), (8, 2 * DAY), (9, DAY)):
        state = UserState("u", position, events=position, first_time=0, last_time=last_time)
        store.push_states([state])
        assert store.online("u")[0] == state


@in_either_store
def test_statistics_are_corrected_within_their_bucket(store: FeatureStore) -> None:
    """A late event changes the counts of the bucket that is online, whose stamp stays what it was."""
    events = random_world(10)
    write(store, events[1:])
    store.materialize_all(lambda: 300 * DAY)
    before = store.online(events["user_id"][0])[1]
    write(store, events)
    store.materialize_all(lambda: 300 * DAY)
    assert store.online(events["user_id"][0])[1][0] == before[0] + 1


@in_either_store
def test_only_the_very_state_is_forgotten(store: FeatureStore) -> None:
    write(store, random_world(11))
    store.materialize_all(lambda: 300 * DAY)
    ahead = UserState("a", 1_000, events=5)
    store.push_states([ahead, UserState("b", 7)])
    store.forget_states([replace(ahead, position=999)])
    assert store.online("a")[0] == ahead
    store.forget_states([ahead])
    assert store.online("a")[0] is None
    assert not np.isnan(store.online("a")[1]).any()
    store.push_states([UserState("a", 5)])
    assert store.states(["a", "b"]) == {"a": UserState("a", 5), "b": UserState("b", 7)}


@in_either_store
def test_one_user_is_read_in_about_a_millisecond(store: FeatureStore) -> None:
    write(store, random_world(7))
    store.materialize_all()
    store.push_states([UserState("a", 9, tuple(recent(n) for n in range(200)), tuple(f"i{n}" for n in range(200)))])
    seconds = []
    for _ in range(200):
        started = time.perf_counter()
        state, user_stats = store.online("a")
        seconds.append(time.perf_counter() - started)
    assert state is not None
    assert not np.isnan(user_stats).any()
    assert np.median(seconds) < 0.01


def test_reading_before_apply_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(FeatureStoreError, match="was not applied yet"):
        FeatureStore(settings).online("u")


@in_either_store
def test_applying_again_keeps_everything(settings: Settings, store: FeatureStore) -> None:
    write(store, random_world(8))
    store.materialize_all()
    store.push_states([UserState("a", 9)])
    before = store.online("a")
    FeatureStore(settings).apply()
    again = FeatureStore(settings).online("a")
    assert again[0] == before[0]
    np.testing.assert_array_equal(again[1], before[1])
    assert not list(store.folder.glob(".*.draft"))


READER = """
from attune.settings import Settings
from features.feature_store import FeatureStore, from_row, to_row

store, reads, seen = FeatureStore(Settings()), 0, []
while reads < 200 or len(seen) < 10:
    state, _ = store.online("u")
    position = state.position if state else 0
    assert not seen or position >= seen[-1], (position, seen)
    assert state is None or len(state.recent) == position % 20, state
    if not seen or position > seen[-1]:
        seen.append(position)
    reads += 1
"""


@in_redis_at_length
@pytest.mark.long
def test_another_process_reads_whole_states_while_one_writes(settings: Settings, store: FeatureStore) -> None:
    write(store, random_world(9))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
        env=os.environ | settings.as_environment(),
    )  # fmt: skip
    for position in range(1, 100_000):
        window = tuple(recent(number) for number in range(position % 20))
        store.push_states([UserState(user, position, window) for user in "tuv"])
        if position % 100 == 30:
            store.materialize_all()
        if reader.poll() is not None:
            break
    _, spoken = reader.communicate(timeout=60)
    assert reader.returncode == 0, spoken


@in_either_store
def test_threads_share_one_store(store: FeatureStore) -> None:
    store.push_states([UserState(user, place + 1) for place, user in enumerate("abcdefgh")])
    with ThreadPoolExecutor(4) as threads:
        states = [state for state, _ in threads.map(store.online, "abcdefgh" * 20)]
    assert [state.position for state in states if state] == list(range(1, 9)) * 20


@examples(max_examples=150, deadline=None)
@given(
    recent=st.lists(RECENT, max_size=4).map(tuple),
    seen=st.lists(WORDS, max_size=4).map(tuple),
    counts=st.dictionaries(st.tuples(WHOLE, WORDS), WHOLE, max_size=4),
    times=TIMES,
    attributes=st.dictionaries(WORDS, PLAIN | st.lists(PLAIN, max_size=3), max_size=3),
    as_none=st.booleans(),
)
def test_any_state_survives_its_row(recent, seen, counts, times, attributes, as_none) -> None:
    state = UserState("u", 7, recent, seen, counts, 3, *times, attributes)
    row = {name: None if as_none and value == [] else value for name, value in to_row(state).items()}
    assert from_row("u", row) == state
