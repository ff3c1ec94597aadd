"""Small worlds whose right answers are known."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch

from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import reward
from attune.settings import Settings
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Provenance, golden_batch, save_bundle
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.training import Trained, last_position, train
from models.network.config import KnnGrid, Recipe, SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.policy import Draw, PlackettLuce, Policy, Pool
from serving.caps import at_most_each

Row = tuple[int, str, str, str, float | None, int]
"""position, user, item, kind, value, time in microseconds."""


def training_set_of(rows: Sequence[Row], items: Sequence[str] | None = None) -> TrainingSet:
    """A training set of these events; statistics unknown unless the test sets them."""
    events = pd.DataFrame(rows, columns=["position", "user_id", "item_id", "kind", "value", "event_timestamp"])
    events["event_id"] = [f"e{position}" for position in events["position"]]
    events["reward"] = [
        reward(kind, None if pd.isna(v) else v) for kind, v in zip(events.kind, events.value, strict=True)
    ]
    known = sorted(set(events.item_id)) if items is None else list(items)
    frame = pd.DataFrame({"item_id": known, "title": [f"Title {item}" for item in known]})
    frame["year"] = [1990.0 + place % 20 for place in range(len(known))]
    frame["genres"] = [[f"g{place % 3}"] for place in range(len(known))]
    for name in USER_STATS:
        events[name] = np.nan
    for name in ITEM_STATS:
        events[name] = np.nan
        frame[name] = np.nan
    window = {
        "first_position": int(events.position.min()),
        "last_position": int(events.position.max()),
        "first_time": int(events.event_timestamp.min()),
        "last_time": int(events.event_timestamp.max()),
        "rows": len(events),
        "users": int(events.user_id.nunique()),
        "items": len(known),
        "digest": "0" * 64,
        "feature_service": "training_v1",
    }
    return TrainingSet.from_frames(events, frame, window)


@pytest.fixture(scope="session")
def make_training_set() -> Callable[..., TrainingSet]:
    return training_set_of


class FixedScores:
    """Gives every user the same scores."""

    name = "fixed"

    def __init__(self, scores_N: Sequence[float]) -> None:
        self.scores_N = np.asarray(scores_N, np.float32)

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        return np.repeat(self.scores_N[None, :], len(batch), axis=0)


class Hashed:
    """Scores that look random and depend on the history alone; ``levels`` makes ties."""

    name = "hashed"

    def __init__(self, count: int, levels: int = 7, salt: int = 0) -> None:
        self.count, self.levels, self.salt = count, levels, salt

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        state_B = (batch.items_BL * 31 + batch.kinds_BL * 7).sum(axis=1) + self.salt
        places_N = np.arange(self.count)
        return ((state_B[:, None] * 7919 + places_N * 104729) % 1009 % self.levels).astype(np.float32)


@pytest.fixture(scope="session")
def fixed_scores() -> type[FixedScores]:
    return FixedScores


@pytest.fixture(scope="session")
def hashed() -> type[Hashed]:
    return Hashed


CLUSTERS, CLUSTER_ITEMS, PEOPLE = 4, 15, 160


def plant(seed: int = 3) -> TrainingSet:
    """People of one cluster use that cluster's items, some more than others, for fourteen events each.

    They come one after another, so a later stretch of positions holds people that an earlier one does not.
    Clusters are of unequal size: popularity ranks the first cluster's items for everybody, and is mostly wrong.
    """
    rng, rows = np.random.default_rng(seed), []
    weights = 1.0 / np.arange(1, CLUSTER_ITEMS + 1) ** 0.5
    for person in range(PEOPLE):
        cluster = int(rng.choice(CLUSTERS, p=[0.4, 0.2, 0.2, 0.2]))
        chosen = rng.choice(CLUSTER_ITEMS, 10, replace=False, p=weights / weights.sum())
        start = person * 1_000_000 + int(rng.integers(4_000_000))
        for step, item in enumerate(chosen):
            liked = rng.random() < 0.8
            rows.append((f"p{person:03d}", f"c{cluster}-{item:02d}", "like" if liked else "view", None, start + step))
    rows.sort(key=lambda row: row[4])
    items = [f"c{cluster}-{item:02d}" for cluster in range(CLUSTERS) for item in range(CLUSTER_ITEMS)]
    return training_set_of([(position, *row) for position, row in enumerate(rows, start=1)], items)


def hybrid_of(training_set: TrainingSet, upto: int, weights: tuple[float, float, float] = (0.1, 0.8, 0.1)) -> Hybrid:
    """Item-kNN and popularity fitted up to a moment, and a network that learned nothing yet."""
    known = training_set.upto(upto)
    torch.manual_seed(0)
    attributes = ItemAttributes.of(known.catalogue)
    network = SequenceNetwork(SequenceConfig(width=8, blocks=1, heads=1, context=16), attributes)
    unlearned = SequenceRecommender(network, attributes.genre_names)
    choice = KnnChoice(window=20, shrinkage=1.0, history=10, decay=1.0, slope=0.25, neighbours=20)
    return Hybrid(unlearned, (ItemKnn.fit(known, choice), Popularity.fit(known, 30.0)), weights)


@pytest.fixture(scope="session")
def make_hybrid() -> Callable[..., Hybrid]:
    return hybrid_of


@pytest.fixture(scope="session")
def planted() -> TrainingSet:
    return plant()


@pytest.fixture(scope="session")
def cut(planted: TrainingSet) -> int:
    """The last moment that the models of these tests learn from."""
    return planted.moment(int(planted.positions.max() * 0.6))


@pytest.fixture(scope="session")
def policy() -> PlackettLuce:
    return PlackettLuce(0.1)


@pytest.fixture(scope="session")
def provenance(planted: TrainingSet, cut: int) -> Provenance:
    last = last_position(planted, cut)
    lineage = {"trained_upto_time": cut, "holdout_after_time": cut}
    return Provenance({"name": "by hand"}, planted.window, last, last, seed=0, panel_users_trained=0, **lineage)


@pytest.fixture(scope="session")
def trained(planted: TrainingSet, cut: int) -> Hybrid:
    return hybrid_of(planted, cut)


@pytest.fixture(scope="session")
def bundle_folder(
    tmp_path_factory: pytest.TempPathFactory,
    trained: Hybrid,
    planted: TrainingSet,
    cut: int,
    policy: PlackettLuce,
    provenance: Provenance,
) -> Path:
    golden = golden_batch(planted, cut, planted.catalogue)
    folder = tmp_path_factory.mktemp("bundles") / "trained"
    return save_bundle(folder, trained, planted.catalogue, policy, provenance, golden)


def write_folder(training_set: TrainingSet, folder: Path) -> Path:
    """The training set as the folder that ``TrainingSet.load`` reads."""
    names = {place: name for name, place in KIND_INDEX.items()}
    catalogue = training_set.catalogue
    events = pd.DataFrame({"position": training_set.positions, "user_id": training_set.user_ids[training_set.users]})
    events["item_id"] = [catalogue.item_ids[place] for place in training_set.items]
    events["kind"] = [names[place] for place in training_set.kinds]
    events["reward"], events["event_timestamp"] = training_set.rewards, training_set.times
    events[list(USER_STATS)], events[list(ITEM_STATS)] = training_set.user_stats_EF, training_set.item_stats_EF
    items = pd.DataFrame({"item_id": catalogue.item_ids, "title": catalogue.titles, "year": catalogue.years})
    items["genres"] = [list(names) for names in catalogue.genres]
    items[list(ITEM_STATS)] = catalogue.stats_NF
    folder.mkdir()
    events.to_parquet(folder / "events.parquet")
    items.to_parquet(folder / "items.parquet")
    training_set.traits.astype(str).to_parquet(folder / "traits.parquet")
    (folder / "window.json").write_text(json.dumps(training_set.window))
    return folder


@pytest.fixture(scope="session")
def write_training_set() -> Callable[[TrainingSet, Path], Path]:
    return write_folder


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of ``mlflow_url`` keeps its database and its artifacts."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_url(mlflow_folder: Path) -> Iterator[str]:
    """A real tracking server and registry on SQLite."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = Settings(var=mlflow_folder, mlflow_port=port)
    with (mlflow_folder / "server.log").open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow_server.server"],
            env={**os.environ, **settings.as_environment()},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, server, mlflow_folder / "server.log")
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _wait_until_healthy(url: str, server: subprocess.Popen, output: Path, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"MLflow did not start: {output.read_text()[-2000:]}")


