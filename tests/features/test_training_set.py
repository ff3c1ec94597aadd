import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import DAY, SECOND
from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Interaction, Item
from attune.settings import Settings
from features import stats, training_set
from features.lake import Lake
from features.store import FeatureStore

Act = Callable[..., Interaction]
EVENT_FEATURES = (*USER_STATS, *ITEM_STATS)


@pytest.fixture
def world(settings: Settings, log: EventLog, lake: Lake, act: Act) -> FeatureStore:
    """Two users over three days; e3 is taken back (e6), and e7 takes back nothing that is known."""
    day = DAY / SECOND
    title = Item(event_id="x1", event_timestamp=0, item_id="i1", attributes={"title": "One", "genres": ["A"], "k": 1})
    log.append([
        act("u", "i1", 10, "rating", 5.0), act("v", "i1", 10, "like"), act("u", "i2", 20, "like"),
        act("u", "i3", 2 * day, "dislike"), title, act("v", "i2", day + 0.5, "view"),
        act("u", "i2", 2 * day, "retract", retracts="e3"), act("v", "i2", 2 * day, "retract", retracts="e1"),
        act("v", "i3", 2 * day, "rating", 1.0), act("u", "i2", 3 * day, "view"),
    ])  # fmt: skip
    lake.ingest(log)
    store = FeatureStore(settings)
    store.apply()
    events = lake.behaviour().to_pandas()
    store.write_stats(stats.user_stats(events), stats.item_stats(events))
    return store


def test_events_with_what_was_known_before_each(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    built = training_set.build(lake, world, tmp_path / "set", lake.watermark())
    events = pd.read_parquet(tmp_path / "set" / "events.parquet")
    assert events["event_id"].tolist() == ["e1", "e2", "e5", "e4", "e8", "e9"]
    assert events["position"].tolist() == [1, 2, 6, 4, 9, 10]
    assert events["reward"].tolist() == [1.0, 1.0, 0.75, 0.0, 0.0, 0.75]
    assert events["event_timestamp"].dtype == np.int64
    assert list(events.columns)[-8:] == [*USER_STATS, *ITEM_STATS]
    assert events["user_events"].fillna(-1).tolist() == [-1, -1, 1, 2, 2, 2]
    assert events["item_events"].fillna(-1).tolist() == [-1, -1, -1, -1, -1, 2]
    assert built.rows == 6


def test_items_carry_their_statistics_at_the_windows_end(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    training_set.build(lake, world, tmp_path, lake.watermark())
    items = pd.read_parquet(tmp_path / "items.parquet").set_index("item_id")
    assert items.index.tolist() == ["i1", "i2", "i3"]
    assert items["title"].tolist() == ["One", "", ""]
    assert items["genres"].map(list).tolist() == [["A"], [], []]
    assert items["item_events"].tolist() == [2, 1, 2]
    assert json.loads(items["attributes"]["i1"]) == {"title": "One", "genres": ["A"], "k": 1}
    assert items["item_days_known"].tolist() == pytest.approx([(DAY - 10 * SECOND) / DAY, 3 - 20 / 86_400, 1.0])


def test_the_window_is_written_and_building_again_changes_nothing(
    world: FeatureStore, lake: Lake, tmp_path: Path
) -> None:
    first = training_set.build(lake, world, tmp_path / "a", lake.watermark())
    again = training_set.build(lake, world, tmp_path / "a", lake.watermark())
    other = training_set.build(Lake(lake.folder), world, tmp_path / "b", lake.watermark())
    assert first == again
    assert other.window == first.window == json.loads((tmp_path / "b" / "window.json").read_text())
    assert first.window | {"digest": ""} == {
        "first_position": 1, "last_position": 10, "first_time": 10 * SECOND, "last_time": 3 * DAY, "rows": 6,
        "users": 2, "items": 3, "digest": "", "feature_service": "training_v1",
    }  # fmt: skip
    assert len(first.window["digest"]) == 64
    for name in ("events.parquet", "items.parquet"):
        digests = [hashlib.sha256((tmp_path / part / name).read_bytes()).digest() for part in "ab"]
        assert digests[0] == digests[1]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "events.parquet",
        "items.parquet",
        "window.json",
    ]


def test_an_earlier_position_gives_another_window(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    whole = training_set.build(lake, world, tmp_path / "a", lake.watermark())
    part = training_set.build(lake, world, tmp_path / "b", 6)
    assert (part.rows, part.window["last_position"], part.window["items"]) == (5, 6, 3)
    assert part.window["digest"] != whole.window["digest"]


def test_what_is_logged_later_changes_nothing_however_early_it_is_dated(
    settings: Settings, log: EventLog, lake: Lake, act: Act, tmp_path: Path
) -> None:
    """Events of day 30 on, then a late import of days 0 to 2: the same set up to the same position."""
    hour = 3_600
    recent = [act(f"u{n % 7}", f"i{n % 11}", 30 * DAY / SECOND + n * hour, "rating", n % 5 + 1.0) for n in range(60)]
    late = [act(f"u{n % 7}", f"i{n % 11}", n * hour, "rating", 5.0) for n in range(60)]
    store = FeatureStore(settings)
    store.apply()
    built = {}
    for name, events in (("before", recent), ("after", late)):
        log.append(events)
        lake.ingest(log)
        everything = lake.behaviour().to_pandas()
        store.write_stats(stats.user_stats(everything), stats.item_stats(everything))
        store.materialize_all(lambda: 40 * DAY)
        built[name] = training_set.build(lake, store, tmp_path / name, 60)
    assert built["before"].window == built["after"].window
    for file in ("events.parquet", "items.parquet"):
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes()
    online = store.user_stats("u0")
    assert online[0] == 18, "what was brought online is still counted over everything"
    assert training_set.build(lake, store, tmp_path / "whole", 120).window["digest"] != built["after"].window["digest"]


def test_the_digest_covers_features_and_items(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    built = training_set.build(lake, world, tmp_path, lake.watermark())
    events, items = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("events", "items"))
    assert training_set.digest(events, items) == built.window["digest"]
    digests = {built.window["digest"]}
    for column in (*EVENT_FEATURES, "value", "event_timestamp"):
        digests.add(training_set.digest(events.assign(**{column: events[column].fillna(0) + 1}), items))
    for column in ITEM_STATS:
        digests.add(training_set.digest(events, items.assign(**{column: items[column].fillna(0) + 1})))
    digests.add(training_set.digest(events, items.assign(attributes="{}")))
    assert len(digests) == 1 + len(EVENT_FEATURES) + 2 + len(ITEM_STATS) + 1


def test_no_event_is_said(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="no events up to position 0"):
        training_set.build(lake, world, tmp_path, 0)


def test_what_models_read_is_what_was_written(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    from models.learning.dataset import TrainingSet

    training_set.build(lake, world, tmp_path, lake.watermark())
    loaded = TrainingSet.load(tmp_path)
    assert loaded.positions.tolist() == [1, 2, 6, 4, 9, 10]
    assert loaded.catalogue.item_ids == ("i1", "i2", "i3")
    assert loaded.times.max() == 3 * DAY
