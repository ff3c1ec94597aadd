"""Replay against a reference that walks the events one group at a time."""

import math
from collections.abc import Callable
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.replay import replay
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.metrics import ranks, values

ITEMS = [f"i{place:02d}" for place in range(14)]
EVENT = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(ITEMS),
    st.sampled_from(["like", "dislike", "impression"]),
    st.integers(1, 6),
)


def _rows(events: list[tuple[str, str, str, int]]) -> list[tuple]:
    return [(place, user, item, kind, None, time) for place, (user, item, kind, time) in enumerate(events, start=1)]


def _reference(rows: list[tuple], after: int, scores_of: Callable[[int], list[float]]) -> tuple[dict, dict, int]:
    """Ranks by position, lists by (time, user), repeats: one group after another, nothing vectorised."""
    ranks: dict[int, float] = {}
    lists: dict[tuple[int, str], list[int]] = {}
    repeated = 0
    past: dict[str, list[tuple]] = {}
    for (time, user), group in groupby(sorted(rows, key=lambda r: (r[5], r[1], r[0])), key=lambda r: (r[5], r[1])):
        events = list(group)
        known = past.get(user, [])
        seen = {ITEMS.index(row[2]) for row in known if row[3] != "impression"}
        state = sum(
            (ITEMS.index(row[2]) + 1) * 31 + {"like": 4, "dislike": 5, "impression": 1}[row[3]] * 7 for row in known
        )
        scores = scores_of(state)
        order = sorted(set(range(len(ITEMS))) - seen, key=lambda place: (-scores[place], place))
        for row in reversed(events):  # of an item the latest event counts
            item = ITEMS.index(row[2])
            if row[5] <= after or row[3] == "impression":
                continue
            if item not in order or (item in [ITEMS.index(r[2]) for r in events if r[0] in ranks]):
                repeated += 1
                continue
            ranks[row[0]] = order.index(item) + 1
            lists[time, user] = order[:10]
        past[user] = known + events
    return ranks, lists, repeated


@settings(max_examples=60)
@given(st.lists(EVENT, min_size=1, max_size=40), st.integers(0, 6), st.integers(1, 5))
def test_ranks_lists_and_counts_equal_the_reference(
    make_training_set, hashed, events: list[tuple[str, str, str, int]], after: int, batch: int
) -> None:
    rows, model = _rows(events), hashed(len(ITEMS))

    def scores_of(state: int) -> list[float]:
        return [(state * 7919 + place * 104729) % 1009 % 7 for place in range(len(ITEMS))]

    ranks, lists, repeated = _reference(rows, after, scores_of)
    found = replay(model, make_training_set(rows, ITEMS), after, 10**12, batch)
    assert dict(zip(found.events.position, found.events["rank"], strict=True)) == ranks
    assert found.repeated == repeated
    shown = {
        (row.moment, row.user_id): [int(item) for item in best if item >= 0]
        for row, best in zip(found.groups.itertuples(), found.lists_GK, strict=True)
    }
    assert shown == lists


def test_no_event_of_a_moment_helps_to_rank_another_of_it(make_training_set) -> None:
    lengths: list[int] = []

    class Watching:
        name = "watching"

        def scores(self, batch: HistoryBatch) -> np.ndarray:
            lengths.extend((batch.items_BL > 0).sum(axis=1).tolist())
            return np.zeros((len(batch), 4), np.float32)

    rows = [(1, "a", "i0", "like", None, 5), (2, "a", "i1", "like", None, 5), (3, "a", "i2", "like", None, 6)]
    replay(Watching(), make_training_set(rows, ["i0", "i1", "i2", "i3"]), 0, 6)
    assert lengths == [0, 2]


def test_a_target_outside_the_catalogue_is_a_miss_and_a_target_of_the_past_is_left_out(make_training_set) -> None:
    rows = [
        (1, "a", "old", "like", None, 1),
        (2, "a", "old", "like", None, 2),
        (3, "a", "new", "like", None, 3),
        (4, "a", "other", "like", None, 4),
    ]
    training_set = make_training_set(rows, ["new", "old", "other"])
    small = Catalogue(("other", "old"), ("", ""), ((), ()), (None, None), np.full((2, 4), np.nan, np.float32))

    class Zero:
        name = "zero"

        def scores(self, batch: HistoryBatch) -> np.ndarray:
            return np.zeros((len(batch), 2), np.float32)

    found = replay(Zero(), training_set, 1, 4, catalogue=small)
    assert found.repeated == 1
    assert found.unknown == 1
    assert found.events["rank"].tolist() == [math.inf, 1.0]
    assert values(found, "ndcg@10")[1].tolist() == [0.0, 1.0]
    assert found.catalogue_size == 2


def test_a_stretch_without_events_is_empty(make_training_set, fixed_scores) -> None:
    training_set = make_training_set([(1, "a", "x", "like", None, 1)])
    found = replay(fixed_scores([1.0]), training_set, 1, 1)
    assert len(found.events) == len(found.groups) == len(found.lists_GK) == 0


def test_hits_of_events_and_groups_agree_when_every_group_has_one_target(make_training_set, hashed) -> None:
    rng = np.random.default_rng(0)
    rows = [(p, f"u{rng.integers(5)}", f"i{rng.integers(30):02d}", "like", None, p) for p in range(1, 200)]
    training_set = make_training_set(rows)
    found = replay(hashed(len(training_set.catalogue), levels=3), training_set, 20, 199)
    assert values(found, "hr@10")[1].mean() == pytest.approx(values(found, "recall@10")[1].mean())


def test_a_score_that_is_no_number_is_a_miss() -> None:
    scores_BN = np.array([[np.nan, 0.5, 0.1], [0.2, np.nan, 0.1]])
    assert ranks(scores_BN, np.array([0, 0, 1]), np.array([0, 1, 0])).tolist() == [np.inf, 1.0, 1.0]
