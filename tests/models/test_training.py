"""Training: deterministic, blind to the future and to the panel, and its report says what it did."""

import json
from dataclasses import replace

import numpy as np
import pytest

from attune.errors import DataContractError
from evaluation.replay import replay
from models.learning.dataset import TrainingSet, is_panel
from models.learning.training import Trained, preference_of, train, warm_start
from models.metrics import summary
from models.network.config import WITHOUT_ONLINE, Recipe
from models.ranking.preference import Preference
from models.sources import SOURCES


@pytest.fixture(scope="module")
def cuts(tastes: TrainingSet) -> tuple[int, int]:
    last = int(tastes.times.max())
    return int(last * 0.7), int(last * 0.85)


def scrambled(training_set: TrainingSet, rows: np.ndarray) -> TrainingSet:
    """The same with other items, kinds, rewards and statistics in ``rows``."""
    items, kinds, rewards = training_set.items.copy(), training_set.kinds.copy(), training_set.rewards.copy()
    user_stats, item_stats = training_set.user_stats_EF.copy(), training_set.item_stats_EF.copy()
    items[rows] = (items[rows] + 7) % len(training_set.catalogue)
    kinds[rows], rewards[rows] = kinds[rows][::-1], 1.0 - rewards[rows]
    user_stats[rows], item_stats[rows] = 99.0, 99.0
    return replace(
        training_set, items=items, kinds=kinds, rewards=rewards, user_stats_EF=user_stats, item_stats_EF=item_stats
    )


def same_bytes(first: Trained, second: Trained) -> bool:
    pairs = (
        (first.hybrid.tensors(), second.hybrid.tensors()),
        ({"c": first.catalogue.stats_NF}, {"c": second.catalogue.stats_NF}),
    )
    return first.hybrid.settings() == second.hybrid.settings() and all(
        a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a) for a, b in pairs
    )


@pytest.fixture(scope="module")
def brief(quick: Recipe) -> Recipe:
    return replace(quick, epochs=2)


@pytest.fixture(scope="module")
def first(tastes: TrainingSet, brief: Recipe, cuts: tuple[int, int]) -> Trained:
    return train(tastes, brief, *cuts, seed=3)


def test_one_seed_gives_one_model(tastes, brief, cuts, first):
    assert same_bytes(first, train(tastes, brief, *cuts, seed=3))
    assert not same_bytes(first, train(tastes, brief, *cuts, seed=4))


def test_nothing_after_validation_has_any_influence(tastes, brief, cuts, first):
    later = np.flatnonzero(tastes.times > cuts[1])
    assert len(later) > 100
    assert same_bytes(first, train(scrambled(tastes, later), brief, *cuts, seed=3))
    earlier = np.flatnonzero(tastes.times <= cuts[1])[-50:]
    assert not same_bytes(first, train(scrambled(tastes, earlier), brief, *cuts, seed=3)), "the scrambling is felt"


def test_where_the_training_ended_is_measured_on_what_was_learned_from(tastes, cuts, first):
    mine = ~is_panel(tastes.user_ids)[tastes.users] & (tastes.times <= cuts[1])
    assert first.trained_upto == tastes.positions[mine].max()
    assert first.trained_upto_time == tastes.times[mine].max()
    assert first.holdout_after_time == cuts[1]
    assert first.holdout_after == tastes.positions[tastes.times <= cuts[1]].max()


def test_no_event_of_the_panel_teaches_anything(tastes, brief, cuts, first):
    """What it did, and what stands in its rows, changes no byte; other rows' item statistics may have counted it."""
    panel = np.flatnonzero(is_panel(tastes.user_ids)[tastes.users])
    assert len(panel) > 50
    assert same_bytes(first, train(scrambled(tastes, panel), brief, *cuts, seed=3))


def test_the_report_is_json_and_says_what_was_done(trained_on_tastes, tastes, quick):
    report = json.loads(json.dumps(trained_on_tastes.report, allow_nan=False))
    assert [row["epoch"] for row in report["epochs"]] == list(range(1, quick.epochs + 1))
    assert report["epochs"][-1]["loss"] < report["epochs"][0]["loss"]
    assert set(report["validation"]) == {"network", *SOURCES, "hybrid"}
    assert set(report["ablation"]) == {"with all statistics", "without user_stats", "without item_stats"}
    assert report["parameters"] == sum(array.size for array in trained_on_tastes.hybrid.network.tensors().values())
    assert Recipe.from_dict(report["recipe"]) == quick
    assert {row["shrinkage"] for row in report["tried"]["item-knn"]} == {1.0, 5.0}
    panel = is_panel(tastes.user_ids)
    learned = (tastes.times <= report["validate_upto"]) & ~panel[tastes.users]
    assert report["events"] == learned.sum()


def test_the_recipe_decides_what_is_felt_between_trainings(trained_on_tastes, quick):
    assert trained_on_tastes.hybrid.preference == Preference(
        quick.online.preference_step, quick.online.preference_weight
    )
    assert trained_on_tastes.hybrid.live == quick.online.live_weight
    assert preference_of(replace(quick, online=WITHOUT_ONLINE)) is None


def test_it_learns_the_tastes(tastes, trained_on_tastes):
    """What people like next is found among 32 items far more often than by popularity."""
    last = int(tastes.times.max())
    found = {
        one.name: summary(
            replay(one, tastes, trained_on_tastes.trained_upto_time, last, catalogue=trained_on_tastes.catalogue)
        )
        for one in (*trained_on_tastes.hybrid.parts, trained_on_tastes.hybrid)
    }
    liked = {name: figures["positive"]["ndcg@10"] for name, figures in found.items()}
    assert {"network", "item-knn", "popularity", "hybrid"} <= set(liked)
    assert min(liked["network"], liked["item-knn"], liked.get("ease", 1.0)) > 1.25 * liked["popularity"]
    assert liked["hybrid"] > 0.95 * max(liked.values())


def test_a_window_with_nothing_in_it_is_refused(tastes, quick):
    with pytest.raises(DataContractError, match="may be learned from"):
        train(tastes, quick, -1, -1, seed=0)


def test_a_validation_stretch_without_events_leaves_the_plain_choices(tastes, brief, cuts):
    trained = train(tastes, brief, cuts[1], cuts[1], seed=0)
    assert trained.hybrid.knn.choice.shrinkage == brief.knn.shrinkages[0]
    assert dict(zip(trained.hybrid.names, trained.hybrid.weights, strict=True)) == pytest.approx(
        {"network": 1 / 3, "item-knn": 1 / 3, "popularity": 0.0, "ease": 1 / 3}
    )


def test_the_warm_start_places_neighbours_near(tastes, trained_on_tastes):
    ids_ND = warm_start(trained_on_tastes.hybrid.knn.similarity_NN, 8)
    own, other = ids_ND[:14] @ ids_ND[:14].T, ids_ND[:14] @ ids_ND[16:30].T
    assert own.mean() > 0 > other.mean()
    assert (ids_ND[14:16] == 0).all(), "what nobody used has no place yet"
    assert warm_start(trained_on_tastes.hybrid.knn.similarity_NN * 0, 8).shape == (32, 8)
