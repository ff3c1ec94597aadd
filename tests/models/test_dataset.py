"""Groups, histories and seen items against a reference that loops; training batches never see their own moment."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY
from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import DataContractError
from attune.event_types import KINDS, reward
from models.history import KIND_INDEX
from models.learning.batches import Sequences, pieces, target_weights, training_batches
from models.learning.dataset import (
    BEFORE_ALL,
    TrainingSet,
    groups,
    histories,
    is_panel,
    seen,
    share_upto,
    split_windows,
)

KIND_NAMES = ("like", "dislike", "view", "impression")

event_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from(KIND_NAMES), st.integers(0, 6)),
    min_size=1,
    max_size=40,
)


def frames(rows: list[tuple[int, int, str, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    events = pd.DataFrame(
        [(f"u{user}", f"i{item}", kind, 1_000_000 * time) for user, item, kind, time in rows],
        columns=["user_id", "item_id", "kind", "event_timestamp"],
    )
    events["position"] = np.arange(1, len(events) + 1)
    events["reward"] = [reward(kind) for kind in events.kind]
    for place, name in enumerate(USER_STATS + ITEM_STATS):
        events[name] = events.position * 10.0 + place
    items = pd.DataFrame({"item_id": [f"i{item}" for item in range(6)], "title": "", "year": np.nan})
    items["genres"] = [[] for _ in range(6)]
    for place, name in enumerate(ITEM_STATS):
        items[name] = [1000.0 * item + place for item in range(6)]
    return events, items


def built(rows: list[tuple[int, int, str, int]]) -> tuple[TrainingSet, pd.DataFrame]:
    events, items = frames(rows)
    return TrainingSet.from_frames(events, items, {}), events


@settings(max_examples=25, deadline=None)
@given(event_rows, st.integers(-1, 6), st.integers(-1, 7))
def test_groups_are_the_events_of_one_user_at_one_moment(rows, after, upto):
    training_set, events = built(rows)
    asked = groups(training_set, 1_000_000 * after, 1_000_000 * upto)
    inside = events[(events.event_timestamp > 1_000_000 * after) & (events.event_timestamp <= 1_000_000 * upto)]
    expected = {key: list(part.position) for key, part in inside.groupby(["user_id", "event_timestamp"])}
    found = {
        (training_set.user_ids[asked.users[place]], asked.moments[place]): list(
            training_set.positions[asked.rows.values[asked.rows.row_of_value() == place]]
        )
        for place in range(len(asked))
    }
    assert found == expected
    assert (np.diff(asked.moments) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(event_rows, st.integers(1, 8))
def test_histories_and_seen_are_what_came_strictly_before(rows, limit):
    training_set, events = built(rows)
    asked = groups(training_set, BEFORE_ALL, 10**12)
    batch, known = histories(training_set, asked, limit), seen(training_set, asked)
    for place in range(len(asked)):
        user, moment = training_set.user_ids[asked.users[place]], asked.moments[place]
        before = events[(events.user_id == user) & (events.event_timestamp < moment)]
        before = before.sort_values(["event_timestamp", "position"])
        latest = before.tail(limit)
        there = batch.items_BL[place] > 0
        assert list(batch.items_BL[place][there]) == [int(item[1:]) + 1 for item in latest.item_id]
        assert list(batch.kinds_BL[place][there]) == [KIND_INDEX[kind] for kind in latest.kind]
        assert list(batch.times_BL[place][there]) == list(latest.event_timestamp)
        assert (np.diff(there.astype(int)) >= 0).all(), "padding stands on the left"
        assert (batch.rewards_BL[place][~there] == 0.5).all()
        np.testing.assert_array_equal(
            batch.item_stats_BLF[place][there].reshape(-1),
            [1000.0 * int(item[1:]) + column for item in latest.item_id for column in range(4)],
        )
        used = [int(i[1:]) for i, kind in zip(before.item_id, before.kind, strict=True) if KINDS[kind].marks_seen]
        assert sorted(known.values[known.row_of_value() == place]) == sorted(used)
        assert batch.now_B[place] == moment


def test_histories_over_another_catalogue_leave_out_what_it_lacks():
    training_set, _ = built([(0, 1, "like", 0), (0, 2, "like", 1), (0, 3, "like", 2), (0, 4, "like", 3)])
    other = built([(0, 3, "like", 0)])[0].catalogue
    kept = type(other)(("i3", "i1"), ("", ""), ((), ()), (None, None), np.ones((2, 4), np.float32))
    last = groups(training_set, 2_000_000, 3_000_000)
    assert histories(training_set, last, catalogue=kept).items_BL.tolist() == [[0, 2, 1]]
    assert seen(training_set, last, kept).values.tolist() == [1, 0]


def test_training_takes_the_statistics_of_the_event_and_serving_those_of_the_catalogue():
    training_set, _ = built([(0, 1, "like", 0), (0, 2, "like", 1)])
    last = groups(training_set, 0, 1_000_000)
    assert histories(training_set, last, stats_of_events=True).item_stats_BLF[0, 0].tolist() == [14, 15, 16, 17]
    assert histories(training_set, last).item_stats_BLF[0, 0].tolist() == [1000, 1001, 1002, 1003]
    assert last.user_stats_GF[0].tolist() == [20, 21, 22, 23]


def test_a_cut_forgets_what_the_catalogue_learned_later():
    training_set, _ = built([(0, 1, "like", 0), (0, 1, "like", 1), (0, 2, "like", 2)])
    cut = training_set.upto(1_000_000)
    assert len(cut) == 2
    assert cut.catalogue.stats_NF[1].tolist() == [24, 25, 26, 27]
    assert np.isnan(cut.catalogue.stats_NF[2]).all()
    assert training_set.upto(2_000_000) is training_set


def test_a_folder_is_read_back(tmp_path: Path):
    events, items = frames([(0, 1, "like", 1), (1, 2, "view", 0)])
    events.to_parquet(tmp_path / "events.parquet")
    items.to_parquet(tmp_path / "items.parquet")
    told = pd.DataFrame({"whose": ["user"], "id": ["u1"], "attribute": ["country"], "value": ["AT"]})
    told.to_parquet(tmp_path / "traits.parquet")
    (tmp_path / "window.json").write_text('{"last_position": 2}')
    loaded = TrainingSet.load(tmp_path)
    assert loaded.positions.tolist() == [2, 1]
    assert loaded.window == {"last_position": 2}
    assert loaded.traits.empty, "only a judgement needs them"
    assert TrainingSet.load(tmp_path, with_traits=True).traits.astype(object).equals(told)
    assert loaded.catalogue.genres[0] == ()
    assert loaded.catalogue.years[0] is None


def test_what_is_no_training_set_is_refused_with_advice(tmp_path: Path):
    with pytest.raises(DataContractError, match="build it again"):
        TrainingSet.load(tmp_path)
    events, items = frames([(0, 1, "like", 1)])
    with pytest.raises(DataContractError, match="lack the columns"):
        TrainingSet.from_frames(events.drop(columns="reward"), items, {})
    with pytest.raises(DataContractError, match="no row in items"):
        TrainingSet.from_frames(events, items[items.item_id != "i1"], {})
    with pytest.raises(DataContractError, match="without events"):
        TrainingSet.from_frames(events[:0], items, {})
    with pytest.raises(DataContractError, match=r"1 of 1 rewards are no number from 0 to 1, .* user 'u0': nan"):
        TrainingSet.from_frames(events.assign(reward=np.nan), items, {})


@settings(max_examples=25, deadline=None)
@given(event_rows, st.integers(1, 12), st.integers(0, 5))
def test_a_question_is_asked_from_the_last_place_strictly_before_its_moment(rows, context, seed):
    training_set, _ = built(rows)
    sequences = Sequences.of(training_set, 0.5)
    order = training_set.by_user
    users, times = training_set.users[order], training_set.times[order]
    cut = pieces(sequences, context, np.random.default_rng(seed))
    assert sorted(np.concatenate([np.arange(a, b) for a, b in cut])) == list(range(len(rows))), "each event once"
    assert ((cut[:, 1] - cut[:, 0]) <= context).all()
    answered = set()
    for begin, end in cut:
        batch = next(training_batches(sequences, np.array([[begin, end]]), context, 1, torch.device("cpu")))
        places = np.arange(begin, end)
        asked = [e for e in range(begin, end + 1) if e < len(rows) and users[e] == users[begin]]
        expected = []
        for event in asked:
            before = [p for p in range(len(rows)) if users[p] == users[event] and times[p] < times[event]]
            if not before:
                expected.append((training_set.items[order[event]], -1))
                answered.add(event)
            elif max(before) >= begin:
                expected.append((training_set.items[order[event]], max(before) - places[0]))
                answered.add(event)
        found = list(zip(batch.targets_Q.tolist(), batch.from_Q.tolist(), strict=True))
        assert found == expected


def test_nothing_that_says_no_is_to_be_foreseen():
    kinds = np.array(
        [KIND_INDEX[name] for name in ("like", "dislike", "hide", "skip", "impression", "rating", "rating")]
    )
    weights = target_weights(kinds, np.array([1.0, 0.0, 0.0, 0.25, 0.5, 0.0, 1.0], np.float32), 0.5)
    assert weights[0] > 0.5
    assert weights[1:5].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(weights[5:], [0.5, 1.0])


def test_the_panel_is_a_fixed_tenth():
    ids = [f"user-{number}" for number in range(20_000)]
    found = is_panel(ids)
    assert 0.09 < found.mean() < 0.11
    assert (is_panel(ids[::-1])[::-1] == found).all()
    of_thirty = np.flatnonzero(is_panel([str(number) for number in range(30)])).tolist()
    assert of_thirty == [3, 10, 13, 18, 28], "the panel may never change: every model was trained without it"


def test_events_that_share_a_moment_stay_together_and_what_cannot_be_split_is_said():
    days = np.repeat(np.arange(5), [40, 30, 10, 15, 5]) * DAY
    windows = split_windows(np.random.default_rng(0).permutation(days))
    assert (windows.train_upto, windows.validate_upto, windows.upto) == (2 * DAY, 3 * DAY, 4 * DAY)
    windows = split_windows(np.repeat(np.arange(3), [10, 10, 500]))
    assert (windows.train_upto, windows.validate_upto, windows.upto) == (0, 1, 2)
    with pytest.raises(DataContractError, match="100 events lie at 2 different event times, and 3 are needed"):
        split_windows(np.repeat([0, DAY], 50))
    with pytest.raises(DataContractError, match="30 new events lie at one event time and cannot be split"):
        share_upto(np.full(30, DAY), 0.7)
    assert share_upto(days, 0.7) == DAY
