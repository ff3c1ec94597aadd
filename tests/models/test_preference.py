"""A user's vector: moved towards what was liked and away from what was disliked, from every start, and no further."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import DAY
from attune.events import Interaction, LoggedEvent
from attune.user_state import UserState, fold
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.ranking.preference import Preference, fading, preference_vectors, unit_rows
from models.recommender import histories_from_states

COUNT, WIDTH = 12, 5
ITEMS_ND = unit_rows(np.random.default_rng(0).normal(size=(COUNT, WIDTH)))
NAMES = tuple(f"i{place:02d}" for place in range(COUNT))
CATALOGUE = Catalogue(NAMES, ("",) * COUNT, ((),) * COUNT, (None,) * COUNT, np.zeros((COUNT, 4), np.float32))
NOW = 1_000 * DAY
FAR = 1e-6
"""What rounding to float32 may do to a vector within the unit ball."""

EVENT = st.tuples(st.integers(0, COUNT), st.floats(0, 1, width=32))
HISTORY = st.lists(EVENT, max_size=60)
STEP = st.floats(0.01, 0.99)
Event = tuple[int, float]


def vector(events: Sequence[Event], step: float, before: int = 0) -> np.ndarray:
    """The vector after (item + 1, reward), with so many places of padding before."""
    items_1L = np.array([[0] * before + [item for item, _ in events]], np.int64)
    rewards_1L = np.array([[0.5] * before + [reward for _, reward in events]], np.float32)
    return preference_vectors(items_1L, rewards_1L, ITEMS_ND, step)[0]


def by_definition(events: Sequence[Event], step: float) -> np.ndarray:
    u_D = np.zeros(WIDTH)
    for item, reward in events:
        if item:
            centred = 2 * reward - 1
            u_D = u_D + step * abs(centred) * (np.sign(centred) * ITEMS_ND[item - 1].astype(np.float64) - u_D)
    return u_D


@given(HISTORY, STEP)
def test_the_vector_is_that_of_the_definition_and_never_leaves_the_unit_ball(events: list[Event], step: float) -> None:
    u_D = vector(events, step)
    assert u_D.dtype == np.float32
    assert np.isfinite(u_D).all()
    assert np.linalg.norm(u_D) <= 1 + FAR
    np.testing.assert_allclose(u_D, by_definition(events, step), atol=FAR)


@given(st.lists(HISTORY, min_size=1, max_size=8), STEP)
def test_a_batch_gives_what_each_user_gives_alone(histories: list[list[Event]], step: float) -> None:
    length = max(1, *map(len, histories)) if len(histories) > 1 else max(1, len(histories[0]))
    items_BL = np.zeros((len(histories), length), np.int64)
    rewards_BL = np.full((len(histories), length), 0.5, np.float32)
    for row, events in enumerate(histories):
        for place, (item, reward) in enumerate(events, start=length - len(events)):
            items_BL[row, place], rewards_BL[row, place] = item, reward
    together_BD = preference_vectors(items_BL, rewards_BL, ITEMS_ND, step)
    for u_D, events in zip(together_BD, histories, strict=True):
        np.testing.assert_allclose(u_D, vector(events, step, before=2), atol=FAR)


@given(HISTORY, st.integers(1, COUNT), STEP, st.floats(0, 0.5, exclude_max=True))
def test_a_hundred_dislikes_lead_away_from_the_item_and_never_back(
    events: list[Event], item: int, step: float, reward: float
) -> None:
    vectors = [by_definition([*events, *[(item, reward)] * times], step) for times in range(101)]
    after = vector([*events, *[(item, reward)] * 100], step)
    scores = np.array([u_D @ ITEMS_ND[item - 1] for u_D in vectors])
    cosines = np.array([score / max(np.linalg.norm(u_D), 1e-12) for score, u_D in zip(scores, vectors, strict=True)])
    assert scores[1] < scores[0] or scores[0] < -1 + FAR or step * (1 - 2 * reward) < FAR
    assert (np.diff(scores) <= FAR).all()
    lengths = np.linalg.norm(vectors, axis=1)
    assert (np.diff(cosines)[np.minimum(lengths[1:], lengths[:-1]) > FAR] <= FAR).all()
    np.testing.assert_allclose(after, vectors[-1], atol=FAR)


@given(st.integers(1, COUNT), st.integers(1, COUNT), STEP, st.integers(1, 30), st.booleans())
def test_from_the_item_itself_and_from_its_opposite_there_is_a_way_back(
    item: int, other: int, step: float, times: int, first: bool
) -> None:
    begun = [(item, float(first))] * times
    scores = [vector([*begun, *[(item, float(not first))] * more], step) @ ITEMS_ND[item - 1] for more in range(3)]
    away = -1 if first else 1
    assert np.sign(scores[0]) == -away
    assert away * scores[0] < away * scores[1] < away * scores[2] or abs(scores[1]) > 1 - 1e-4
    assert away * (vector([*begun, *[(item, float(not first))] * (times + 500)], step) @ ITEMS_ND[item - 1]) > 0.9


@given(HISTORY, st.integers(1, COUNT), STEP, st.floats(0.5, 1, exclude_min=True))
def test_a_like_leads_towards_the_item(events: list[Event], item: int, step: float, reward: float) -> None:
    before, after = (by_definition(more, step) @ ITEMS_ND[item - 1] for more in (events, [*events, (item, reward)]))
    assert after > before or before > 1 - FAR or step * (2 * reward - 1) < FAR


@given(HISTORY, st.integers(1, COUNT), st.integers(0, 60), STEP)
def test_what_says_nothing_moves_nothing(events: list[Event], item: int, place: int, step: float) -> None:
    silent = [*events[:place], (item, 0.5), (0, 1.0), *events[place:]]
    np.testing.assert_allclose(vector(silent, step), vector(events, step), atol=FAR)


def test_the_vector_of_somebody_new_is_zero_and_says_nothing() -> None:
    u_BD = preference_vectors(np.zeros((2, 3), np.int64), np.full((2, 3), 0.5, np.float32), ITEMS_ND, 0.3)
    assert (u_BD == 0).all()
    assert (u_BD @ ITEMS_ND.T == 0).all()
    assert preference_vectors(np.zeros((0, 1), np.int64), np.zeros((0, 1)), ITEMS_ND, 0.3).shape == (0, WIDTH)


LOGGED = st.lists(
    st.tuples(st.sampled_from((*NAMES, "unknown")), st.sampled_from(["like", "dislike", "view", "impression"])),
    min_size=1,
    max_size=30,
)


def history(rows: Sequence[tuple[int, int, str, str, int | None]]) -> HistoryBatch:
    """Of (position, time, item, kind, position that is taken back)."""
    events = [
        Interaction(
            event_id=f"e{position}",
            event_timestamp=time,
            user_id="u",
            item_id=item,
            kind=kind,
            retracts=None if back is None else f"e{back}",
        )
        for position, time, item, kind, back in rows
    ]
    logged = [LoggedEvent(row[0], 0, event) for row, event in zip(rows, events, strict=True)]
    return histories_from_states(CATALOGUE, [fold(UserState("u"), logged)], np.zeros((1, 4)), NOW)


@given(LOGGED, st.data(), st.sampled_from([None, 30.0]))
def test_what_was_taken_back_leaves_no_trace(events: list[tuple], data: st.DataObject, half_life: float | None) -> None:
    gone = data.draw(st.sets(st.integers(1, len(events))))
    rows = [(position, position, item, kind, None) for position, (item, kind) in enumerate(events, start=1)]
    backs = [(100 + position, 100 + position, rows[position - 1][2], "retract", position) for position in gone]
    preference = Preference(0.3, 1.0, half_life)
    found_1D = preference.vectors(history([*rows, *backs]), ITEMS_ND)
    never_1D = preference.vectors(history([row for row in rows if row[0] not in gone]), ITEMS_ND)
    assert found_1D.tolist() == never_1D.tolist()


@given(LOGGED, st.randoms())
def test_events_count_in_the_order_of_their_time_and_not_of_their_arrival(events: list[tuple], chance) -> None:
    times = list(range(len(events)))
    straight = [(place + 1, place, item, kind, None) for place, (item, kind) in enumerate(events)]
    chance.shuffle(times)
    shuffled = [(position, time, *events[time], None) for position, time in enumerate(times, start=1)]
    one_1D, two_1D = (Preference(0.3, 1.0).vectors(history(rows), ITEMS_ND) for rows in (straight, shuffled))
    assert one_1D.tolist() == two_1D.tolist()


def test_the_later_word_counts_more_and_items_that_the_model_lacks_count_nothing() -> None:
    rows = [(1, 1, "i01", "like", None), (2, 2, "i01", "dislike", None), (3, 3, "unknown", "like", None)]
    found_1D = Preference(0.25, 1.0).vectors(history(rows), ITEMS_ND)
    np.testing.assert_allclose(found_1D[0], -(0.25**2) * ITEMS_ND[1], atol=FAR)


def test_with_a_half_life_the_vector_fades() -> None:
    batch = history([(1, NOW - 30 * DAY, "i01", "like", None), (2, NOW - 10 * DAY, "i02", "like", None)])
    kept_1D, faded_1D = (Preference(0.5, 1.0, half).vectors(batch, ITEMS_ND) for half in (None, 10.0))
    np.testing.assert_allclose(kept_1D[0], 0.25 * ITEMS_ND[1] + 0.5 * ITEMS_ND[2], atol=FAR)
    np.testing.assert_allclose(faded_1D[0], 0.25 / 8 * ITEMS_ND[1] + 0.5 / 2 * ITEMS_ND[2], atol=FAR)
    later = replace(batch, now_B=batch.now_B + 10 * DAY)
    np.testing.assert_allclose(Preference(0.5, 1.0, 10.0).vectors(later, ITEMS_ND), faded_1D / 2, atol=FAR)
    assert fading(np.array([[0, 5]]), np.array([3]), 1.0)[0, 1] == 1.0


def test_rows_without_a_direction_become_zero() -> None:
    rows_ND = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0], [1e30, 0.0]], np.float32))
    np.testing.assert_allclose(rows_ND, [[0.6, 0.8], [0, 0], [0, 0], [1, 0]], atol=FAR)


def test_settings_come_back() -> None:
    for preference in (Preference(0.3, 0.5), Preference(0.2, 0.0, 14.0)):
        assert Preference(**json.loads(json.dumps(asdict(preference)))) == preference


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ((0.0, 1.0), "step"),
        ((1.0, 1.0), "step"),
        ((float("nan"), 1.0), "step"),
        ((0.3, -1.0), "weight"),
        ((0.3, float("inf")), "weight"),
        ((0.3, 1.0, 0.0), "half_life_days"),
    ],
)
def test_what_is_out_of_range_is_refused(settings: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Preference(*settings)
