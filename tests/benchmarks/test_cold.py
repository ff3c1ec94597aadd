"""Cold items: what is hidden teaches nothing and is all that is asked for, and known rankings get their figures."""

import numpy as np
import pytest

from benchmarks import cold, command
from models.history import HistoryBatch
from models.learning.dataset import TrainingSet


class Knowing:
    """Ranks what the users of the world like before all else."""

    def __init__(self, world: TrainingSet, sign: float) -> None:
        self.cluster_N = np.array([item[0] for item in world.catalogue.item_ids])
        self.sign = sign

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        cluster_BL = np.append(self.cluster_N, "")[batch.items_BL - 1]
        likes_B = np.where(batch.rewards_BL > 0.5, cluster_BL == "a", cluster_BL == "b")
        a_B = (likes_B & (batch.items_BL > 0)).sum(axis=1) * 2 >= (batch.items_BL > 0).sum(axis=1)
        liked_BN = np.where(a_B[:, None], self.cluster_N == "a", self.cluster_N == "b")
        return self.sign * liked_BN.astype(np.float32)


@pytest.fixture(scope="module")
def world(tastes: TrainingSet) -> tuple[TrainingSet, int]:
    return cold.hidden_last(tastes, 0.3, seed=0)


def test_hidden_items_stand_last_and_teach_nothing(tastes: TrainingSet, world) -> None:
    hidden, first = world
    assert first == round(0.7 * len(tastes.catalogue))
    assert sorted(hidden.catalogue.item_ids) == sorted(tastes.catalogue.item_ids)
    names = [np.array(one.catalogue.item_ids)[one.items] for one in (tastes, hidden)]
    np.testing.assert_array_equal(*names)
    assert np.isnan(hidden.catalogue.stats_NF[first:]).all()
    kept = cold.without_hidden(hidden, first)
    assert len(kept.catalogue) == first
    assert set(kept.catalogue.item_ids) == set(hidden.catalogue.item_ids[:first])
    assert len(kept) == (hidden.items < first).sum() > 0


def test_whoever_knows_the_tastes_is_above_chance_and_whoever_turns_them_round_below(world) -> None:
    hidden, first = world
    asked = cold.questions(hidden, first)
    targets = np.concatenate([part.target_items for part in asked[0].batches])
    rewards = np.concatenate([part.target_rewards for part in asked[0].batches])
    assert len(targets) == len(asked[1]) > 30
    assert targets.min() >= first
    assert rewards.min() > 0.5, "what was disliked is no target"
    right, wrong = (cold.judged("x", Knowing(hidden, sign).scores, asked, first) for sign in (1.0, -1.0))
    figures = {figure.name: (figure.value, other.value) for figure, other in zip(right, wrong, strict=True)}
    assert len(figures) == 4
    above, below = figures["x, ndcg@10 among the hidden items"]
    assert above > 1.2 * below
    assert figures["x, hr@10 among all items"][0] < figures["x, hr@10 among the hidden items"][0]


def test_titles_are_found_by_titles() -> None:
    from models.item_vectors import TextVectors

    class Places:
        """The place of a film by either title."""

        name = "places"

        def encode(self, texts):
            both = {**{title: place for place, title in enumerate(cold.TITLES.values())}}
            both |= {query: place for place, query in enumerate(cold.TITLES)}
            return np.eye(len(cold.TITLES), dtype=np.float32)[[both[text] for text in texts]]

    found = cold.by_chinese_title(tuple(reversed(cold.TITLES.values())), TextVectors(Places()))
    assert [figure.value for figure in found] == [1.0, 1.0]


def test_the_benchmark_is_known_by_its_name() -> None:
    assert command.BENCHMARKS["cold"] == {"items": "benchmarks.cold:measure"}
