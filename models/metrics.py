"""What the figures mean. Full ranking always: a target competes with every item that its user had not seen.

Of one event with target t, where C items were unseen and ``rank`` is t's place (1 is best) in the list that the
pipeline would show without exploration (equal scores stand in catalogue order):

- ``hr@10``    1 if rank <= 10, else 0 (hit rate)
- ``ndcg@10``  1 / log2(1 + rank) if rank <= 10, else 0 (one relevant item, so the ideal is 1)
- ``mrr``      1 / rank, without a cut-off
- ``auc``      (C - rank) / (C - 1): the share of the other unseen items that stand below t; absent when C is 1

Of one group (the events of a user at one timestamp, all scored before any is revealed) with relevant items R and
the ten best unseen items L:

- ``precision@10``  |L and R| / 10
- ``recall@10``     |L and R| / |R|
- ``f1@10``         their harmonic mean, 0 when both are 0
- ``coverage@10``   over all groups: the share of the catalogue that stands in at least one L

A figure is the mean over events or groups. The slice ``all`` takes every target as relevant, ``positive`` the liked
ones (reward above 0.5; groups that have one), ``negative`` the disliked ones (below 0.5), where less is better. A
target that the recommender's catalogue lacks has rank infinity: 0 in every figure.

A dislike is no hit: choices go by ``graded``, gates by the slice that ``decisive`` names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from attune.event_types import centred

CUT = 10
EVENT_METRICS = ("hr@10", "ndcg@10", "mrr", "auc")
GROUP_METRICS = ("precision@10", "recall@10", "f1@10")
SLICES = ("all", "positive", "negative")
GRADED = "graded "
"""Before an event metric: each value times the target's centred reward."""

SLICE_WORDS = {
    "all": "all targets, none of which is liked or disliked",
    "positive": "liked targets",
    "negative": "disliked targets",
}
"""What a deciding slice is called in notes."""

EVENT_COLUMNS = ("group", "user_id", "position", "reward", "rank", "candidates")
ROLLING_NAMES = ("challenger", "champion", "popularity")
ROLLING_POINTS, LEAST_WINDOW, ROLLING_WINDOWS = 60, 50, 15
GROUP_COLUMNS = (
    "group",
    "user_id",
    "moment",
    *(f"{what}{part}" for part in ("", "_positive", "_negative") for what in ("relevant", "hits")),
)


