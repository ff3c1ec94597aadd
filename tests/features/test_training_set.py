import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from attune.clock import DAY, HOUR, MINUTE, SECOND, Clock
from attune.columns import ITEM_STATS, TRAIT_COLUMNS, USER_STATS
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Feedback, Interaction, Item, Shown, Slate, User
from attune.group_commit import GroupCommit
from attune.influence import NEWCOMER
from attune.settings import Settings
from features import stats, training_set
from features.feature_store import FeatureStore
from features.importer import import_source
from features.labels import BURST, OUT_OF_RANGE, Terms, labels, that_counts
from features.lake import BEHAVIOUR, Lake
from features.sources import movielens, tabular
from models.baselines import Popularity
from models.learning.dataset import TrainingSet

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
    events = lake.events(types=BEHAVIOUR).to_pandas()
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
    assert events["item_events"].fillna(-1).tolist() == [-1, -1, -1, -1, -1, 2 * NEWCOMER]
    assert built.rows == 6


def test_a_source_in_memory_becomes_what_its_import_becomes(
    settings: Settings, log: EventLog, lake: Lake, tmp_path: Path
) -> None:
    rng, rows = np.random.default_rng(0), 600
    frame = pd.DataFrame({
        "user_id": rng.integers(0, 40, rows), "item_id": rng.integers(0, 30, rows), "value": rng.integers(1, 6, rows),
        "event_timestamp": rng.integers(0, 200, rows) * HOUR // SECOND + rng.integers(-1, 2, rows) + 1_600_000_000,
    })  # fmt: skip
    items = pd.DataFrame(
        {"item_id": range(35), "title": [f"Film {n}" for n in range(35)], "genres": "A|B", "colour": 1}
    )
    source = tabular.read(frame, items, kind="rating")
    import_source(log, source, lambda: 2_000_000_000 * SECOND, "a frame")
    lake.ingest(log)
    store = FeatureStore(settings)
    store.apply()
    theirs = training_set.build(lake, store, tmp_path / "theirs", lake.watermark())
    ours = training_set.build_in_memory(source, tmp_path / "ours")
    assert (ours.rows, ours.window["users"], ours.window["items"]) == (rows, 40, 35) == (theirs.rows, 40, 35)
    for name in ("events", "items", "traits"):
        left, right = (pd.read_parquet(tmp_path / part / f"{name}.parquet") for part in ("ours", "theirs"))
        first = right["position"].min() - 1 if name == "events" else 0
        pd.testing.assert_frame_equal(left, right.assign(position=right["position"] - first) if first else right)
    events = pd.read_parquet(tmp_path / "ours" / "events.parquet")
    assert events[list(EVENT_FEATURES)].notna().any().all()


def test_items_carry_their_statistics_at_the_windows_end(world: FeatureStore, lake: Lake, tmp_path: Path) -> None:
    training_set.build(lake, world, tmp_path, lake.watermark())
    items = pd.read_parquet(tmp_path / "items.parquet").set_index("item_id")
    assert items.index.tolist() == ["i1", "i2", "i3"]
    assert items["title"].tolist() == ["One", "", ""]
    assert items["genres"].map(list).tolist() == [["A"], [], []]
    assert items["item_events"].tolist() == [2 * NEWCOMER, NEWCOMER, 2 * NEWCOMER]
    assert json.loads(items["attributes"]["i1"]) == {"title": "One", "genres": ["A"], "k": 1}
    assert items["item_days_known"].tolist() == pytest.approx([(DAY - 10 * SECOND) / DAY, 3 - 20 / 86_400, 1.0])


