"""The examination curve: found where it was planted, flat where there is none, unknown where nothing can tell."""

from dataclasses import dataclass

import numpy as np
import pytest

from evaluation.position_bias import examination
from models.ranking.policy import PlackettLuce, Pool

CURVE_K = np.array([1.0, 0.8, 0.65, 0.5, 0.42, 0.36, 0.3, 0.25])


@dataclass(frozen=True)
class World:
    """Shown items: whose, where, by which score, and whether anybody reacted."""

    users_R: np.ndarray
    ranks_R: np.ndarray
    scores_R: np.ndarray
    reacted_R: np.ndarray


def world(curve_K: np.ndarray, users: int = 400, slates: int = 12, seed: int = 0, noise: float = 0.1) -> World:
    """Slates by Plackett-Luce; attraction grows with the score, and has parts that no score knows.

    Each user reacts more or less than others, in all slates, so one user's rows are not independent.
    """
    random, count = np.random.default_rng(seed), users * slates
    scores_BC = random.uniform(-0.5, 0.5, (count, 12))
    drawn = PlackettLuce(0.2).draw_many(
        [Pool(scores_C, len(curve_K), np.random.default_rng([seed, place])) for place, scores_C in enumerate(scores_BC)]
    )
    scores_BK = np.stack([scores_C[one.places_K] for scores_C, one in zip(scores_BC, drawn, strict=True)])
    keen_B = np.repeat(random.uniform(0.5, 1.0, users), slates)
    attraction_BK = 0.1 + 0.6 * (scores_BK + 0.5) + random.uniform(-noise, noise, scores_BK.shape)
    reacted_BK = random.random(scores_BK.shape) < curve_K * keen_B[:, None] * attraction_BK.clip(0, 1)
    ranks_BK = np.broadcast_to(np.arange(1, len(curve_K) + 1), scores_BK.shape)
    users_BK = np.broadcast_to(np.repeat(np.arange(users), slates)[:, None], scores_BK.shape)
    return World(users_BK.ravel(), ranks_BK.ravel(), scores_BK.ravel(), reacted_BK.ravel())


def test_a_planted_curve_is_found_and_plain_rates_miss_it() -> None:
    shown = world(CURVE_K)
    found = examination(shown.users_R, shown.ranks_R, shown.scores_R, shown.reacted_R)
    assert ((found.low_K <= CURVE_K) & (found.high_K >= CURVE_K)).all()
    assert found.high_K[1:].max() - found.low_K[1:].min() < 1.0
    assert (found.high_K - found.low_K).max() < 0.25
    assert (found.share_K[0], found.users, found.rows_K.tolist()) == (1.0, 400, [4_800] * 8)
    rates_K = np.array([shown.reacted_R[shown.ranks_R == rank].mean() for rank in range(1, 9)])
    assert (rates_K[3:] / rates_K[0] < found.low_K[3:]).all(), "what stands higher is better as well"


def test_a_flat_world_gives_a_flat_curve() -> None:
    shown = world(np.ones(8), seed=1)
    found = examination(shown.users_R, shown.ranks_R, shown.scores_R, shown.reacted_R)
    assert ((found.low_K <= 1.0) & (found.high_K >= 1.0)).all()
    assert np.abs(found.share_K - 1.0).max() < 0.1


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(40):
        shown = world(CURVE_K[:4], users=80, slates=8, seed=seed)
        found = examination(shown.users_R, shown.ranks_R, shown.scores_R, shown.reacted_R, replicates=100)
        held.append((found.low_K[1:] <= CURVE_K[1:4]) & (found.high_K[1:] >= CURVE_K[1:4]))
    assert 0.87 < np.mean(held) <= 1.0


def test_a_position_that_nothing_compares_to_the_top_is_unknown() -> None:
    users_R, ranks_R = np.repeat(np.arange(50), 3), np.tile([1, 2, 4], 50)
    scores_R = np.where(ranks_R == 4, -1.0, 1.0)  # nothing of its score ever stands higher
    found = examination(users_R, ranks_R, scores_R, np.ones(150, bool))
    assert found.share_K[:2].tolist() == [1.0, 1.0]
    assert np.isnan(found.share_K[2:]).all()
    assert found.low_K[2:].tolist() == [0.0, 0.0]
    assert found.high_K[2:].tolist() == [np.inf, np.inf]
    assert found.rows_K.tolist() == [50, 50, 0, 50]


def test_without_reactions_nothing_is_known() -> None:
    found = examination(np.arange(20), np.tile([1, 2], 10), np.zeros(20), np.zeros(20))
    assert np.isnan(found.share_K).all()
    assert np.isinf(found.high_K).all()


def test_one_user_gives_no_interval() -> None:
    found = examination(np.zeros(20), np.tile([1, 2], 10), np.zeros(20), np.ones(20))
    assert found.share_K.tolist() == [1.0, 1.0]
    assert np.isinf(found.high_K).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    shown = world(CURVE_K[:3], users=30, slates=4)
    one, two = (examination(shown.users_R, shown.ranks_R, shown.scores_R, shown.reacted_R) for _ in range(2))
    assert one.low_K.tolist() == two.low_K.tolist()


@pytest.mark.parametrize(
    ("users", "ranks", "scores", "said"),
    [
        ([1, 2], [1], [0.0], "equal length"),
        ([], [], [], "no shown items"),
        ([1], [0], [0.0], "ranks count from 1"),
        ([1], [1], [np.nan], "finite"),
    ],
)
def test_rows_that_make_no_sense_are_refused(users: list, ranks: list, scores: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        examination(np.array(users), np.array(ranks), np.array(scores), np.zeros(len(ranks)))
