"""Exact search: what is removed never takes a place, ties stand in catalogue order, every source has its share."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranking.retrieval import Candidates, gather, top_k, without
from models.sources import MIX, NEW, QUOTAS

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
PARTS = ("sequence", "preference", "item-knn", "popularity", "live")


def gathered(
    mixed_N: np.ndarray, parts: dict[str, np.ndarray], depth: int, removed: Sequence[int] = (), new: Sequence[int] = ()
) -> Candidates:
    """For one user."""
    rows = {name: scores_N[None] for name, scores_N in parts.items()}
    return gather(mixed_N[None], rows, [depth], [np.array(removed, np.int64)], np.array(new, np.int64))[0]


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
    gathered(scores_N, {"sequence": scores_N}, 3, [0, 1])
    assert (scores_N == 1).all()


def world(size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(size)
    parts = {name: random.normal(size=size).astype(np.float32) for name in PARTS}
    return sum(parts.values()), parts  # type: ignore[return-value]


def test_every_source_names_its_best_and_the_mix_fills_up() -> None:
    mixed_N, parts = world(1_000)
    new = np.arange(900, 1_000)
    found = gathered(mixed_N, parts, 100, new=new)
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
    found = gathered(mixed_N, parts, depth, new=range(50))
    assert len(found.places_C) == depth


@given(st.integers(1, 60), st.integers(1, 80), st.data())
def test_what_is_removed_never_comes_back_and_all_else_may(size: int, depth: int, data: st.DataObject) -> None:
    mixed_N, parts = world(size)
    removed = data.draw(st.lists(st.integers(-1, size - 1), max_size=60))
    found = gathered(mixed_N, parts, depth, removed, range(0, size, 3))
    left = set(range(size)) - set(removed)
    assert set(found.places_C.tolist()) <= left
    assert len(found.places_C) == min(depth, len(left))


@given(st.integers(2, 60), st.lists(st.integers(1, 70), min_size=2, max_size=5), st.data())
def test_users_are_searched_for_together_as_each_alone(size: int, depths: list[int], data: st.DataObject) -> None:
    users = len(depths)
    random = np.random.default_rng(size)
    parts = {name: random.integers(0, 9, (users, size)).astype(np.float32) for name in PARTS[:3]}
    parts["popularity"] = random.integers(0, 9, (1, size)).astype(np.float32)
    mixed_BN = np.sum([np.broadcast_to(part, (users, size)) for part in parts.values()], axis=0)
    removed = [data.draw(st.lists(st.integers(-1, size - 1), max_size=40)) for _ in depths]
    new = np.arange(0, size, 4)
    together = gather(mixed_BN, parts, depths, [np.array(one, np.int64) for one in removed], new)
    for row, (found, depth) in enumerate(zip(together, depths, strict=True)):
        own = {name: scores_BN[row % len(scores_BN)] for name, scores_BN in parts.items()}
        alone = gathered(mixed_BN[row], own, depth, removed[row], new.tolist())
        assert found.places_C.tolist() == alone.places_C.tolist()
        assert found.sources_C == alone.sources_C


@pytest.mark.parametrize("source", ["preference", "live"])
def test_of_whom_nothing_is_known_nobody_is_named(source: str) -> None:
    mixed_N, _ = world(300)
    said_N = np.zeros(300, np.float32)
    said_N[[7, 11, 13]] = 0.5, -0.5, 0.1
    for scores_BN in (said_N[None], np.stack([said_N, -said_N])):
        found = gather(np.stack([mixed_N] * 2), {source: scores_BN}, [100, 100], [np.zeros(0, np.int64)] * 2)
        named = [
            {place for place, name in zip(one.places_C.tolist(), one.sources_C, strict=True) if name == source}
            for one in found
        ]
        assert named == [{7, 13}, {7, 13} if len(scores_BN) == 1 else {11}]
