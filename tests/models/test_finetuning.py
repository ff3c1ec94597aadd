"""Fine-tuning on a world that changes: the new habits are learned, the future and the panel stay unread."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from attune.columns import ITEM_STATS, USER_STATS
from evaluation.replay import replay
from models.catalogue import Catalogue
from models.learning.dataset import TrainingSet, is_panel
from models.learning.finetuning import extended, finetune
from models.learning.training import Trained, train
from models.metrics import summary
from models.network.config import Recipe

RING, NEW, PEOPLE, LENGTH = 30, 4, 180, 10


def ring(seed: int = 0) -> TrainingSet:
    """Everybody walks round a ring of items: the first half of the people by steps of one, the rest by steps of 7.

    The last four items are new: they stand between the others for those who come last.
    """
    rng, rows = np.random.default_rng(seed), []
    for person in range(PEOPLE):
        changed = person >= PEOPLE // 2
        size = RING if not changed else RING + NEW
        item = int(rng.integers(size))
        for step in range(LENGTH):
            rows.append((f"p{person:03d}", f"i{item:02d}", "like", 1.0, 1_000_000 * (person * LENGTH + step)))
            item = (item + (7 if changed else 1)) % size
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "kind", "reward", "event_timestamp"])
    events["position"] = np.arange(1, len(events) + 1)
    items = pd.DataFrame({"item_id": [f"i{item:02d}" for item in range(RING + NEW)], "title": "", "year": 2000.0})
    items["genres"] = [[f"g{item % 4}"] for item in range(RING)] + [["fresh"]] * NEW
    for name in (*USER_STATS, *ITEM_STATS):
        events[name] = np.nan
    for name in ITEM_STATS:
        items[name] = np.nan
    return TrainingSet.from_frames(events, items, {})


def known_then(training_set: TrainingSet, upto: int) -> TrainingSet:
    """What a training set built then would have held: no later event, no new item."""
    full = training_set.catalogue
    catalogue = Catalogue(
        full.item_ids[:RING], full.titles[:RING], full.genres[:RING], full.years[:RING], full.stats_NF[:RING]
    )
    return replace(training_set.select(training_set.times <= upto), catalogue=catalogue)


CHANGE, TUNE_UPTO, END = (1_000_000 * (PEOPLE * LENGTH * part // 6 - 1) for part in (3, 5, 6))
"""Moments: an event a second, from 0."""


@pytest.fixture(scope="module")
def world() -> TrainingSet:
    return ring()


@pytest.fixture(scope="module")
def recipe(quick: Recipe) -> Recipe:
    return replace(quick, epochs=5, finetune_epochs=4, finetune_rate=4e-3)


@pytest.fixture(scope="module")
def champion(world: TrainingSet, recipe: Recipe) -> Trained:
    return train(known_then(world, CHANGE), recipe, int(CHANGE * 0.8), CHANGE, seed=0)


@pytest.fixture(scope="module")
def tuned(world: TrainingSet, recipe: Recipe, champion: Trained) -> Trained:
    return finetune(champion, world, recipe, TUNE_UPTO, seed=5)


def later_ndcg(one: Trained, world: TrainingSet, part: int | None = None) -> float:
    recommender = one.hybrid if part is None else one.hybrid.parts[part]
    return summary(replay(recommender, world, TUNE_UPTO, END, catalogue=one.catalogue))["all"]["ndcg@10"]


def test_after_a_change_the_tuned_version_beats_the_champion_on_later_events(world, champion, tuned):
    assert later_ndcg(tuned, world) > 1.3 * later_ndcg(champion, world)


@pytest.mark.parametrize("part", [0, 1])
def test_every_part_that_hears_a_user_is_better_than_it_was(world, champion, tuned, part):
    assert later_ndcg(tuned, world, part) > later_ndcg(champion, world, part)


def test_the_network_starts_from_the_champion_and_new_items_speak_by_their_attributes(world, champion):
    network, genres = extended(champion, world.catalogue)
    old, state = champion.hybrid.network.tensors(), network.state_dict()
    np.testing.assert_array_equal(state["ids_ND"][:RING], old["ids_ND"])
    for name in ("ids_ND", "bias_N"):  # zeros would stand above most of the catalogue
        new = state[name][RING:].numpy()
        np.testing.assert_allclose(new, np.broadcast_to(old[name].mean(axis=0), new.shape), atol=1e-6)
    assert genres == ("g0", "g1", "g2", "g3", "fresh")
    np.testing.assert_array_equal(state["genre_GD"][:4], old["genre_GD"])
    for name in ("reward_RD", "blocks.0.inputs.weight", "start_D"):
        np.testing.assert_array_equal(state[name], old[name])


def test_items_keep_their_rows_when_the_catalogue_is_ordered_otherwise(world, champion):
    full = world.catalogue
    turned = Catalogue(full.item_ids[::-1], full.titles[::-1], full.genres[::-1], full.years[::-1], full.stats_NF[::-1])
    network, _ = extended(champion, turned)
    np.testing.assert_array_equal(
        network.state_dict()["ids_ND"].numpy()[::-1][:RING], champion.hybrid.network.tensors()["ids_ND"]
    )


def test_the_report_is_json_and_says_what_was_done(champion, tuned):
    report = json.loads(json.dumps(tuned.report, allow_nan=False))
    assert report["champion_trained_upto"] == CHANGE / 1e6 + 1
    assert report["new_items"] == NEW
    assert 0 < report["new_events"] <= (TUNE_UPTO - CHANGE) / 1e6
    assert [row["epoch"] for row in report["epochs"]] == [0, 1, 2, 3, 4]
    assert set(report["validation"]) == {*champion.hybrid.names, "hybrid"}
    assert (tuned.trained_upto, tuned.trained_upto_time) == (TUNE_UPTO / 1e6 + 1, TUNE_UPTO)
    assert tuned.hybrid.network.network.config == champion.hybrid.network.network.config
    assert tuned.hybrid.preference == champion.hybrid.preference is not None
    assert tuned.hybrid.live == champion.hybrid.live > 0


def scrambled(world: TrainingSet, rows: np.ndarray) -> TrainingSet:
    items = world.items.copy()
    items[rows] = (items[rows] + 11) % len(world.catalogue)
    return replace(world, items=items)


def same_bytes(first: Trained, second: Trained) -> bool:
    a, b = first.hybrid.tensors(), second.hybrid.tensors()
    same = a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)
    return same and first.hybrid.settings() == second.hybrid.settings()


def test_neither_the_future_nor_the_panel_has_any_influence(world, recipe, champion):
    brief = replace(recipe, finetune_epochs=1)
    one = finetune(champion, world, brief, TUNE_UPTO, seed=5)
    assert same_bytes(one, finetune(champion, world, brief, TUNE_UPTO, seed=5)), "one seed, one model"
    future = np.flatnonzero(world.times > TUNE_UPTO)
    panel = np.flatnonzero(is_panel(world.user_ids)[world.users] & (world.times > CHANGE))
    assert len(future)
    assert len(panel)
    assert same_bytes(one, finetune(champion, scrambled(world, future), brief, TUNE_UPTO, seed=5))
    assert same_bytes(one, finetune(champion, scrambled(world, panel), brief, TUNE_UPTO, seed=5))
    felt = np.flatnonzero((world.times > CHANGE) & (world.times <= TUNE_UPTO))
    assert not same_bytes(one, finetune(champion, scrambled(world, felt), brief, TUNE_UPTO, seed=5))


def test_without_anything_new_the_network_stays(world, recipe, champion):
    again = finetune(champion, known_then(world, CHANGE), recipe, CHANGE, seed=1)
    before, after = champion.hybrid.network.tensors(), again.hybrid.network.tensors()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert again.hybrid.weights == champion.hybrid.weights
