import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY, HOUR
from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import KINDS, RETRACT, reward
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


@pytest.mark.parametrize(
    ("compute", "key", "bucket", "window", "names"),
    [
        (stats.user_stats, "user_id", HOUR, 30 * DAY, USER_STATS),
        (stats.item_stats, "item_id", DAY, 90 * DAY, ITEM_STATS),
    ],
)
@settings(max_examples=40, deadline=None)
@given(rows=EVENTS)
def test_equals_a_count_by_hand(compute, key, bucket, window, names, rows) -> None:
    events = world(rows)
    frame = compute(events)
    counted = events[events["kind"].map(lambda name: KINDS[name].marks_seen)]
    stood = counted[[not never_stood(events, event) for event in counted.itertuples()]]
    assert set(frame[key]) == set(counted[key])
    assert not frame.duplicated([key, "event_timestamp"]).any()
    for row in frame.itertuples():
        end = int(row.event_timestamp.value // 1_000)
        assert end % bucket == 0
        seen = standing(events, key, getattr(row, key), end)
        first = stood.loc[stood[key] == getattr(row, key), "event_timestamp"].min()
        expected = [
            len(seen),
            np.mean([worth for _, worth in seen]) if seen else np.nan,
            sum(time >= end - window for time, _ in seen),
            (end - first) / DAY if first < end else np.nan,
        ]
        np.testing.assert_allclose([getattr(row, name) for name in names], expected, rtol=1e-6)


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
