"""The slices of a hold-out in which a challenger may do harm that the mean over everybody hides."""

from collections import Counter

import numpy as np

from models.catalogue import Catalogue
from models.evaluation.metrics import Evaluation
from models.figures import metric_name
from models.learning.dataset import TrainingSet

HISTORIES = (("new_users", 0, 4.0), ("light_users", 5, 19.0), ("heavy_users", 20, np.inf))
"""Users by the number of their events before the hold-out."""

HEAD_SHARE = 0.8
"""The most used items that hold so much of the use before the hold-out are the head; all others are the long tail."""

STANDING = (*(name for name, _, _ in HISTORIES), "long_tail_items")
"""The slices that a report always tells of, tested or not."""

LARGEST = 20
"""Of so many genres and decades, the most frequent among the targets, each is a slice; rare ones say nothing alone."""


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
    return {**found, **_of_attributes(training_set.catalogue, item_E)}


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


def _of_attributes(catalogue: Catalogue, item_E: np.ndarray) -> dict[str, np.ndarray]:
    """The targets of each genre and of each decade."""
    of_item = [
        {*(f"genre_{metric_name(name)}" for name in genres), *_decade(year)}
        for genres, year in zip(catalogue.genres, catalogue.years, strict=True)
    ]
    counts: Counter[str] = Counter()
    for item, number in zip(*np.unique(item_E, return_counts=True), strict=True):
        counts.update(dict.fromkeys(of_item[item], int(number)))
    chosen = sorted(counts, key=lambda name: (-counts[name], name))[:LARGEST]
    has_SN = {name: np.fromiter((name in one for one in of_item), bool, len(of_item)) for name in chosen}
    return {name: has_N[item_E] for name, has_N in has_SN.items()}


def _decade(year: float | None) -> list[str]:
    return [] if year is None else [f"decade_{int(year) // 10 * 10}"]
