"""The prequential replay against the replay over whole tables, and on worlds whose answer is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.prequential import NEW, OLD, SETTLED, ItemMeasures, Tally, prequential, warm_up
from benchmarks.replay_arms import (
    Arm,
    FrozenAtCut,
    LiveHistory,
    LivePopularity,
    Neighbours,
    RecentPopularity,
    served_scores,
)
from benchmarks.replay_stream import StreamQueryBatch, StreamState, WindowQueries, windows
from evaluation.gates.variety import genre_vectors, self_information
from evaluation.replay import replay
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.hybrid import Hybrid
from models.learning.dataset import BEFORE_ALL, TrainingSet

ITEMS = [f"i{place:02d}" for place in range(14)]
LAST = 10**9
EVENT = st.tuples(
    st.integers(1, 6),
    st.sampled_from("abc"),
    st.sampled_from(ITEMS),
    st.sampled_from(["like", "dislike", "impression"]),
)


@dataclass(frozen=True)
class Asks(Arm):
    """A recommender of the whole-table replay as an arm."""

    recommender: object
    name: str = "asks"

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        return self.recommender.scores(queries.histories).copy()


class Lists:
    """Keeps every list by arm, user and moment."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], list[int]] = {}

    def __call__(self, arm: str, queries: StreamQueryBatch, lists_BK: np.ndarray) -> None:
        for row, key in enumerate(zip(queries.users_B.tolist(), queries.histories.now_B.tolist(), strict=True)):
            assert (arm, *key) not in self.kept
            self.kept[arm, *key] = [place for place in lists_BK[row].tolist() if place >= 0]


def run(
    stream: TrainingSet, arms: Sequence[Arm], after: int, size: int = 4, listener: Lists | None = None, limit: int = 200
) -> list[Tally]:
    """The arms on everything after a moment."""
    state = StreamState(len(stream.user_ids), stream.catalogue, limit)
    warm_up(state, arms, windows(stream, BEFORE_ALL, after, size))
    measures = ItemMeasures(self_information(stream), genre_vectors(stream.catalogue))
    return prequential(state, arms, windows(stream, after, LAST, size), measures, listener, batch=3)


@given(
    events=st.lists(EVENT, min_size=1, max_size=40),
    after=st.integers(0, 5),
    size=st.integers(1, 50),
    levels=st.sampled_from([3, 1009]),
)
@settings(max_examples=60, deadline=None)
def test_windows_give_what_whole_tables_give(
    make_training_set: Callable, hashed: type, events: list[tuple], after: int, size: int, levels: int
) -> None:
    ordered = sorted(events, key=lambda event: event[0])
    rows = [(place, user, item, kind, None, time) for place, (time, user, item, kind) in enumerate(ordered, start=1)]
    stream = make_training_set(rows, ITEMS)
    scored, lists = hashed(len(ITEMS), levels), Lists()
    (tally,) = run(stream, [Asks(scored)], after, size, lists)
    expected = replay(scored, stream, after, LAST)
    known = {
        ("asks", int(np.flatnonzero(stream.user_ids == row.user_id)[0]), row.moment): [
            place for place in expected.lists_GK[number].tolist() if place >= 0
        ]
        for number, row in enumerate(expected.groups.itertuples())
    }
    assert lists.kept == known
    assert tally.events() == len(expected.events)
    assert tally.interval("hr@10").value * tally.events() == pytest.approx((expected.events["rank"] <= 10).sum())


