"""Real ratings as training sets (MovieLens-1M from a folder, the demo's from its package), and events drawn like them.

The training sets need no installation: the statistics that the feature store would join to an event are joined here
in the same way, as of the event's own time.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from attune.clock import SECOND
from attune.columns import Columns
from attune.errors import ConfigError
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Interaction, Item
from attune.settings import Settings
from features.importer import in_order
from features.sources import frames, movielens
from features.stats import Statistics, rewards
from features.training_set import OF_USERS, traits_table
from models.learning.dataset import TrainingSet

DATA = "ATTUNE_TEST_DATA"
LATEST_USERS = 2_998
"""Users of MovieLens-1M up to this id have original timestamps; they are the latest to join."""

BATCH = 10_000
START = 1_600_000_000 * SECOND
"""The time of the first synthetic event."""


def movielens_1m() -> TrainingSet:
    """The ratings of users 1 to 2998 out of the folder ``ml-1m``. Raises ConfigError where that is absent."""
    folder = Path(os.environ.get(DATA, "")) / "ml-1m"
    if DATA not in os.environ or not (folder / "interactions.parquet").is_file():
        raise ConfigError(f"MovieLens-1M is not there: set {DATA} to the folder that holds ml-1m/interactions.parquet")
    rated = pd.read_parquet(folder / "interactions.parquet", filters=[("user_id", "<=", LATEST_USERS)])
    rated = rated[rated["timestamp"].notna()].sort_values(["timestamp", "file_pos"], ignore_index=True)
    events = pd.DataFrame({
        Columns.USER_ID: rated["user_id"].astype(str),
        Columns.ITEM_ID: rated["movie_id"].astype(str),
        Columns.VALUE: rated["rating"].astype(np.float64),
        Columns.EVENT_TIMESTAMP: rated["timestamp"].astype(np.int64) * SECOND,
    })  # fmt: skip
    movies = pd.read_csv(folder / "movies.csv", dtype={"movie_id": str})
    items = pd.DataFrame({
        Columns.ITEM_ID: movies["movie_id"],
        Columns.TITLE: movies["title"],
        Columns.YEAR: movies["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(np.float64),
        Columns.GENRES: frames.split_lists(movies["genres"]),
    })  # fmt: skip
    told = pd.read_csv(folder / "users.csv", dtype=str)[["user_id", "gender", "age", "occupation"]]
    users = traits_table(OF_USERS, told.pop("user_id"), (json.dumps(one) for one in told.to_dict("records")))
    return replace(_training_set(events, items), traits=users.to_pandas())


def movielens_demo() -> TrainingSet:
    """The 100,004 ratings that `make demo` runs on."""
    source = movielens.read()
    rows = in_order(source)
    events = pd.DataFrame({
        Columns.USER_ID: rows[Columns.USER_ID],
        Columns.ITEM_ID: rows[Columns.ITEM_ID],
        Columns.VALUE: rows[Columns.VALUE].astype(np.float64),
        Columns.EVENT_TIMESTAMP: rows[Columns.EVENT_TIMESTAMP].astype(np.int64),
    })  # fmt: skip
    attributes = pd.DataFrame(source.items[Columns.ATTRIBUTES].tolist())
    items = attributes[[Columns.TITLE, Columns.YEAR, Columns.GENRES]]
    return _training_set(events, items.assign(**{Columns.ITEM_ID: source.items[Columns.ITEM_ID]}))


def cut_at(training_set: TrainingSet, share: float) -> int:
    """The moment up to which this share of the events lies, or a little more where several share that moment."""
    return int(training_set.times[min(int(len(training_set) * share), len(training_set) - 1)])


def _training_set(events: pd.DataFrame, items: pd.DataFrame) -> TrainingSet:
    """Ratings in the order of time, with what was known of user and item before each."""
    events = events.assign(**{
        Columns.POSITION: np.arange(1, len(events) + 1),
        Columns.EVENT_ID: np.arange(len(events)).astype(str),
        Columns.KIND: "rating",
        Columns.RETRACTS: None,
    })  # fmt: skip
    events[Columns.REWARD] = rewards(events[Columns.KIND], events[Columns.VALUE])
    known = Statistics.of(events).historical(events)
    events = events.assign(**{name: known[name].to_numpy() for name in known})
    return TrainingSet.from_frames(events, items, window={"rows": len(events)})


def fill_log(settings: Settings, number: int, seed: int) -> None:
    """Append the demo's items and ``number`` ratings, whose users, items and values are drawn from the real ratings.

    The number of users grows with the number of events; events are ten a second, in the order of time.
    """
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        for batch in _event_batches(number, seed):
            log.append(batch)


def _event_batches(number: int, seed: int) -> Iterator[list[AnyEvent]]:
    rows = in_order(movielens.read())
    random = np.random.default_rng(seed)
    real_users, real_items, values = (rows[name].to_numpy() for name in ("user_id", "item_id", "value"))
    items: list[AnyEvent] = [
        Item(event_id=f"item-{item}", event_timestamp=0, item_id=str(item), attributes={"title": f"film {item}"})
        for item in np.unique(real_items)
    ]
    yield items
    copies_of_user = max(1, number // len(rows))
    for start in range(0, number, BATCH):
        size = min(BATCH, number - start)
        drawn = random.integers(len(rows), size=size)
        copies = random.integers(copies_of_user, size=size)
        yield [
            Interaction(
                event_id=f"synthetic-{start + place}",
                event_timestamp=START + (start + place) * SECOND // 10,
                user_id=f"{real_users[row]}-{copy}",
                item_id=str(real_items[row]),
                kind="rating",
                value=float(values[row]),
            )
            for place, (row, copy) in enumerate(zip(drawn.tolist(), copies.tolist(), strict=True))
        ]