def test_what_items_and_users_are_goes_along(world: FeatureStore, log: EventLog, lake: Lake, tmp_path: Path) -> None:
    told = [("u", {"country": "DE", "zip": None}), ("nobody", {"country": "FR"}), ("u", {"country": "AT"})]
    log.append([User(event_id=f"p{n}", event_timestamp=0, user_id=u, attributes=a) for n, (u, a) in enumerate(told)])
    lake.ingest(log)
    training_set.build(lake, world, tmp_path, lake.watermark())
    read = TrainingSet.load(tmp_path, with_traits=True).traits
    assert read.astype(object).to_numpy().tolist() == [["item", "i1", "k", "1"], ["user", "u", "country", "AT"]]
    assert TrainingSet.load(tmp_path).traits.empty
    training_set.build(lake, world, tmp_path, lake.watermark() - 1)
    read = TrainingSet.load(tmp_path, with_traits=True).traits
    assert read["value"].tolist() == ["1", "DE"], "as it was known then"


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
        "left_out": {OUT_OF_RANGE: 0, BURST: 0},
    }  # fmt: skip
    assert len(first.window["digest"]) == 64
    for name in ("events.parquet", "items.parquet", "traits.parquet"):
        digests = [hashlib.sha256((tmp_path / part / name).read_bytes()).digest() for part in "ab"]
        assert digests[0] == digests[1]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "events.parquet",
        "items.parquet",
        "traits.parquet",
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
        everything = lake.events(types=BEHAVIOUR).to_pandas()
        store.write_stats(stats.user_stats(everything), stats.item_stats(everything))
        store.materialize_all(lambda: 40 * DAY)
        built[name] = training_set.build(lake, store, tmp_path / name, 60)
    assert built["before"].window == built["after"].window
    for file in ("events.parquet", "items.parquet"):
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes()
    online = store.online("u0")[1]
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
    training_set.build(lake, world, tmp_path, lake.watermark())
    loaded = TrainingSet.load(tmp_path)
    assert loaded.positions.tolist() == [1, 2, 6, 4, 9, 10]
    assert loaded.catalogue.item_ids == ("i1", "i2", "i3")
    assert loaded.times.max() == 3 * DAY


MOST = Terms().most_a_minute
BOTS_MINUTE = 10 * HOUR


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """Definitions without rows: a training set counts its own."""
    applied = FeatureStore(settings)
    applied.apply()
    return applied


def bots_slates(count: int, items: tuple[str, ...]) -> list[Slate]:
    shown = [Shown(item, 1.0, 0.5) for item in items]
    return [
        Slate(
            event_id=f"s{number}", event_timestamp=BOTS_MINUTE, user_id="bot", model_version="1", served_by="champion",
            policy={}, shown=shown, candidates=[], context={}, state_position=0,
        )
        for number in range(count)
    ]  # fmt: skip


def react(
    number: int, item: str, at: int = BOTS_MINUTE, kind: str = "like", slate_id: str = "s0", user: str = "bot",
    value: float | None = None, retracts: str | None = None,
) -> Feedback:  # fmt: skip
    return Feedback(
        event_id=f"f{number}", event_timestamp=at, user_id=user, item_id=item, kind=kind, slate_id=slate_id,
        value=value, retracts=retracts,
    )  # fmt: skip


def popularity(folder: Path) -> dict[str, float]:
    """The people who like each item, from the scaled weights; nothing fades within the test's days."""
    loaded = TrainingSet.load(folder)
    weights_N = Popularity.fit(loaded, half_life_days=1e9).weights_N
    likes = max(len(np.unique(loaded.users[loaded.items == item])) for item in range(len(loaded.catalogue)))
    return dict(zip(loaded.catalogue.item_ids, (weights_N * likes).round(2).tolist(), strict=True))


