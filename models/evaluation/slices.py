"""The slices of a hold-out in which a challenger may do harm that the mean over everybody hides."""

from collections import Counter

import numpy as np

from models.evaluation.metrics import Evaluation
from models.figures import metric_name
from models.learning.dataset import TrainingSet

HISTORIES = (("new_users", 0, 4.0), ("light_users", 5, 19.0), ("heavy_users", 20, np.inf))
"""Users by the number of their events before the hold-out."""

HEAD_SHARE = 0.8
"""The most used items that hold so much of the use before the hold-out are the head; all others are the long tail."""

GENRES = 5
"""Of so many genres, the most frequent among the targets, each is a slice."""


def slices(evaluation: Evaluation, training_set: TrainingSet, after: int) -> dict[str, np.ndarray]:
    """A mask over ``evaluation.events`` (E,) by name; slices may overlap, and some may be empty.

    What is new, light, heavy and long-tail goes by what lies at or before position ``after``.
    """
    rows_E = rows_of(evaluation, training_set)
    before = training_set.positions <= after
    history_U = np.bincount(training_set.users[before], minlength=len(training_set.user_ids))
    earlier_E = history_U[training_set.users[rows_E]]
    found = {name: (earlier_E >= least) & (earlier_E <= most) for name, least, most in HISTORIES}
    item_E = training_set.items[rows_E]
    found["long_tail_items"] = ~_head(training_set, before)[item_E]
    return {**found, **_of_genres(training_set, item_E)}


def rows_of(evaluation: Evaluation, training_set: TrainingSet) -> np.ndarray:
    """The training set's row of each event that was judged."""
    order = np.argsort(training_set.positions)
    place = np.searchsorted(training_set.positions, evaluation.events["position"].to_numpy(), sorter=order)
    rows_E: np.ndarray = order[place]
    return rows_E


def _head(training_set: TrainingSet, before: np.ndarray) -> np.ndarray:
    """Whether each item (N,) belongs to the head."""
    used_N = np.bincount(training_set.items[before], minlength=len(training_set.catalogue))
    order = np.argsort(-used_N, kind="stable")
    above = np.cumsum(used_N[order]) - used_N[order]
    is_head_N = np.zeros(len(used_N), bool)
    is_head_N[order[above < HEAD_SHARE * used_N.sum()]] = True
    return is_head_N


def _of_genres(training_set: TrainingSet, item_E: np.ndarray) -> dict[str, np.ndarray]:
    genres = training_set.catalogue.genres
    counts: Counter[str] = Counter()
    for item, number in zip(*np.unique(item_E, return_counts=True), strict=True):
        counts.update(dict.fromkeys(genres[item], int(number)))
    chosen = sorted(counts, key=lambda name: (-counts[name], name))[:GENRES]
    has_GN = {name: np.fromiter((name in one for one in genres), bool, len(genres)) for name in chosen}
    return {f"genre_{metric_name(name)}": has_N[item_E] for name, has_N in has_GN.items()}