TASTE_ITEMS, TASTE_PEOPLE, TASTE_EVENTS = 16, 150, 14


def two_tastes(seed: int = 0) -> TrainingSet:
    """Half of the people like the items of cluster A and dislike those of B, the other half the reverse.

    Everybody meets both clusters equally often, in the order of the clock. Nobody ever meets the last two items
    of each cluster. An item's genre is its cluster.
    """
    rng, rows = np.random.default_rng(seed), []
    for person in range(TASTE_PEOPLE):
        likes = "ab"[person % 2]
        met = [f"{cluster}{item:02d}" for cluster in "ab" for item in range(TASTE_ITEMS - 2)]
        for step, item in enumerate(rng.permutation(met)[:TASTE_EVENTS]):
            kind = "like" if item[0] == likes else "dislike"
            rows.append((f"p{person:03d}", str(item), kind, None, 1_000_000 * (person * 5 + step)))
    rows.sort(key=lambda row: row[4])
    items = [f"{cluster}{item:02d}" for cluster in "ab" for item in range(TASTE_ITEMS)]
    training_set = training_set_of([(position, *row) for position, row in enumerate(rows, start=1)], items)
    catalogue = replace(
        training_set.catalogue,
        genres=tuple((item[0],) for item in items),
        years=(None,) * len(items),
    )
    return replace(training_set, catalogue=catalogue)


