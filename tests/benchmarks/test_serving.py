"""The parts of `attune bench serving`, on worlds of a few hundred users; the load itself comes from wrk."""

import importlib
import json
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.client import Client
from attune.event_log import EventLog
from attune.event_types import reward
from attune.settings import Settings
from attune.user_state import current
from benchmarks import against_mlflow, crowd, effect, endpoint, memory, planted, serving, serving_world
from benchmarks.serving_world import Size
from features.feature_store import FeatureStore
from infra.platform.addresses import free_port
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import normalised
from models.pyfunc import HISTORY, ITEMS, _load_pyfunc

SIZE = Size(users=crowd.TEMPLATES + 20, items=400)

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="the load comes from wrk: apt-get install wrk")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[int]]:
    """A planted world, and what a reaction of each user is about."""
    settings = Settings(var=tmp_path_factory.mktemp("bench"), serving_port=free_port())
    clicks = serving_world.build(settings, SIZE, 0, planted.histories, planted.mixing(SIZE.items))
    return settings, effect._groups(clicks, SIZE)


def test_every_part_is_named_where_one_chooses_and_can_be_measured(attune: Callable) -> None:
    _, said, _ = attune("bench", "--help")
    for part in serving.PARTS:
        assert part in said
        assert callable(importlib.import_module(f"benchmarks.{part}").measure)


@pytest.mark.parametrize(("kind", "sign"), [("like", 1), ("dislike", -1)])
def test_a_reaction_moves_the_planted_group_and_its_way_only(kind: str, sign: int) -> None:
    size = Size(users=30, items=400)
    knn = planted.mixing(size.items).knn
    assert knn is not None
    for clicked_H in planted.histories(size, np.random.default_rng(3)):
        group = planted.second_group(clicked_H.tolist(), size.items) * planted.GROUP
        open_G = np.setdiff1d(np.arange(group, group + planted.GROUP), clicked_H)
        before_N = normalised(knn.scores(_history([*clicked_H.tolist()], ["click"] * len(clicked_H))))[0]
        events = [*clicked_H.tolist(), int(open_G[0])]
        after_N = normalised(knn.scores(_history(events, ["click"] * len(clicked_H) + [kind])))[0]
        assert len(open_G) == planted.GROUP - planted.SECOND
        assert np.allclose(sign * (after_N - before_N)[open_G[1:]], 1 / 9, atol=0.02)


def _history(items: list[int], kinds: list[str]) -> HistoryBatch:
    items_BL = np.array([items]) + 1
    rewards_BL = np.array([[reward(kind) for kind in kinds]], np.float32)
    nothing = np.zeros((1, 0), np.float32)
    kinds_BL = np.array([[KIND_INDEX[kind] for kind in kinds]])
    return HistoryBatch(items_BL, kinds_BL, rewards_BL, items_BL, nothing, nothing, np.zeros(1, np.int64))


@pytest.mark.long
def test_a_reaction_is_felt_in_the_planted_scores_of_an_endpoint(
    world: tuple[Settings, list[int]],
) -> None:
    settings, groups = world
    felt = effect.Felt(groups)
    with endpoint.endpoint(settings), Client(f"http://127.0.0.1:{settings.serving_port}", timeout=30.0) as client:
        for number in range(20):
            effect._round(client, felt, number, random.Random(number))
    assert len(felt.milliseconds) == 20
    assert felt.compared >= 80
    assert (felt.behind, felt.shown_again, felt.unmoved) == (0, 0, 0)


def test_a_crowd_has_the_histories_that_were_pushed_and_is_of_this_log(world: tuple[Settings, list[int]]) -> None:
    settings, _ = world
    crowd.add(settings, 1_000, 1_150)
    store = FeatureStore(settings)
    found = store.states(crowd.names(999, 1_151))
    assert list(found) == crowd.names(1_000, 1_150)
    like = store.state("u7")
    assert like is not None
    assert found["c0001107"].recent == like.recent
    with closing(EventLog(settings.log_url)) as log:
        assert [(known.folded, known.astray) for known in (current(log, state) for state in found.values())] == [
            (0, False)
        ] * 150
    store.push_states([found["c0001107"]])  # Feast goes on with the file


def test_mlflow_is_asked_what_its_model_takes(world: tuple[Settings, list[int]]) -> None:
    settings, _ = world
    bodies = against_mlflow.invocations(settings, ["u110", "u111"])
    (folder,) = (one for one in settings.bundles_folder.iterdir() if one.name != "made")
    for body in bodies:
        asked = pd.DataFrame(**json.loads(body)["dataframe_split"])
        assert len(json.loads(asked[HISTORY][0])) == SIZE.history
        assert len(json.loads(_load_pyfunc(str(folder)).predict(asked)[ITEMS][0])) == 10


def test_memory_is_read_over_the_minute_that_ends() -> None:
    read = [(0.0, 100.0), (4.5, 110.0), (4.9, 112.0), (5.5, 300.0), (29.5, 115.0)]
    assert memory._around(read, 5.0) == 111.0
    assert memory._around(read, 30.0) == 115.0
    assert memory._around(read, 20.0) == 300.0
    assert memory._minutes()[0] == memory.SETTLED_MINUTES
    assert memory._minutes()[-1] == memory.MINUTES


@needs_wrk
def test_wrk_says_how_many_were_answered_and_how_soon(tmp_path: Path) -> None:
    with endpoint.bare_route(b"{}", tmp_path) as (url, server):
        load = endpoint.wrk(f"{url}/v1/recommend", ["{}"], server, 2, 1.0, rate=20.0)
        assert endpoint.memory(server) > 1
    assert 5 < load.requests < 80
    assert load.failed == ""
    assert 0 < load.p50 <= load.p99
