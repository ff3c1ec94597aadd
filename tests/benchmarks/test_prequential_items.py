"""Decayed sums at many moments of a stream at once, held to the item profile that serving keeps event by event."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY, HOUR
from attune.events import Interaction, LoggedEvent
from attune.item_profile import ItemProfile
from benchmarks.prequential import ItemMeasures, prequential, warm_up
from benchmarks.replay_arms import DecayedSums, LiveHistory, LiveItemProfile, LiveProfile
from benchmarks.replay_grid import OnlineGrid, search_grid
from benchmarks.replay_stream import StreamState, windows
from evaluation.gates.variety import genre_vectors, self_information
from models.hybrid import Hybrid
from models.learning.dataset import BEFORE_ALL, TrainingSet

ITEMS = ["x", "y", "z"]
EVENT = st.tuples(
    st.integers(0, 60),
    st.sampled_from("ab"),
    st.sampled_from(ITEMS),
    st.sampled_from([("like", None), ("dislike", None), ("rating", 4.0), ("rating", 3.0), ("impression", None)]),
)


@given(
    events=st.lists(EVENT, min_size=1, max_size=40),
    half_life=st.sampled_from([0.25, 1.0, 30.0]),
    size=st.integers(1, 50),
    asked=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_a_replay_says_what_serving_says(
    make_training_set: Callable, events: list[tuple], half_life: float, size: int, asked: list[float]
) -> None:
    rows = [
        (place, user, item, kind, value, hours * HOUR)
        for place, (hours, user, item, (kind, value)) in enumerate(sorted(events), start=1)
    ]
    stream = make_training_set(rows, ITEMS)
    replayed = LiveProfile(len(ITEMS), half_life)
    for window in windows(stream, BEFORE_ALL, 10**18, size):
        replayed.open(window)
        first, last = int(window.times[0]), int(window.times[-1])
        moments = np.array([first + int(share * (last - first)) for share in asked])
        for moment, scores_N in zip(moments, replayed.scores(moments, 20.0), strict=True):
            served = ItemProfile(half_life=int(half_life * DAY), prior=20.0)
            served.fold(_logged(row) for row in rows if row[5] < moment)
            np.testing.assert_allclose(scores_N, served.scores(ITEMS, int(moment)), atol=6e-4)
        replayed.close()


def _logged(row: tuple) -> LoggedEvent:
    position, user, item, kind, value, time = row
    event = Interaction(
        event_id=f"e{position}", event_timestamp=time, user_id=user, item_id=item, kind=kind, value=value
    )
    return LoggedEvent(position=position, logged_at=time, event=event)


def test_long_silence_and_long_windows_leave_the_range_of_floats_to_nobody() -> None:
    sums = DecayedSums(1, 2, half_life_days=0.25)
    for start in (0, 400 * 365 * DAY):
        times = np.array([start, start + 59 * DAY])
        sums.open(times, np.array([0, 1]), np.ones((1, 2)))
        (sums_BN,), scale_B = sums.at(np.array([start + 1, start + 60 * DAY]))
        decayed_BN = sums_BN / scale_B[:, None]
        assert decayed_BN[0, 0] == pytest.approx(1.0, abs=1e-6)
        assert decayed_BN[1, 1] == pytest.approx(0.5**4)
        assert decayed_BN[0, 1] == 0.0
        sums.close()
    with pytest.raises(ValueError, match="too short"):
        DecayedSums(1, 2, half_life_days=0.01)


def hits_of_the_hour(make_training_set: Callable) -> tuple[TrainingSet, int]:
    """Each hour another item is liked by everybody who comes; nobody comes twice in an hour, and nothing else tells."""
    names = [f"i{place:03d}" for place in range(120)]
    random, rows, position = np.random.default_rng(1), [], 0
    for hour in range(60):
        for turn in range(24):
            position += 1
            item = names[hour + 60] if turn < 16 else names[int(random.integers(60))]
            person = f"p{(hour * 5 + turn * 7) % 61:02d}"
            rows.append((position, person, item, "like", None, hour * HOUR + turn * 60_000_000))
    return make_training_set(rows, names), 30 * HOUR - 1


def test_a_hit_that_only_the_item_profile_can_know(make_training_set: Callable, make_hybrid: Callable) -> None:
    stream, cut = hits_of_the_hour(make_training_set)
    hybrid = make_hybrid(stream, cut)
    with_items = replace(hybrid, live=5.0)
    arms = [LiveHistory(hybrid), LiveItemProfile(with_items, LiveProfile(120, 0.1), prior=5.0)]
    state = StreamState(len(stream.user_ids), stream.catalogue)
    warm_up(state, arms, windows(stream, BEFORE_ALL, cut, 40))
    measures = ItemMeasures(self_information(stream), genre_vectors(stream.catalogue))
    live, with_profile = prequential(state, arms, windows(stream, cut, 10**18, 40), measures)
    assert with_profile.times(live, "hr@10").low > 1.5
    assert with_profile.interval("hr@10").value > 0.5


def test_what_is_felt_is_chosen_where_it_helps(make_training_set: Callable, make_hybrid: Callable) -> None:
    """In that world: a short state and much weight; the objective of all that was tried is told."""
    stream, cut = hits_of_the_hour(make_training_set)
    hybrid: Hybrid = make_hybrid(stream, cut)
    grid = OnlineGrid(half_lives=(30.0, 0.25), profile_weights=(0.01, 1.0), priors=(5.0,), steps=(0.1,))
    state = StreamState(len(stream.user_ids), stream.catalogue)
    online = search_grid(hybrid, state, windows(stream, BEFORE_ALL, cut), windows(stream, cut, 10**18), grid)
    assert (online.profile.half_life_days, online.profile.weight) == (0.25, 1.0)
    of_profiles = [one["objective"] for one in online.tried if one["what"] == "item profile"]
    assert max(of_profiles) > 2 * online.alone > 0
    assert len(online.tried) == 1 + len(grid.preferences()) + len(grid.profiles()) + len(grid.popularity_days)
    assert state.events_U.sum() == len(stream)