def test_a_bots_likes_weigh_no_more_than_a_persons(
    store: FeatureStore, log: EventLog, lake: Lake, act: Act, tmp_path: Path
) -> None:
    """A hundred people like one item; a bot likes another 5,000 times within a minute, on 500 slates of ten."""
    people = [act(f"u{number}", "loved", number * 60, "like") for number in range(100)]
    items = ("pushed", *(f"i{number}" for number in range(9)))
    bot = [react(number, "pushed", BOTS_MINUTE + number, slate_id=f"s{number // 10}") for number in range(5_000)]
    later = [act("u1", "loved", 2 * DAY / SECOND, "like")]
    log.append([*people, *bots_slates(500, items), *bot, *later])
    lake.ingest(log)
    built = training_set.build(lake, store, tmp_path, lake.watermark())
    assert built.window["left_out"] == {OUT_OF_RANGE: 0, BURST: 5_000 - MOST}
    found = popularity(tmp_path)
    assert (found["loved"], found["pushed"]) == (100.0, 1.0)
    kept = pd.read_parquet(tmp_path / "items.parquet").set_index("item_id")
    assert kept["item_events"][["loved", "pushed"]].tolist() == [100 * NEWCOMER, NEWCOMER], "statistics count the same"
    events = pd.read_parquet(tmp_path / "events.parquet")
    aside = labels(lake).set_aside
    assert set(events["event_id"]).isdisjoint(aside.loc[aside["reason"] == BURST, "event_id"])
    assert built.rows + (aside["reason"] == BURST).sum() == len(people) + len(bot) + len(later)


def test_what_labels_set_aside_for_the_slates_sake_is_behaviour_all_the_same(
    store: FeatureStore, log: EventLog, lake: Lake, tmp_path: Path
) -> None:
    """An unknown slate, another user's, an item that it lacks: they stay. A reward that is none and a burst go."""
    log.append([
        *bots_slates(1, ("a", "b")),
        react(1, "a", slate_id="nowhere"), react(2, "b", user="v"), react(3, "z"),
        react(4, "a", kind="watch", value=1.5), react(5, "b"), react(6, "a", MINUTE), react(7, "a"),
        react(8, "b", kind="retract", retracts="f5"),
    ])  # fmt: skip
    lake.ingest(log)
    built = training_set.build(lake, store, tmp_path, lake.watermark(), Terms(most_a_minute=4))
    assert pd.read_parquet(tmp_path / "events.parquet")["event_id"].tolist() == ["f6", "f1", "f2", "f3"]
    assert built.window["left_out"] == {OUT_OF_RANGE: 1, BURST: 1}
    assert built.window["last_position"] == 9, "the window ends with what was looked at"
    counts = labels(lake, terms=Terms(most_a_minute=4)).counts
    assert {reason: counts[reason] for reason in (OUT_OF_RANGE, BURST)} == built.window["left_out"]


def test_a_burst_that_is_logged_later_and_dated_into_an_earlier_minute_changes_no_earlier_set(
    store: FeatureStore, log: EventLog, lake: Lake, tmp_path: Path
) -> None:
    terms, built = Terms(most_a_minute=4), {}
    first = [react(number, f"i{number}", BOTS_MINUTE + 30 * SECOND) for number in range(6)]
    late = [react(number, f"i{number}", BOTS_MINUTE) for number in range(6, 12)]
    for name, events in (("before", first), ("after", late)):
        log.append(events)
        lake.ingest(log)
        built[name] = training_set.build(lake, store, tmp_path / name, 6, terms)
    assert built["before"].window == built["after"].window
    assert (tmp_path / "before" / "events.parquet").read_bytes() == (tmp_path / "after" / "events.parquet").read_bytes()
    whole = training_set.build(lake, store, tmp_path / "whole", 12, terms)
    assert pd.read_parquet(tmp_path / "whole" / "events.parquet")["event_id"].tolist() == ["f0", "f1", "f2", "f3"]
    assert whole.window["left_out"][BURST] == 8, "those that were logged first count, whatever the late ones are dated"


