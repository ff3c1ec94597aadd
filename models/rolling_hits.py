"""How often the ten best held what people chose, as the hold-out went by."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.metrics import Evaluation, event_values

FOLLOWED = ("challenger", "champion", "popularity")
POINTS, LEAST_WINDOW, WINDOWS = 60, 50, 15


@dataclass(frozen=True)
class Rolling:
    """HR@10 of the last ``window`` targets at some of them.

    ``lines`` holds ``position`` (the log position of the last target of each window) and a line for each recommender.
    """

    window: int
    lines: dict[str, list[float]]


def rolling_hits(replays: Mapping[str, Evaluation]) -> Rolling | None:
    """Of a judgement's replays, all over the same targets; None where these are too few for a line."""
    followed = {name: replays[name].events for name in FOLLOWED if name in replays}
    count = len(next(iter(followed.values()), ()))
    window = max(LEAST_WINDOW, count // WINDOWS)
    if count < 2 * window:
        return None
    ends = np.unique(np.linspace(window, count, POINTS).astype(np.int64))
    first = next(iter(followed.values()))
    lines = {"position": first["position"].to_numpy(np.float64)[ends - 1].tolist()}
    for name, events in followed.items():
        hits = event_values("hr@10", events["rank"].to_numpy(np.float64), events["candidates"].to_numpy(np.float64))
        total = np.concatenate([[0.0], np.cumsum(hits)])
        lines[name] = ((total[ends] - total[ends - window]) / window).tolist()
    return Rolling(window, lines)
