"""A Thompson policy learns from reactions which source is worth more than the mix thinks, and explores less for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import DAY
from models.learning.dataset import is_panel
from models.ranking.exploration import Bounded, Epsilon
from models.ranking.policy import Pool
from models.ranking.policy_registry import Exploration
from models.ranking.thompson import MOST_OF_A_USER, SourceReactions, Thompson, learned_policy, posterior

MIX = {"sequence": 0.7, "item-knn": 0.2, "popularity": 0.1}
SOURCES = tuple(MIX)
MIX_F = np.array(list(MIX.values()))
BETTER_F = np.array([-0.4, 0.5, 0.0])
"""How far the mix is off: item-kNN is worth more than the network."""

POLICY = Exploration("thompson").of(SOURCES)
PRIOR = POLICY.posterior
SLATES, ITEMS = 800, 10


def served(policy: Thompson, off_F: np.ndarray, seed: int, slates: int = SLATES, users: int = 80) -> SourceReactions:
    """Slates that the policy drew, and likes by chance: the better the item by the true weights the likelier.

    Some users like nearly everything that the sources praise loudly to them, and lower positions are seen less.
    """
    random = np.random.default_rng(seed)
    generous_U, loud_U = random.uniform(-0.2, 0.2, users), np.empty(users)
    loud_U[:] = 1.0 + 2.0 * generous_U
    features, rewards = [], []
    for slate in range(slates):
        user = slate % users
        features_CF = loud_U[user] * random.uniform(-0.6, 0.6, (40, len(SOURCES)))
        pool = Pool(features_CF @ MIX_F, ITEMS, np.random.default_rng([seed, slate]), features_CF=features_CF)
        (drawn,) = policy.draw_many([pool])
        features_KF = np.array(drawn.notes["features"])
        worth_K = np.clip(0.4 + generous_U[user] + 0.5 * features_KF @ (MIX_F + off_F), 0.0, 1.0)
        seen_K = random.uniform(size=ITEMS) < 0.95 ** np.arange(ITEMS)
        rewards.append(np.where(seen_K & (random.uniform(size=ITEMS) < worth_K), 1.0, 0.5))
        features.append(features_KF)
    return SourceReactions(
        sources=SOURCES,
        features_RF=np.concatenate(features),
        rewards_R=np.concatenate(rewards),
        slates_R=np.repeat(np.arange(slates), ITEMS),
        ranks_R=np.tile(np.arange(ITEMS), slates),
        users_R=np.repeat(np.arange(slates) % users, ITEMS),
        times_R=np.full(slates * ITEMS, 50 * DAY, np.int64),
    )


@pytest.fixture(scope="module")
def reactions() -> SourceReactions:
    """To slates of the policy that has learned nothing yet, where item-kNN is worth more than it thinks."""
    return served(POLICY, BETTER_F, seed=1)


def deviations(policy: Thompson) -> np.ndarray:
    return np.sqrt(np.diag(np.linalg.inv(np.array(policy.posterior.precision))))


def sureness(policy: Thompson) -> float:
    """The mean chance of the likeliest item at the top: 1 where nothing is explored."""
    random, found = np.random.default_rng(5), []
    for seed in range(200):
        features_CF = random.uniform(-0.6, 0.6, (40, len(SOURCES)))
        pool = Pool(features_CF @ MIX_F, 1, np.random.default_rng(seed), features_CF=features_CF)
        found.append(policy.chances(pool, np.ones(40, bool))[0].max())
    return float(np.mean(found))


def test_a_source_that_is_better_than_the_mix_thinks_is_found_and_less_is_explored(reactions: SourceReactions) -> None:
    found = posterior(PRIOR, MIX_F, reactions)
    assert found is not None
    learned = replace(POLICY, posterior=found)
    network, knn, _ = found.mean
    assert knn > 0.1 > -0.1 > network
    true_F, known_F = MIX_F + BETTER_F, MIX_F + np.array(found.mean)
    alike = true_F @ known_F / np.linalg.norm(true_F) / np.linalg.norm(known_F)
    before = true_F @ MIX_F / np.linalg.norm(true_F) / np.linalg.norm(MIX_F)
    assert alike > before + 0.2
    assert (deviations(learned) < deviations(POLICY)).all()
    assert sureness(learned) > sureness(POLICY) + 0.1


def test_in_a_closed_loop_slates_come_to_hold_what_is_better() -> None:
    policy, worth = POLICY, []
    for turn in range(4):
        reactions = served(policy, BETTER_F, seed=turn, slates=300)
        worth.append(float((reactions.features_RF @ (MIX_F + BETTER_F)).mean()))
        found = posterior(PRIOR, MIX_F, reactions)
        policy = policy if found is None else replace(policy, posterior=found)
    assert worth[-1] > worth[0] + 0.06


def test_where_the_mix_is_right_neither_generous_users_nor_positions_look_like_a_source() -> None:
    off = []
    for seed in range(10):
        found = posterior(PRIOR, MIX_F, served(POLICY, np.zeros(3), seed=seed, slates=400))
        assert found is not None
        off.append(np.array(found.mean) / deviations(replace(POLICY, posterior=found)))
    assert np.abs(np.mean(off, axis=0)).max() < 1.0
    assert np.abs(off).max() < 4.0


def test_what_was_learned_under_another_mix_still_means_what_it_says(reactions: SourceReactions) -> None:
    better_F = MIX_F + BETTER_F
    found = posterior(PRIOR, better_F / better_F.sum(), reactions)
    assert found is not None
    off_F = np.array(found.mean) / deviations(replace(POLICY, posterior=found))
    assert np.abs(off_F).max() < 3.0, "the mix has become what the reactions say: nothing is off"


def test_old_reactions_give_way_to_new_ones() -> None:
    old, new = served(POLICY, -BETTER_F, seed=1), served(POLICY, BETTER_F, seed=2)
    fields = ("features_RF", "rewards_R", "ranks_R", "users_R")
    joined = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in fields}
    slates_R = np.concatenate([old.slates_R, SLATES + new.slates_R])
    knn = []
    for days in (0, 60, 240):
        times_R = np.concatenate([old.times_R, new.times_R + days * DAY])
        found = posterior(PRIOR, MIX_F, SourceReactions(SOURCES, slates_R=slates_R, times_R=times_R, **joined))
        assert found is not None
        knn.append(found.mean[1])
    assert knn == sorted(knn)
    alone = posterior(PRIOR, MIX_F, new)
    assert alone is not None
    assert knn[-1] == pytest.approx(alone.mean[1], abs=0.03)


def test_nobody_counts_for_more_than_the_cap() -> None:
    reactions = replace(served(POLICY, BETTER_F, seed=1, slates=100), users_R=np.repeat([0, 1], [900, 100]))
    weights_R = reactions.weights_R
    assert weights_R[:900].sum() == pytest.approx(MOST_OF_A_USER)
    assert weights_R[900:].sum() == pytest.approx(100)


@pytest.mark.parametrize("rewards", ["none", "equal", "against"])
def test_rewards_that_do_not_follow_the_scores_teach_nothing(rewards: str) -> None:
    reactions = served(POLICY, BETTER_F, seed=1, slates=100)
    scores_R = reactions.features_RF @ MIX_F
    changed = {
        "none": replace(reactions, **{name: getattr(reactions, name)[:0] for name in reactions.__dataclass_fields__
                                      if name.endswith("R") or name.endswith("RF")}),
        "equal": replace(reactions, rewards_R=np.full(len(scores_R), 0.5)),
        "against": replace(reactions, rewards_R=0.5 - 0.2 * scores_R),
    }  # fmt: skip
    assert posterior(PRIOR, MIX_F, changed[rewards]) is None


def write(path: Path, reactions: SourceReactions, names: list[str]) -> Path:
    """As ``features`` writes it."""
    frame = pd.DataFrame(
        {
            "slate_id": [f"s{slate}" for slate in reactions.slates_R],
            "user_id": [names[user] for user in reactions.users_R],
            "event_timestamp": reactions.times_R,
            "rank": reactions.ranks_R + 1,
            "reward": reactions.rewards_R.astype(np.float32),
            "sources": [list(reactions.sources)] * len(reactions.rewards_R),
            "features": reactions.features_RF.tolist(),
        }
    )
    frame.to_parquet(path)
    return path


def test_a_file_teaches_as_its_reactions_do_and_the_panel_teaches_nothing(
    reactions: SourceReactions, tmp_path: Path
) -> None:
    names = [name for name in (f"u{number}" for number in range(200)) if not is_panel([name])[0]][:80]
    judges = [name for name in (f"u{number}" for number in range(5_000)) if is_panel([name])[0]][:80]
    path = write(tmp_path / "file", reactions, names)
    expected = posterior(PRIOR, MIX_F, reactions)
    assert expected is not None
    learned = learned_policy(Bounded(POLICY, budget=3), MIX, path)
    np.testing.assert_allclose(learned.inner.posterior.mean, expected.mean)
    assert replace(learned, inner=POLICY) == Bounded(POLICY, budget=3)
    assert learned_policy(learned, MIX, path) == learned, "nothing counts twice"
    assert learned_policy(POLICY, MIX, write(tmp_path / "judges", reactions, judges)) == POLICY


def test_what_is_of_other_sources_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "file", served(POLICY, BETTER_F, seed=1, slates=100), [f"u{n}" for n in range(80)])
    other = learned_policy(POLICY, {**MIX, "live": 0.2}, path)
    assert other.posterior == Exploration("thompson").of((*SOURCES, "live")).posterior
    assert other.sources == (*SOURCES, "live")
    assert learned_policy(Epsilon(), MIX, path) == Epsilon()
    assert learned_policy(POLICY, MIX, None) == POLICY
