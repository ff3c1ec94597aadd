"""What the flows' tests share: settings on a folder of the test's own, a log of two tastes, bundles fitted to it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from attune.clock import DAY, SECOND
from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.settings import Settings
from features import training_set
from features.feature_store import FeatureStore
from features.lake import Lake
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.policy import Policy

NOW = 20_000 * DAY
USERS, ITEMS = 60, 24


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    found = Settings()
    prepare(found.log_url)
    return found


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    """Everybody used five items of a cluster: even users of the even items, odd ones of the odd."""
    with closing(EventLog(settings.log_url, lambda: NOW)) as opened:
        rng, number = np.random.default_rng(0), 0
        opened.append([
            Item(event_id=f"x{item}", event_timestamp=0, item_id=f"i{item:02d}", attributes={"genres": ["g"]})
            for item in range(ITEMS)
        ])  # fmt: skip
        for user in range(USERS):
            for item in rng.permutation(ITEMS // 2)[:5]:
                number += 1
                opened.append([
                    Interaction(
                        event_id=f"e{number}", event_timestamp=NOW - 20 * DAY + number * SECOND, user_id=f"u{user}",
                        item_id=f"i{2 * item + user % 2:02d}", kind="like",
                    )
                ])  # fmt: skip
        yield opened


@pytest.fixture
def training_folder(settings: Settings, log: EventLog) -> Callable[[], Path]:
    """Writes the training set of all that the log holds by then."""

    def build() -> Path:
        lake, store = Lake(settings.lake_folder), FeatureStore(settings)
        lake.ingest(log)
        store.apply()
        upto = lake.watermark()
        return training_set.build(lake, store, settings.training_folder / f"upto-{upto}", upto).folder

    return build


def fitted(
    folder: Path,
    weights: tuple[float, float, float],
    policy: Policy,
    known: TrainingSet,
    last: int | None = None,
) -> Path:
    """A hybrid of these weights, fitted to the training set up to a position (all of it by default)."""
    last = int(known.positions.max()) if last is None else last
    learned = known.select(known.positions <= last)
    torch.manual_seed(0)
    attributes = ItemAttributes.of(known.catalogue)
    network = SequenceNetwork(SequenceConfig(width=8, blocks=1, heads=1, context=16), attributes)
    choice = KnnChoice(window=20, shrinkage=1.0, history=10, decay=1.0, slope=0.25, neighbours=20)
    parts = ItemKnn.fit(learned, choice), Popularity.fit(learned, 30.0)
    hybrid = Hybrid(SequenceRecommender(network, attributes.genre_names), parts, weights)
    provenance = Provenance({"name": "by hand"}, known.window, last, last, seed=0, panel_users_trained=0)
    golden = golden_batch(known, known.moment(last), known.catalogue)
    return save_bundle(folder, hybrid, known.catalogue, policy, provenance, golden)


@pytest.fixture
def bundle_of() -> Callable[..., Path]:
    return fitted
