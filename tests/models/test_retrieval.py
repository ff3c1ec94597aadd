"""Exact search: what is removed never takes a place, ties stand in catalogue order, every source has its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranking.retrieval import MIX, NEW, QUOTAS, gather, top_k, without

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
PARTS = ("sequence", "preference", "item-knn", "popularity")


def masked(scores: list[int], removed: list[int]) -> np.ndarray:
    return without(np.array(scores, np.float32), np.array(removed, np.int64))


@given(SCORES, st.integers(0, 40), st.data())
def test_equals_a_full_sort_without_the_removed(scores: list[int], k: int, data: st.DataObject) -> None:
    removed = data.draw(st.lists(st.integers(-1, len(scores) - 1), max_size=30))
    left = [place for place in range(len(scores)) if place not in removed]
    expected = sorted(left, key=lambda place: (-scores[place], place))[:k]
    assert top_k(masked(scores, removed), k).tolist() == expected


def test_k_come_back_when_the_best_are_all_removed() -> None:
    found = top_k(masked(list(range(1000)), list(range(100, 1000))), 10)
    assert found.tolist() == list(range(99, 89, -1))


def test_the_scores_are_not_touched() -> None:
    scores_N = np.ones(5, np.float32)
    gather(scores_N, {"sequence": scores_N}, 3, np.array([0, 1]))
    assert (scores_N == 1).all()


def world(size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(size)
    parts = {name: random.normal(size=size).astype(np.float32) for name in PARTS}
    return sum(parts.values()), parts  # type: ignore[return-value]


def test_every_source_names_its_best_and_the_mix_fills_up() -> None:
    mixed_N, parts = world(1_000)
    new = np.arange(900, 1_000)
    found = gather(mixed_N, parts, 100, np.zeros(0, np.int64), new)
    assert len(found.places_C) == len(set(found.places_C.tolist())) == 100
    assert (np.diff(mixed_N[found.places_C]) <= 0).all()
    held = set(found.places_C.tolist())
    for name, scores_N in parts.items():
        assert set(np.argsort(-scores_N)[: QUOTAS[name]].tolist()) <= held
    assert set(new[np.argsort(-mixed_N[new])[: QUOTAS[NEW]]].tolist()) <= held
    assert int(np.argmax(mixed_N)) == found.places_C[0]
    assert set(found.sources_C) == {*PARTS, NEW, MIX}


@pytest.mark.parametrize("depth", [1, 10, 30, 100])
def test_less_room_is_shared(depth: int) -> None:
    mixed_N, parts = world(500)
    found = gather(mixed_N, parts, depth, np.zeros(0, np.int64), np.arange(50))
    assert len(found.places_C) == depth


@given(st.integers(1, 60), st.integers(1, 80), st.data())
def test_what_is_removed_never_comes_back_and_all_else_may(size: int, depth: int, data: st.DataObject) -> None:
    mixed_N, parts = world(size)
    removed = np.array(data.draw(st.lists(st.integers(-1, size - 1), max_size=60)), np.int64)
    found = gather(mixed_N, parts, depth, removed, np.arange(0, size, 3))
    left = set(range(size)) - set(removed.tolist())
    assert set(found.places_C.tolist()) <= left
    assert len(found.places_C) == min(depth, len(left))
