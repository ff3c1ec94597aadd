"""The parts of `python -m benchmarks serving`, on worlds of a few hundred users; the load itself comes from wrk."""

import json
import random
import shutil
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
from benchmarks import serving_feedback, serving_growth, serving_load, serving_memory, serving_mlflow, serving_world
from benchmarks.serving_world import Size
from features.feature_store import FeatureStore
from infra.platform.addresses import free_port
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import normalised
from models.pyfunc import HISTORY, ITEMS, _load_pyfunc

SIZE = Size(users=serving_growth.TEMPLATES + 20, items=400)

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="the load comes from wrk: apt-get install wrk")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[int]]:
    """A planted world, and what a reaction of each user is about."""
    settings = Settings(var=tmp_path_factory.mktemp("bench"), serving_port=free_port())
    clicks = serving_world.build(
        settings, SIZE, 0, serving_feedback.planted_histories, serving_feedback.planted_mix(SIZE.items)
    )
    return settings, serving_feedback._groups(clicks, SIZE)


@pytest.mark.parametrize(("kind", "sign"), [("like", 1), ("dislike", -1)])
def test_a_reaction_moves_the_planted_group_and_its_way_only(kind: str, sign: int) -> None:
    size = Size(users=30, items=400)
    knn = serving_feedback.planted_mix(size.items).knn
    assert knn is not None
    for clicked_H in serving_feedback.planted_histories(size, np.random.default_rng(3)):
        group = serving_feedback.second_group(clicked_H.tolist(), size.items) * serving_feedback.GROUP
        open_G = np.setdiff1d(np.arange(group, group + serving_feedback.GROUP), clicked_H)
        before_N = normalised(knn.scores(_history([*clicked_H.tolist()], ["click"] * len(clicked_H))))[0]
        events = [*clicked_H.tolist(), int(open_G[0])]
        after_N = normalised(knn.scores(_history(events, ["click"] * len(clicked_H) + [kind])))[0]
        assert len(open_G) == serving_feedback.GROUP - serving_feedback.SECOND
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
    reactions = serving_feedback.Reactions(groups)
    with serving_load.endpoint(settings), Client(f"http://127.0.0.1:{settings.serving_port}", timeout=30.0) as client:
        for number in range(20):
            serving_feedback._round(client, reactions, number, random.Random(number))
    assert len(reactions.milliseconds) == 20
    assert reactions.compared >= 80
    assert (reactions.behind, reactions.shown_again, reactions.unmoved) == (0, 0, 0)


def test_a_crowd_has_the_histories_that_were_pushed_and_is_of_this_log(world: tuple[Settings, list[int]]) -> None:
    settings, _ = world
    serving_growth.add_users(settings, 1_000, 1_150)
    store = FeatureStore(settings)
    found = store.states(serving_growth.user_names(999, 1_151))
    assert list(found) == serving_growth.user_names(1_000, 1_150)
    like = store.online("u7")[0]
    assert like is not None
    assert found["c0001107"].recent == like.recent
    with closing(EventLog(settings.log_url)) as log:
        assert [(known.folded, known.astray) for known in (current(log, state) for state in found.values())] == [
            (0, False)
        ] * 150
    store.push_states([found["c0001107"]])  # Feast goes on with the file


def test_mlflow_is_asked_what_its_model_takes(world: tuple[Settings, list[int]]) -> None:
    settings, _ = world
    bodies = serving_mlflow.invocations(settings, ["u110", "u111"])
    (folder,) = (one for one in settings.bundles_folder.iterdir() if one.name != "made")
    for body in bodies:
        asked = pd.DataFrame(**json.loads(body)["dataframe_split"])
        assert len(json.loads(asked[HISTORY][0])) == SIZE.history
        assert len(json.loads(_load_pyfunc(str(folder)).predict(asked)[ITEMS][0])) == 10


def test_memory_is_read_over_the_minute_that_ends() -> None:
    read = [(0.0, 100.0), (4.5, 110.0), (4.9, 112.0), (5.5, 300.0), (29.5, 115.0)]
    assert serving_memory._around(read, 5.0) == 111.0
    assert serving_memory._around(read, 30.0) == 115.0
    assert serving_memory._around(read, 20.0) == 300.0
    assert serving_memory._minutes()[0] == serving_memory.SETTLED_MINUTES
    assert serving_memory._minutes()[-1] == serving_memory.MINUTES


@needs_wrk
def test_wrk_says_how_many_were_answered_and_how_soon(tmp_path: Path) -> None:
    with serving_load.bare_route(b"{}", tmp_path) as (url, server):
        load = serving_load.wrk(f"{url}/v1/recommend", ["{}"], server, 2, 1.0, rate=20.0)
        assert serving_load.memory(server) > 1
    assert 5 < load.requests < 80
    assert load.failed == ""
    assert 0 < load.p50 <= load.p99
