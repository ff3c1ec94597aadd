"""Which events are about what, value by value: a mask for each frequent value, and one for all others together."""

import numpy as np
import pandas as pd

from models.figures import metric_name

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
