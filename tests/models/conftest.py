"""Small worlds whose right answers are known."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from attune.columns import ITEM_STATS, USER_STATS
from attune.kinds import reward
from models.history import HistoryBatch
from models.learning.dataset import TrainingSet

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
