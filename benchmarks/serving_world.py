"""An installation to load: items, users with histories in the log and in Feast, and a champion of the recipe ``small``.

The champion's tables are fitted to the histories; its network is as it was drawn, since speed does not depend on what
the weights say.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from attune.clock import SECOND, system_clock
from attune.columns import ITEM_STATS, USER_STATS
from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.promotions import Promotions
from attune.settings import Settings
from features.feature_store import FeatureStore
from features.state_keeper import StateKeeper
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.training import preference_of
from models.network.config import OnlineWeights, small
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.policy import PlackettLuce

GENRES = tuple(f"genre-{number}" for number in range(20))
HISTORY = 50
KNN = KnnChoice(window=50, shrinkage=5.0, history=30, decay=1.0, slope=0.5, neighbours=200)
BATCH = 10_000


@dataclass(frozen=True)
class Size:
    """How much there is of it."""

    users: int = 2_000
    items: int = 10_000
    history: int = HISTORY


Histories = Callable[[Size, np.random.Generator], np.ndarray]
"""Draws what the users clicked on, by item number: (users, history), oldest first."""


@dataclass(frozen=True)
class Mix:
    """How the champion's parts are mixed; the item-kNN given stands in for the one that is fitted."""

    weights: tuple[float, float, float] = (0.5, 0.4, 0.1)
    knn: ItemKnn | None = None
    online: OnlineWeights = small().online


def clustered(size: Size, random: np.random.Generator) -> np.ndarray:
    """Everybody's clicks lie within a few of the items."""
    favourites = random.integers(size.items, size=size.users)
    return (favourites[:, None] + random.geometric(0.02, (size.users, size.history))) % size.items


def build(
    settings: Settings, size: Size, seed: int, histories: Histories = clustered, mix: Mix | None = None
) -> pd.DataFrame:
    """Fill the log, refresh the online states, and promote a champion whose bundle lies on disk; gives the clicks."""
    random = np.random.default_rng(seed)
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        events = _fill(log, size, histories(size, random))
        store = FeatureStore(settings)
        store.apply()
        keeper = StateKeeper(log, store, settings)
        with keeper.alone():
            while keeper.step():
                pass
    promote(settings, "1", bundle(settings, events, size, random, mix or Mix()))
    return events


def promote(settings: Settings, version: str, found: Bundle) -> None:
    """Make a version the champion."""
    with closing(Promotions(settings.log_url)) as table, table.lease(settings.endpoint, "bench", 60.0) as lease:
        table.append(lease, version, "promote", "a bench", "bench", found.digest)


def bundle(
    settings: Settings,
    events: pd.DataFrame,
    size: Size,
    random: np.random.Generator,
    mix: Mix,
    version: str = "1",
) -> Bundle:
    """A version, saved where an endpoint finds it."""
    items = pd.DataFrame({"item_id": [f"i{number}" for number in range(size.items)]})
    items = items.assign(title="Item " + items.item_id, year=1990.0 + random.integers(0, 30, size.items))
    items["genres"] = [list(random.choice(GENRES, 2, replace=False)) for _ in range(size.items)]
    items[list(ITEM_STATS)] = random.random((size.items, len(ITEM_STATS)))
    window = {"feature_service": "training_v1", "digest": "0" * 64, "rows": len(events)}
    window |= {"first_position": 1, "last_position": len(events)}
    training_set = TrainingSet.from_frames(events, items, window)
    config = replace(small().network, context=size.history)
    attributes = ItemAttributes.of(training_set.catalogue)
    hybrid = Hybrid(
        SequenceRecommender(SequenceNetwork(config, attributes), attributes.genre_names),
        (mix.knn or ItemKnn.fit(training_set, KNN), Popularity.fit(training_set, 30.0)),
        mix.weights,
        preference_of(replace(small(), online=mix.online)),
        live=mix.online.live_weight,
    )
    provenance = Provenance({"name": "small"}, window, len(events), len(events), 0, 0)
    golden = golden_batch(training_set, int(training_set.times.max()), training_set.catalogue)
    draft = settings.bundles_folder / "made" / "bench"
    save_bundle(draft, hybrid, training_set.catalogue, PlackettLuce(), provenance, golden)
    found = Bundle.load(draft)
    draft.rename(settings.bundles_folder / f"{version}-{found.digest[:12]}")
    return found


def _fill(log: EventLog, size: Size, items_UH: np.ndarray) -> pd.DataFrame:
    """Items, then each user's clicks, everybody's first ones first; the clicks as a training set's frame."""
    now = system_clock() - size.users * size.history * SECOND
    names = [f"i{number}" for number in range(size.items)]
    log.append([Item(event_id=f"about-{one}", event_timestamp=now, item_id=one, attributes={}) for one in names])
    number = size.users * size.history
    users = np.tile(np.arange(size.users), size.history)
    frame = pd.DataFrame({
        "event_id": [f"e{place}" for place in range(number)],
        "user_id": [f"u{user}" for user in users],
        "item_id": [f"i{item}" for item in items_UH.T.ravel()],
        "kind": "click",
        "event_timestamp": now + np.arange(number) * SECOND,
        "position": np.arange(number) + size.items + 1,
        "reward": 1.0,
    })  # fmt: skip
    columns = [frame[name].tolist() for name in ("event_id", "user_id", "item_id", "event_timestamp")]
    clicks = [
        Interaction(event_id=event, user_id=user, item_id=item, kind="click", event_timestamp=at)
        for event, user, item, at in zip(*columns, strict=True)
    ]
    for start in range(0, number, BATCH):
        log.append(clicks[start : start + BATCH])
    frame[[*USER_STATS, *ITEM_STATS]] = np.nan
    return frame
