"""The slices of a hold-out in which a challenger may do harm that the mean over everybody hides."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

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
"""Of so many genres, the most frequent among the targets, each is a slice; the others are one together."""

LEAST_SHARE = 0.01
"""Decades are joined, from the oldest on, until a slice holds so much of the targets: rare ones say nothing alone."""


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
    catalogue = training_set.catalogue
    return {**found, **_of_genres(catalogue.genres, item_E), **_of_decades(catalogue.years, item_E)}


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


def _of_genres(genres: Sequence[tuple[str, ...]], item_E: np.ndarray) -> dict[str, np.ndarray]:
    """The targets of each frequent genre, and of all others together."""
    counts: Counter[str] = Counter()
    for item, number in zip(*np.unique(item_E, return_counts=True), strict=True):
        counts.update(dict.fromkeys(genres[item], int(number)))
    by_use = sorted(counts, key=lambda name: (-counts[name], name))
    parts = {metric_name(name): {name} for name in by_use[:LARGEST]}
    if by_use[LARGEST:]:
        parts["others"] = set(by_use[LARGEST:])
    return {
        f"genre_{name}": np.fromiter((not names.isdisjoint(one) for one in genres), bool, len(genres))[item_E]
        for name, names in parts.items()
    }


def _of_decades(years: Sequence[float | None], item_E: np.ndarray) -> dict[str, np.ndarray]:
    """The targets of each decade; rare ones together with the next."""
    decade_E = np.array([np.nan if year is None else year // 10 * 10 for year in years])[item_E]
    decades, counts = np.unique(decade_E[~np.isnan(decade_E)], return_counts=True)
    return {
        _named(int(first), int(last)): (decade_E >= first) & (decade_E <= last)
        for first, last in _joined(decades, counts)
    }


def _joined(decades: np.ndarray, counts: np.ndarray) -> list[tuple[float, float]]:
    """The first and the last decade of each slice, oldest first; what remains too small belongs to the one before."""
    found: list[tuple[float, float]] = []
    start, held = 0, 0
    for place, count in enumerate(counts):
        held += count
        if held >= LEAST_SHARE * counts.sum():
            found.append((decades[start], decades[place]))
            start, held = place + 1, 0
    if held:
        before = found.pop()  # there is one: all together hold enough
        found.append((before[0], decades[-1]))
    return found


def _named(first: int, last: int) -> str:
    return f"decade_{first}" if first == last else f"years_{first}_to_{last + 9}"