@dataclass(frozen=True)
class Chances:
    """What a model foretold of E targets, and what came.

    ``first_E`` is the chance of the item that stood first, ``ten_E`` that of the ten best together (float64, 0 to 1);
    ``is_first_E`` and ``in_ten_E`` say whether the target was among them; ``weights_E`` how much it was to be foreseen
    (0: not at all, a dislike). The rows are in the order of time.
    """

    positions_E: np.ndarray
    users_E: np.ndarray
    weights_E: np.ndarray
    first_E: np.ndarray
    is_first_E: np.ndarray
    ten_E: np.ndarray
    in_ten_E: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What a replay saw.

    ``events``  a row per target: ``EVENT_COLUMNS``; rank is a float, infinity for a miss.
    ``groups``  a row per group: ``GROUP_COLUMNS``; those from ``relevant`` on are counts of targets.
    ``lists_GK`` the ten best unseen items of each group as catalogue places, -1 where there were fewer.
    ``catalogue_size`` is N; ``repeated`` counts events left out because their user had the item already (or it
    stands twice in the group); ``unmarked`` those left out because their kind is no sign of use (an impression);
    ``unknown`` counts targets outside the catalogue, which stay in as misses. ``seconds`` is scoring time alone.
    ``chances`` are None where none were asked for, or the recommender gives none.
    """

    name: str
    events: pd.DataFrame
    groups: pd.DataFrame
    lists_GK: np.ndarray
    catalogue_size: int
    repeated: int
    unmarked: int
    unknown: int
    seconds: float
    chances: Chances | None = None

    def only(self, user_ids: set[str]) -> "Evaluation":
        """The same for some of the users; the counts of what was left out stay those of the whole, chances are none."""
        is_in_G = self.groups["user_id"].isin(user_ids).to_numpy()
        events, groups = self.events[self.events["user_id"].isin(user_ids)], self.groups[is_in_G]
        return replace(self, events=events, groups=groups, lists_GK=self.lists_GK[is_in_G], chances=None)

    def of(self, part: str) -> "Evaluation":
        """The same with the events of one slice alone; groups, lists and chances stay."""
        return self if part == "all" else replace(self, events=self.events[is_in(part, self.events["reward"])])


def event_values(metric: str, ranks: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """One of ``EVENT_METRICS`` for each event, float64; NaN where it is not defined."""
    if metric == "hr@10":
        return (ranks <= CUT).astype(np.float64)
    if metric == "ndcg@10":
        return np.where(ranks <= CUT, 1.0 / np.log2(1.0 + ranks), 0.0)
    if metric == "mrr":
        return 1.0 / ranks
    if metric == "auc":
        others = np.where(candidates > 1, candidates - 1.0, np.nan)
        return np.where(np.isinf(ranks), 0.0, (candidates - np.minimum(ranks, candidates)) / others)
    raise ValueError(f"unknown metric {metric!r}: one of {EVENT_METRICS + GROUP_METRICS}")


def group_values(metric: str, hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """One of ``GROUP_METRICS`` for each group, float64; ``relevant`` is at least 1."""
    precision, recall = hits / CUT, hits / relevant
    if metric == "precision@10":
        return precision
    if metric == "recall@10":
        return recall
    if metric == "f1@10":
        return np.where(hits > 0, 2.0 * precision * recall / np.maximum(precision + recall, 1e-12), 0.0)
    raise ValueError(f"unknown metric {metric!r}: one of {EVENT_METRICS + GROUP_METRICS}")


def values(evaluation: Evaluation, metric: str, part: str = "all") -> tuple[np.ndarray, np.ndarray]:
    """The users (object) and the metric's values (float64) of a slice, a row per event or group."""
    suffix = _suffix(part)
    if metric in GROUP_METRICS:
        rows = evaluation.groups[evaluation.groups[f"relevant{suffix}"] > 0]
        figures = group_values(metric, rows[f"hits{suffix}"].to_numpy(float), rows[f"relevant{suffix}"].to_numpy(float))
    else:
        rows, name = evaluation.of(part).events, metric.removeprefix(GRADED)
        figures = event_values(name, rows["rank"].to_numpy(float), rows["candidates"].to_numpy(float))
        if name != metric:
            figures = figures * centred(rows["reward"].to_numpy(float))
    return rows["user_id"].to_numpy(object), figures


def _suffix(part: str) -> str:
    """What the group columns of a slice end in. Raises ValueError for an unknown slice."""
    if part not in SLICES:
        raise ValueError(f"unknown slice {part!r}: one of {SLICES}")
    return "" if part == "all" else f"_{part}"


def is_in(part: str, rewards: np.ndarray) -> np.ndarray:
    """Whether targets with these rewards belong to a slice: bool, in the shape of ``rewards``."""
    _suffix(part)
    rewards = np.asarray(rewards)
    return {"positive": rewards > 0.5, "negative": rewards < 0.5}.get(part, np.ones(rewards.shape, bool))


def decisive(evaluation: Evaluation) -> str:
    """The slice that decides: the liked targets, or all where every target is neutral (reward 0.5)."""
    return "positive" if (evaluation.events["reward"].to_numpy() != 0.5).any() else "all"


