"""The slices of a hold-out in which a challenger may do harm that the mean over everybody hides."""

from collections.abc import Sequence

import numpy as np

from models.evaluation.by_trait import masks_by_trait
from models.evaluation.by_value import masks_by_value, written
from models.evaluation.limits import SliceLimits
from models.evaluation.metrics import Evaluation
from models.learning.dataset import TrainingSet

STANDING = ("new_users", "light_users", "heavy_users", "long_tail_items")
"""The slices that a report always tells of, tested or not: names, no limit."""


def slices(evaluation: Evaluation, training_set: TrainingSet, after: int, limits: SliceLimits) -> dict[str, np.ndarray]:
    """A mask over ``evaluation.events`` (E,) by name; slices may overlap, and some may be empty.

    What is new, light, heavy and long-tail goes by what lies at or before position ``after``. They stand in the order
    in which they are tested where there are too many: other attributes last, by how many events they are about.
    """
    rows_E = rows_of(evaluation, training_set)
    before = training_set.positions <= after
    history_U = np.bincount(training_set.users[before], minlength=len(training_set.user_ids))
    earlier_E = history_U[training_set.users[rows_E]]
    is_new_E, is_heavy_E = earlier_E < limits.light_from, earlier_E >= limits.heavy_from
    item_E, catalogue = training_set.items[rows_E], training_set.catalogue
    is_rare_E = ~_head(training_set, before, limits.head_share)[item_E]
    others = {
        **masks_by_trait(training_set.traits, "item", catalogue.item_ids, item_E, limits),
        **masks_by_trait(training_set.traits, "user", training_set.user_ids, training_set.users[rows_E], limits),
    }
    return {
        **dict(zip(STANDING, (is_new_E, ~is_new_E & ~is_heavy_E, is_heavy_E, is_rare_E), strict=True)),
        **_of_genres(catalogue.genres, item_E, limits.values),
        **_of_decades(catalogue.years, item_E, limits.decade_share),
        **dict(sorted(others.items(), key=lambda one: -one[1].sum())),
    }


def rows_of(evaluation: Evaluation, training_set: TrainingSet) -> np.ndarray:
    """The training set's row of each event that was judged."""
    order = np.argsort(training_set.positions)
    place = np.searchsorted(training_set.positions, evaluation.events["position"].to_numpy(), sorter=order)
    rows_E: np.ndarray = order[place]
    return rows_E


def _head(training_set: TrainingSet, before: np.ndarray, share: float) -> np.ndarray:
    """Whether each item (N,) belongs to the most used ones, which hold so much of the use."""
    used_N = np.bincount(training_set.items[before], minlength=len(training_set.catalogue))
    order = np.argsort(-used_N, kind="stable")
    above = np.cumsum(used_N[order]) - used_N[order]
    is_head_N = np.zeros(len(used_N), bool)
    is_head_N[order[above < share * used_N.sum()]] = True
    return is_head_N


def _of_genres(genres: Sequence[tuple[str, ...]], item_E: np.ndarray, largest: int) -> dict[str, np.ndarray]:
    """The targets of each frequent genre, and of all others together (``other_genres``, which no genre is called)."""
    pairs = [(place, written("genre", name)) for place in np.unique(item_E).tolist() for name in genres[place]]
    place_R, name_R = np.array([place for place, _ in pairs], np.int64), np.array([name for _, name in pairs], object)
    return masks_by_value(place_R, name_R, item_E, largest, "other_genres")


def _of_decades(years: Sequence[float | None], item_E: np.ndarray, share: float) -> dict[str, np.ndarray]:
    """The targets of each decade; rare ones together with the next."""
    decade_E = np.array([np.nan if year is None else year // 10 * 10 for year in years])[item_E]
    decades, counts = np.unique(decade_E[~np.isnan(decade_E)], return_counts=True)
    return {
        _named(int(first), int(last)): (decade_E >= first) & (decade_E <= last)
        for first, last in _joined(decades, counts, share)
    }


def _joined(decades: np.ndarray, counts: np.ndarray, share: float) -> list[tuple[float, float]]:
    """The first and the last decade of each slice, oldest first; what remains too small belongs to the one before."""
    found: list[tuple[float, float]] = []
    start, held = 0, 0
    for place, count in enumerate(counts):
        held += count
        if held >= share * counts.sum():
            found.append((decades[start], decades[place]))
            start, held = place + 1, 0
    if held:
        before = found.pop()  # there is one: all together hold enough
        found.append((before[0], decades[-1]))
    return found


def _named(first: int, last: int) -> str:
    return f"decade_{first}" if first == last else f"years_{first}_to_{last + 9}"