@pytest.fixture(scope="session")
def tastes() -> TrainingSet:
    return two_tastes()


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """A recipe for worlds of a few thousand events, about two seconds."""
    return Recipe(
        "quick",
        SequenceConfig(width=16, blocks=1, heads=1, context=16, dropout=0.1),
        epochs=10,
        batch=8,
        learning_rate=5e-3,
        negatives=16,
        knn=KnnGrid(windows=(20,), shrinkages=(1.0, 5.0), histories=(10,), decays=(1.0,), slopes=(0.5,)),
        popularity_days=(1.0, 30.0),
        mix_step=0.25,
    )


@pytest.fixture(scope="session")
def trained_on_tastes(tastes: TrainingSet, quick: Recipe) -> Trained:
    """The hybrid of the world of two tastes: learned from 70 %, chosen on the next 15 %."""
    last = int(tastes.times.max())
    return train(tastes, quick, int(last * 0.7), int(last * 0.85), seed=1)


def three_parts(hybrid: Hybrid) -> Hybrid:
    """Of a trained hybrid the network, item-kNN and popularity, whatever else validation gave a weight."""
    return replace(hybrid, others=(hybrid.knn, hybrid.popularity), weights=(0.4, 0.4, 0.2))


class Capped:
    """Caps over groupings of the candidates, one number each, negative for none: ``at_most_each`` in short."""

    def __call__(self, *caps: tuple[np.ndarray, int]):
        holders, values, limits, used = [], [], [], 0
        for groups_C, limit in caps:
            grouped = np.flatnonzero(groups_C >= 0)
            holders.append(grouped)
            values.append(groups_C[grouped] + used)
            limits.append(np.full(groups_C.max(initial=-1) + 1, limit))
            used += len(limits[-1])
        return at_most_each(np.concatenate(holders), np.concatenate(values), np.concatenate(limits), len(caps[0][0]))

    @staticmethod
    def room(groups_C: np.ndarray, limit: int) -> int:
        """How many of the candidates fit under one cap together: the longest slate that they can give."""
        counts = np.unique(groups_C[groups_C >= 0], return_counts=True)[1]
        return int(np.minimum(counts, limit).sum() + (groups_C < 0).sum())


@pytest.fixture(scope="session")
def capped() -> Capped:
    return Capped()


def draw(policy: Policy, *pool: Any, **settings: Any) -> Draw:
    """One slate of a policy, from a ``Pool`` of these fields."""
    return policy.draw_many([Pool(*pool, **settings)])[0]