def test_imported_history_is_kept_to_the_last_row_however_much_of_it_shares_a_minute(
    store: FeatureStore, log: EventLog, lake: Lake, clock: Clock, tmp_path: Path
) -> None:
    """MovieLens: people rate dozens of films within a minute, some more than sixty. On slates it would be a burst."""
    rows = 20_000
    report = import_source(log, movielens.read(), clock, "movielens", upto=rows)
    lake.ingest(log)
    built = training_set.build(lake, store, tmp_path, lake.watermark())
    imported = lake.events(types=BEHAVIOUR).to_pandas()
    assert report.accepted == built.rows == len(imported) == rows
    assert sum(built.window["left_out"].values()) == 0
    kept = pd.read_parquet(tmp_path / "events.parquet", columns=["position", "event_id"])
    assert sorted(kept.itertuples(index=False, name=None)) == list(
        imported[["position", "event_id"]].itertuples(index=False, name=None)
    )
    on_slates, left_out = that_counts(imported.assign(type="feedback"), Terms())
    assert left_out[BURST] == rows - len(on_slates) > 0


def test_every_value_is_a_trait_once_and_texts_are_none() -> None:
    attributes = {
        "language": "German", "colours": ["red", "blue", "red", None], "price": 3.5, "new": True, "gone": None,
        "words": "x" * (training_set.TRAIT_LETTERS + 1), "title": "One", "text": "two", "year": 1999, "genres": ["A"],
        "available": False, "a=b": "c=d", "empty": "", "nothing": [], "long": list(range(1_000)),
        "embedding": [0.5, -1.0, 2], "ones": [1.0, 0.0],
    }  # fmt: skip
    found = training_set.traits_table("item", ["i1", "i2"], [json.dumps(attributes), "{}"])
    assert tuple(found.column_names) == TRAIT_COLUMNS
    assert set(zip(*(found[name].to_pylist() for name in ("whose", "id")), strict=True)) == {("item", "i1")}
    words = list(zip(*(found[name].to_pylist() for name in ("attribute", "value")), strict=True))
    assert words[:6] == [
        ("language", "German"), ("colours", "red"), ("colours", "blue"), ("price", "3.5"), ("new", "true"),
        ("a=b", "c=d"),
    ]  # fmt: skip
    assert words[6:] == [("long", str(place)) for place in range(training_set.TRAIT_VALUES)]
    born = training_set.traits_table("user", ["u1"], ['{"year":1980,"title":"Dr"}'])
    assert born["attribute"].to_pylist() == ["year", "title"], "of users these are like any other"


def test_many_are_written_in_pieces(tmp_path: Path) -> None:
    count = training_set.TRAITS_CHUNK + 1
    items = pd.DataFrame({"item_id": [f"i{place}" for place in range(count)], "attributes": '{"maker":"acme"}'})
    users = pd.DataFrame({"user_id": ["u1"], "attributes": ['{"country":"AT"}']})
    training_set.write_traits(tmp_path / "traits.parquet", items, users)
    found = pq.read_table(tmp_path / "traits.parquet")
    assert found["id"].to_pylist() == [*items["item_id"], "u1"]
    training_set.write_traits(tmp_path / "none.parquet", items[:0], users[:0])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_burst_of_events_over_http_is_set_aside_and_an_import_is_whole(
    store: FeatureStore, log: EventLog, lake: Lake, act: Act, tmp_path: Path
) -> None:
    """A thousand likes by one account within a minute, by the endpoint's door and out of a file."""
    commit = GroupCommit(log)
    commit.start()
    commit.submit([act("script", f"i{number}", 60, "like") for number in range(1_000)]).result(10)
    commit.close()
    log.append([act("reader", f"i{number}", 60, "like") for number in range(1_000)])
    lake.ingest(log)
    built = training_set.build(lake, store, tmp_path, lake.watermark())
    assert built.window["left_out"] == {OUT_OF_RANGE: 0, BURST: 1_000 - MOST}
    users = pd.read_parquet(tmp_path / "events.parquet", columns=["user_id"])["user_id"].value_counts()
    assert users.to_dict() == {"reader": 1_000, "script": MOST}
    assert [entry.is_live for entry in log.read(999, 2)] == [True, False]
