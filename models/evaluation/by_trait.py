"""Which events are about items, or by users, of what kind: masks by the values of every attribute that tells of one."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from models.evaluation.by_value import masks_by_value, written
from models.evaluation.limits import SliceLimits


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
