from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune import influence
from attune.clock import DAY, HOUR
from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import KINDS, RETRACT, reward
from attune.influence import NEWCOMER
from features import stats

COLUMNS = ["position", "event_id", "user_id", "item_id", "kind", "value", "retracts", "event_timestamp"]

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["like", "dislike", "rating", "impression", RETRACT]),
        st.integers(1, 5),
        st.integers(0, 120 * 24 * 4),
    ),
    min_size=1,
    max_size=25,
)


def world(rows: list[tuple[str, str, str, int, int]]) -> pd.DataFrame:
    """Events at quarters of hours; a retract names the event ``value`` places before it (if any)."""
    table = []
    for place, (user, item, kind, number, quarter) in enumerate(rows):
        named = f"e{place - number}" if kind == RETRACT else None
        value = float(number) if kind == "rating" else None
        table.append((place + 1, f"e{place}", user, item, kind, value, named, quarter * HOUR // 4))
    return pd.DataFrame(table, columns=COLUMNS).astype(
        {"value": float, "event_timestamp": "int64", "position": "int64"}
    )


def standing(events: pd.DataFrame, key: str, entity: str, end: int) -> list[tuple[int, float]]:
    """(time, reward) of the entity's counted events before ``end`` that were not taken back before ``end``."""
    found = []
    for event in events.itertuples():
        if getattr(event, key) != entity or not KINDS[event.kind].marks_seen or event.event_timestamp >= end:
            continue
        backs = [
            max(one.event_timestamp, event.event_timestamp)
            for one in events.itertuples()
            if one.kind == RETRACT and one.retracts == event.event_id and one.user_id == event.user_id
            and one.position > event.position
        ]  # fmt: skip
        if not any(moment < end for moment in backs):
            value = None if np.isnan(event.value) else event.value
            found.append((event.event_timestamp, reward(event.kind, value)))
    return found


def never_stood(events: pd.DataFrame, event) -> bool:
    """Whether its user took it back later in the log, at a time that is not after its own."""
    return any(
        back.kind == RETRACT and back.retracts == event.event_id and back.user_id == event.user_id
        and back.position > event.position and back.event_timestamp <= event.event_timestamp
        for back in events.itertuples()
    )  # fmt: skip


def people(table: list, item: str, end: int) -> list[tuple[int, float, float]]:
    """(time, reward, weight) of each user's latest reaction to the item that stands at ``end``, by the rule's words."""
    found = {}
    spent: Counter[tuple[str, int]] = Counter()
    used: defaultdict[str, set[str]] = defaultdict(set)
    for event in sorted(table, key=lambda one: (one.event_timestamp, one.position)):
        backs = [
            max(one.event_timestamp, event.event_timestamp)
            for one in table
            if one.kind == RETRACT and (one.retracts, one.user_id) == (event.event_id, event.user_id)
            and one.position > event.position
        ]  # fmt: skip
        if not KINDS[event.kind].marks_seen or event.event_timestamp in backs:
            continue
        hour = (event.user_id, event.event_timestamp // HOUR)
        weight = 1.0 if len(used[event.user_id] - {event.item_id}) >= influence.HISTORY_ITEMS else NEWCOMER
        used[event.user_id].add(event.item_id)
        spent[hour] += 1
        stands = event.event_timestamp < end <= min(backs, default=end)
        if event.item_id == item and spent[hour] <= influence.MOST_AN_HOUR and stands:
            value = None if np.isnan(event.value) else event.value
            found[event.user_id] = (event.event_timestamp, reward(event.kind, value), weight)
    return list(found.values())


@settings(max_examples=40, deadline=None)
@given(rows=EVENTS, most=st.integers(1, 4))
def test_items_count_people_as_the_rule_says(rows, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence, "MOST_AN_HOUR", most)
        patch.setattr(influence, "HISTORY_ITEMS", 2)
        events = world(rows)
        frame, table = stats.item_stats(events), list(events.itertuples())
        counted = events[events["kind"].map(lambda name: KINDS[name].marks_seen)]
        stood = counted[[not never_stood(events, event) for event in counted.itertuples()]]
        assert set(frame["item_id"]) == set(counted["item_id"])
        for row in frame.itertuples():
            end = int(row.event_timestamp.value // 1_000)
            said = people(table, row.item_id, end)
            weights = [weight for *_, weight in said]
            first = stood.loc[stood["item_id"] == row.item_id, "event_timestamp"].min()
            expected = [
                sum(weights),
                np.average([worth for _, worth, _ in said], weights=weights) if said else np.nan,
                sum(weight for time, _, weight in said if time >= end - 90 * DAY),
                (end - first) / DAY if first < end else np.nan,
            ]
            np.testing.assert_allclose([getattr(row, name) for name in ITEM_STATS], expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(rows=EVENTS)
def test_users_have_all_that_they_did_counted(rows) -> None:
    events = world(rows)
    frame = stats.user_stats(events)
    counted = events[events["kind"].map(lambda name: KINDS[name].marks_seen)]
    stood = counted[[not never_stood(events, event) for event in counted.itertuples()]]
    assert set(frame["user_id"]) == set(counted["user_id"])
    assert not frame.duplicated(["user_id", "event_timestamp"]).any()
    for row in frame.itertuples():
        end = int(row.event_timestamp.value // 1_000)
        assert end % HOUR == 0
        seen = standing(events, "user_id", row.user_id, end)
        first = stood.loc[stood["user_id"] == row.user_id, "event_timestamp"].min()
        expected = [
            len(seen),
            np.mean([worth for _, worth in seen]) if seen else np.nan,
            sum(time >= end - 30 * DAY for time, _ in seen),
            (end - first) / DAY if first < end else np.nan,
        ]
        np.testing.assert_allclose([getattr(row, name) for name in USER_STATS], expected, rtol=1e-6)


def test_one_account_is_one_person_to_an_item() -> None:
    """400 clicks by one account beside sixty people with one each."""
    rows = [("pusher", "pushed", "like", 1, place // 8) for place in range(400)]
    rows += [(f"p{number}", "loved", "like", 1, number) for number in range(60)]
    latest = stats.item_stats(world(rows)).groupby("item_id").last()
    assert latest.loc["pushed", "item_events"] == NEWCOMER
    assert latest.loc["loved", "item_events"] == 60 * NEWCOMER


def test_each_bucket_with_events_has_its_row_at_its_end() -> None:
    events = world([("a", "x", "like", 1, 0), ("a", "y", "like", 1, 3), ("a", "x", "like", 1, 4)])
    frame = stats.user_stats(events)
    assert frame["event_timestamp"].tolist() == [
        pd.Timestamp(HOUR, unit="us", tz="UTC"),
        pd.Timestamp(2 * HOUR, unit="us", tz="UTC"),
    ]
    assert frame["user_events"].tolist() == [2, 3]


def test_no_events_no_rows() -> None:
    assert len(stats.user_stats(world([]))) == 0
    assert list(stats.item_stats(world([])).columns) == ["item_id", "event_timestamp", *ITEM_STATS]


def test_rewards_follow_the_table() -> None:
    kinds = pd.Series(["like", "rating", "rating", "view"])
    np.testing.assert_allclose(stats.rewards(kinds, pd.Series([None, 5.0, 1.0, None])), [1.0, 1.0, 0.0, 0.75])