def graded(values_E: np.ndarray, rewards_E: np.ndarray) -> float:
    """The gain from liked targets less the cost of disliked ones: ``sum(c v) / sum(max(c, 0))``, c the centred reward.

    Each liked target counts its value v by how much it is liked, each disliked one takes its value away by how much it
    is disliked; the divisor is the weight of what is liked. Where nothing is liked it is ``sum(c v) / sum(|c|)``, the
    mean cost; where nothing is liked or disliked, the mean of all values (0 of none).
    """
    weights_E = centred(rewards_E)
    scale = np.maximum(weights_E, 0.0).sum() or np.abs(weights_E).sum()
    if not scale:
        return float(values_E.mean()) if len(values_E) else 0.0
    return float((weights_E * values_E).sum() / scale)


def coverage(evaluation: Evaluation, part: str = "all") -> float:
    """The share of the catalogue in the ten best of at least one group of the slice."""
    chosen = evaluation.groups[f"relevant{_suffix(part)}"].to_numpy() > 0
    shown = np.unique(evaluation.lists_GK[chosen])
    return float((shown >= 0).sum() / max(evaluation.catalogue_size, 1))


def summary(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Every metric of every slice, with the number of events, groups and users that it rests on."""
    table: dict[str, dict[str, float]] = {}
    for part in SLICES:
        users, _ = values(evaluation, "hr@10", part)
        figures: dict[str, float] = {"events": len(users), "users": len(set(users))}
        figures["groups"] = len(values(evaluation, "recall@10", part)[1])
        for metric in EVENT_METRICS + GROUP_METRICS:
            defined = values(evaluation, metric, part)[1]
            defined = defined[~np.isnan(defined)]
            figures[metric] = float(defined.mean()) if len(defined) else 0.0
        figures["coverage@10"] = coverage(evaluation, part)
        table[part] = figures
    return table


def ranks(masked_BN: np.ndarray, row_T: np.ndarray, item_T: np.ndarray, batch: int = 256) -> np.ndarray:
    """The rank (float64, 1 is best) of each target in its row; infinity for a target of -1 or whose score is NaN.

    Equal scores stand in catalogue order, as in the list that the pipeline shows.
    """
    ranks_T = np.full(len(row_T), np.inf)
    known = np.flatnonzero(item_T >= 0)
    for start in range(0, len(known), batch):
        part = known[start : start + batch]
        rows_TN, item = masked_BN[row_T[part]], item_T[part]
        score = rows_TN[np.arange(len(part)), item][:, None]
        before = (rows_TN == score) & (np.arange(rows_TN.shape[1]) < item[:, None])
        rank = 1 + ((rows_TN > score) | before).sum(axis=1)
        ranks_T[part] = np.where(np.isnan(score[:, 0]), np.inf, rank)
    return ranks_T


@dataclass(frozen=True)
class Rolling:
    """HR@10 of the last ``window`` deciding targets: ``targets`` (how many up to a window's end), a line for each."""

    window: int
    lines: dict[str, list[float]]


def rolling_hits(replays: Mapping[str, Evaluation]) -> Rolling | None:
    """Of a judgement's replays, all over the same targets; None where these are too few for a line."""
    events = {name: replays[name].events for name in ROLLING_NAMES if name in replays}
    if not events:
        return None
    part = decisive(next(iter(replays.values())))
    events = {name: rows[is_in(part, rows["reward"])] for name, rows in events.items()}
    first = next(iter(events.values()))
    count = len(first)
    window = max(LEAST_WINDOW, count // ROLLING_WINDOWS)
    if count < 2 * window:
        return None
    ends = np.unique(np.linspace(window, count, ROLLING_POINTS).astype(np.int64))
    lines = {"targets": ends.astype(np.float64).tolist()}
    for name, rows in events.items():
        hits = event_values("hr@10", rows["rank"].to_numpy(np.float64), rows["candidates"].to_numpy(np.float64))
        total = np.concatenate([[0.0], np.cumsum(hits)])
        lines[name] = ((total[ends] - total[ends - window]) / window).tolist()
    return Rolling(window, lines)
