"""The slices of a hold-out in which a challenger may do harm that the mean over everybody hides."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from evaluation.limits import SliceLimits
from models.figures import metric_name
from models.learning.dataset import TrainingSet
from models.metrics import Evaluation

# Which events are about what, value by value: a mask for each frequent value, and one for all others together.


LONGEST = 100
"""Letters of a value in a slice's name: with its attribute, and all that stands before, it is recorded under 250."""


def masks_by_value(
    place_R: np.ndarray, name_R: np.ndarray, place_E: np.ndarray, largest: int, rest: str
) -> dict[str, np.ndarray]:
    """Of E events, each at a place, those of each of the ``largest`` most frequent names, and of all others ``rest``.

    R pairs say which place has which name; a place may have several, and a pair may be said twice.
    """
    used_P = np.bincount(place_E, minlength=place_R.max(initial=0) + 1)
    is_used_R = used_P[place_R] > 0
    codes_R, names = pd.factorize(name_R[is_used_R])
    pairs_2R = np.unique(np.stack([codes_R, place_R[is_used_R]]), axis=1)
    counts = np.bincount(pairs_2R[0], used_P[pairs_2R[1]], len(names))
    by_use = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    parts = {str(names[code]): [code] for code in by_use[:largest]}
    if by_use[largest:]:
        parts[rest] = by_use[largest:]
    return {name: _marked(pairs_2R[1][np.isin(pairs_2R[0], codes)], place_E) for name, codes in parts.items()}


def _marked(places: np.ndarray, place_E: np.ndarray) -> np.ndarray:
    is_marked_P = np.zeros(place_E.max(initial=0) + 1, bool)
    is_marked_P[places] = True
    marked_E: np.ndarray = is_marked_P[place_E]
    return marked_E


def written(of: str, value: str) -> str:
    """What something of a value is recorded under: values that are written alike are one."""
    return f"{of}_{metric_name(value).replace('/', '_')[:LONGEST]}"


# Which events are about items, or by users, of what kind: masks by the values of every attribute that tells of one.


def masks_by_trait(
    traits: pd.DataFrame, whose: str, ids: Sequence[str] | np.ndarray, place_E: np.ndarray, limits: SliceLimits
) -> dict[str, np.ndarray]:
    """The targets by the attributes of their items, or users, where frequent values tell most of it.

    A name, a number plate, a price: what hardly two have in common says who one is, and not of what kind.
    """
    found: dict[str, np.ndarray] = {}
    sliced = 0
    for attribute, place_R, value_R in _held(traits, whose, ids, place_E):
        masks = _telling(attribute, place_R, value_R, place_E, limits)
        for name, mask_E in masks.items():
            found[name] = found[name] | mask_E if name in found else mask_E
        sliced += bool(masks)
        if sliced == limits.attributes:
            break
    return found


def _telling(
    attribute: str, place_R: np.ndarray, value_R: np.ndarray, place_E: np.ndarray, limits: SliceLimits
) -> dict[str, np.ndarray]:
    """The slices of one attribute, none where its frequent values say little; without a value that nearly all have."""
    name_R, rest = _each(value_R, partial(written, attribute)), f"other_{attribute}"
    masks = masks_by_value(place_R, name_R, place_E, limits.values, rest)
    told_E = np.any([mask_E for name, mask_E in masks.items() if name != rest], axis=0)
    if told_E.sum() < limits.told_share * np.any(list(masks.values()), axis=0).sum():
        return {}
    return {name: mask_E for name, mask_E in masks.items() if mask_E.mean() <= limits.nearly_all}


def _held(
    traits: pd.DataFrame, whose: str, ids: Sequence[str] | np.ndarray, place_E: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each attribute as slices are named by it, with places and values: what most events are about comes first."""
    rows = traits[traits["whose"] == whose]
    place_R = pd.Index(ids).get_indexer(rows["id"].astype(object))
    used_P = np.bincount(place_E, minlength=len(ids))
    is_used_R = (place_R >= 0) & (used_P[place_R] > 0)
    place_R, value_R = place_R[is_used_R], rows["value"].to_numpy(object)[is_used_R]
    name_R = _each(rows["attribute"].to_numpy(object)[is_used_R], partial(written, whose))
    held = pd.Series(name_R).groupby(name_R).indices
    events = {name: used_P[np.unique(place_R[rows_of])].sum() for name, rows_of in held.items()}
    for name in sorted(held, key=lambda one: (-events[one], one)):
        yield str(name), place_R[held[name]], value_R[held[name]]


def _each(words_R: np.ndarray, change: Callable[[str], str]) -> np.ndarray:
    """The words changed, each different one once."""
    codes_R, words = pd.factorize(words_R)
    return np.array([change(one) for one in words], object)[codes_R]


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