@given(events=st.lists(EVENT, min_size=2, max_size=40), limit=st.integers(1, 5), size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_memory_keeps_the_latest_events_and_all_that_was_seen(
    make_training_set: Callable, events: list[tuple], limit: int, size: int
) -> None:
    ordered = sorted(events, key=lambda event: event[0])
    rows = [(place, user, item, kind, None, time) for place, (time, user, item, kind) in enumerate(ordered, start=1)]
    stream = make_training_set(rows, ITEMS)
    state = StreamState(len(stream.user_ids), stream.catalogue, limit)
    for window in windows(stream, BEFORE_ALL, LAST, size):
        state.append(window)
    for user, name in enumerate(stream.user_ids):
        own = [ITEMS.index(row[2]) for row in rows if row[1] == name]
        kept = state.items_UL[user][state.items_UL[user] > 0] - 1
        assert kept.tolist() == own[-limit:]
        used = {ITEMS.index(row[2]) for row in rows if row[1] == name and row[3] != "impression"}
        assert set(np.flatnonzero(state.seen(np.array([user]))[0])) == used
        assert state.events_U[user] == len(own)


def test_windows_part_no_moment_and_memory_refuses_one_that_does(make_training_set: Callable) -> None:
    rows = [(place, "a", ITEMS[place], "like", None, place // 3) for place in range(1, 13)]
    stream = make_training_set(rows, ITEMS)
    cut = list(windows(stream, BEFORE_ALL, LAST, size=2))
    assert [len(window) for window in cut] == [2, 3, 3, 3, 1]
    state = StreamState(1, stream.catalogue)
    state.append(stream.select(np.arange(4)))
    with pytest.raises(ValueError, match="part no moment"):
        state.append(stream.select(np.arange(4, 12)))


def test_a_window_over_other_items_is_refused(make_training_set: Callable) -> None:
    stream = make_training_set([(1, "a", "x", "like", None, 1)], ["x", "y"])
    state = StreamState(1, make_training_set([(1, "a", "x", "like", None, 1)], ["x", "z"]).catalogue)
    with pytest.raises(ValueError, match="another catalogue"):
        state.append(stream)


@given(events=st.lists(EVENT, min_size=4, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_nothing_of_a_moment_reaches_its_own_answers(
    make_training_set: Callable, events: list[tuple], seed: int
) -> None:
    """Whatever happens at the last moment, and to whom, the served_scores at that moment are the same."""
    ordered = sorted(events, key=lambda event: event[0])
    last = ordered[-1][0]
    random = np.random.default_rng(seed)
    other = [(t, user, str(random.choice(ITEMS)), kind) if t == last else (t, user, item, kind)
             for t, user, item, kind in ordered]  # fmt: skip
    streams = [
        make_training_set(
            [(place, user, item, kind, None, t) for place, (t, user, item, kind) in enumerate(version, start=1)], ITEMS
        )
        for version in (ordered, other)
    ]
    neighbours = Neighbours(ItemKnn.fit(streams[0], KnnChoice(5, 1.0, 5, 1.0, 0.5, 5)))  # the same ones for both
    answered = []
    for stream in streams:
        lists = Lists()
        run(stream, [RecentPopularity(LivePopularity(len(ITEMS), 1.0)), neighbours], 0, 5, lists)
        answered.append({key: shown for key, shown in lists.kept.items() if key[2] == last})
    shared = answered[0].keys() & answered[1].keys()
    assert all(answered[0][key] == answered[1][key] for key in shared)


def test_what_was_seen_never_comes_back(planted: TrainingSet, trained: Hybrid, cut: int) -> None:
    lists = Lists()
    run(planted, [LiveHistory(trained), FrozenAtCut(LiveHistory(trained), _memory(planted, cut))], cut, 64, lists)
    assert len(lists.kept) > 100
    for (_, user, moment), shown in lists.kept.items():
        own = (planted.users == user) & (planted.times < moment)
        assert not set(shown) & set(planted.items[own].tolist())


def _memory(stream: TrainingSet, upto: int) -> StreamState:
    state = StreamState(len(stream.user_ids), stream.catalogue)
    warm_up(state, [], windows(stream, BEFORE_ALL, upto))
    return state


def drifting(make_training_set: Callable) -> tuple[TrainingSet, int]:
    """A stream in which everybody's taste is one cluster before the cut and another after it."""
    names = [f"{cluster}{place:02d}" for cluster in "abcd" for place in range(40)]
    rows, position = [], 0
    for step in range(30):
        for person in range(40):
            position += 1
            cluster = "abcd"[(person + step // 15) % 4]
            rows.append(
                (position, f"p{person:02d}", f"{cluster}{(person + step * 3) % 40:02d}", "like", None, position)
            )
    return make_training_set(rows, names), 15 * 40


def test_live_histories_beat_frozen_ones_when_tastes_drift(make_training_set: Callable, make_hybrid: Callable) -> None:
    stream, cut = drifting(make_training_set)
    hybrid = make_hybrid(stream, int(stream.times.max()))
    live, frozen = run(stream, [LiveHistory(hybrid), FrozenAtCut(LiveHistory(hybrid), _memory(stream, cut))], cut, 50)
    times = live.times(frozen, "hr@10", SETTLED)
    assert times.low > 1.2, times
    assert live.events(SETTLED) == frozen.events(SETTLED) == live.events(OLD) > 0
    assert live.events(NEW) == 0


def test_an_arm_is_asked_as_the_pipeline_is(planted: TrainingSet, trained: Hybrid, cut: int) -> None:
    """Users without history get popularity; the others the hybrid's scores, row by row."""
    state = _memory(planted, cut)
    (window,) = windows(planted, cut, LAST, size=10**6)
    window_queries = WindowQueries(state, window)
    queries = window_queries.batch(0, len(window_queries))
    empty_B = queries.histories.items_BL[:, -1] == 0
    assert empty_B.any()
    assert not empty_B.all()
    scores_BN = served_scores(trained, queries.histories)
    np.testing.assert_array_equal(scores_BN[empty_B], trained.popularity.scores(queries.histories)[empty_B])
    rows = np.flatnonzero(~empty_B)
    np.testing.assert_allclose(scores_BN[rows], trained.scores(queries.histories.select(rows)), atol=1e-5)


def test_earlier_events_are_counted_beyond_what_is_remembered(make_training_set: Callable, hashed: type) -> None:
    rows = [(place, "a", ITEMS[place - 1], "like", None, place) for place in range(1, 13)]
    stream = make_training_set(rows, ITEMS)
    (tally,) = run(stream, [Asks(hashed(len(ITEMS)))], 4, size=3, limit=2)
    assert [tally.events(name) for name in ("0 events", "1-4 events", "5-19 events", "20+ events")] == [0, 1, 7, 0]


def test_popularity_of_the_moment_knows_what_was_used_a_moment_ago(make_training_set: Callable) -> None:
    rows = [
        (place, f"u{place}", ITEMS[0] if place < 10 else ITEMS[1], "like", None, place * 10**6)
        for place in range(1, 15)
    ]
    stream = make_training_set(rows, ITEMS)
    lists, popularity = Lists(), RecentPopularity(LivePopularity(len(ITEMS), 30.0))
    run(stream, [popularity], 9 * 10**6, 100, lists)
    shown = [lists.kept["recent popularity", user, moment * 10**6] for user, moment in _places(stream, range(10, 15))]
    assert all(one[0] == 0 for one in shown)
    assert [one.index(1) for one in shown][1:] == [1, 1, 1, 1]


def _places(stream: TrainingSet, moments: range) -> list[tuple[int, int]]:
    return [(int(stream.users[stream.times == moment * 10**6][0]), moment) for moment in moments]


def test_frozen_histories_stay_as_they_were(planted: TrainingSet, trained: Hybrid, cut: int) -> None:
    state = _memory(planted, cut)
    frozen = state.copy()
    warm_up(state, [], windows(planted, cut, LAST))
    before = _memory(planted, cut)
    users = np.arange(len(planted.user_ids))
    moments = np.full(len(users), LAST)
    np.testing.assert_array_equal(frozen.histories(users, moments).items_BL, before.histories(users, moments).items_BL)
    assert (state.events_U > frozen.events_U).any()
    assert frozen.catalogue is state.catalogue


@dataclass(frozen=True)
class Since(Arm):
    """Scores every item by how long ago its user's latest event was."""

    name: str = "since"

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        return np.repeat((queries.histories.now_B - queries.histories.times_BL[:, -1])[:, None], len(ITEMS), axis=1)


def test_a_frozen_arm_is_asked_as_of_the_cut_however_late_it_is(make_training_set: Callable) -> None:
    rows = [(place, "a", ITEMS[place - 1], "like", None, place * 10) for place in range(1, 13)]
    stream = make_training_set(rows, ITEMS)
    state = _memory(stream, 40)
    (window,) = windows(stream, 40, LAST)
    queries = WindowQueries(state, window).batch(0, 8)
    assert Since().scores(queries)[:, 0].tolist() == [10] * 8
    assert FrozenAtCut(Since(), state).scores(queries)[:, 0].tolist() == [0] * 8


def test_popularity_stands_in_where_nobody_has_a_history(planted: TrainingSet, trained: Hybrid) -> None:
    state = StreamState(len(planted.user_ids), planted.catalogue)
    batch = state.histories(np.arange(3), np.full(3, LAST))
    live_BN = np.zeros((3, len(planted.catalogue)), np.float32)
    live_BN[1, 5] = 1.0
    with_live = replace(trained, live=0.5)
    popular = Popularity(trained.popularity.weights_N, 1.0).scores(batch)
    popular[1, 5] += 0.5
    np.testing.assert_allclose(served_scores(with_live, batch, live_BN), popular)
