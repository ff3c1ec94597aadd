"""Choosing and judging ask the same questions and give the same figures."""

import numpy as np
import pytest

from evaluation.replay import replay
from models.learning.dataset import TrainingSet, groups
from models.learning.selection import Validation
from models.metrics import summary


@pytest.fixture(scope="module")
def motley(make_training_set) -> TrainingSet:
    """Impressions among what is used, an item twice in one group, and items that come again later."""
    rng, rows = np.random.default_rng(5), []
    for position in range(1, 901):
        user, item, moment = f"u{rng.integers(30)}", f"i{rng.integers(40)}", int(rng.integers(1, 200)) * 1_000_000
        kind = str(rng.choice(["impression", "view", "like", "dislike", "skip"]))
        rows.append((position, user, item, kind, None, moment))
        if position % 7 == 0:
            rows.append((position + 10_000, user, item, "like", None, moment))
    return make_training_set(rows)


def test_the_figures_are_those_of_the_judgement(motley: TrainingSet, hashed) -> None:
    recommender = hashed(len(motley.catalogue))
    judged = replay(recommender, motley, 60_000_000, 10**12)
    assert min(judged.unmarked, judged.repeated) > 50
    chosen_on = Validation.over(motley, 60_000_000, 10**12, most=10**6)
    rewards = np.concatenate([batch.target_rewards for batch in chosen_on.batches])
    assert len(rewards) == len(judged.events)
    np.testing.assert_allclose(np.sort(rewards), np.sort(judged.events["reward"]))
    figures, figures_judged = chosen_on.figures(recommender), summary(judged)
    assert figures["ndcg@10"] == pytest.approx(figures_judged["all"]["ndcg@10"])
    assert figures["ndcg@10_positive"] == pytest.approx(figures_judged["positive"]["ndcg@10"])


def test_an_impression_and_a_second_event_of_an_item_are_no_targets(make_training_set) -> None:
    rows = [
        (1, "u", "a", "view", None, 1),
        (2, "u", "b", "impression", None, 2),
        (3, "u", "c", "view", None, 2),
        (4, "u", "c", "like", None, 2),
        (5, "u", "a", "like", None, 3),
        (6, "u", "b", "dislike", None, 4),
    ]
    small = make_training_set(rows)
    assert len(groups(small, 0, 6)) == 4
    found = Validation.over(small, 0, 6, most=100).batches[0]
    assert [small.catalogue.item_ids[place] for place in found.target_items] == ["a", "c", "b"]
    assert found.target_rewards[1:].tolist() == [1.0, 0.0], "of one moment the latest event of an item tells"
