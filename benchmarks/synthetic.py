"""Events at the distributions of the demo's ratings, in any number."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from attune.clock import SECOND
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Interaction, Item
from attune.settings import Settings
from features.importer import in_order
from features.sources import movielens

BATCH = 10_000
START = 1_600_000_000 * SECOND


def fill(settings: Settings, number: int, seed: int) -> None:
    """Append the catalogue's items and so many ratings: users, items and values drawn as the real ones are shared out.

    Users are as many times more as the events are; the events of one second follow each other in the log.
    """
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        for batch in _batches(number, seed):
            log.append(batch)


def _batches(number: int, seed: int) -> Iterator[list[AnyEvent]]:
    rows = in_order(movielens.read())
    random = np.random.default_rng(seed)
    real_users, real_items, values = (rows[name].to_numpy() for name in ("user_id", "item_id", "value"))
    items: list[AnyEvent] = [
        Item(event_id=f"item-{item}", event_timestamp=0, item_id=str(item), attributes={"title": f"film {item}"})
        for item in np.unique(real_items)
    ]
    yield items
    crowd = max(1, number // len(rows))
    for start in range(0, number, BATCH):
        size = min(BATCH, number - start)
        drawn = random.integers(len(rows), size=size)
        copies = random.integers(crowd, size=size)
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
