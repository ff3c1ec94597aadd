"""Which events are about what, value by value: a mask for each frequent value, and one for all others together."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

Named = Mapping[int, Collection[str]]
"""What each place holds, by the names of the slices; places that hold nothing may be absent."""


def masks_by_value(named: Named, place_E: np.ndarray, largest: int, rest: str) -> dict[str, np.ndarray]:
    """Of E events, each at a place, those of each of the ``largest`` most frequent names, and of all ``rest``."""
    holding = _holding(named, place_E)
    counts_P = np.bincount(place_E, minlength=1)
    counts = Counter({name: int(counts_P[places].sum()) for name, places in holding.items()})
    by_use = sorted(counts, key=lambda name: (-counts[name], name))
    parts = {name: holding[name] for name in by_use[:largest]}
    if by_use[largest:]:
        parts[rest] = sorted({place for name in by_use[largest:] for place in holding[name]})
    return {name: _marked(places, place_E) for name, places in parts.items()}


def _holding(named: Named, place_E: np.ndarray) -> dict[str, list[int]]:
    """The places of each name, as far as events are about them."""
    holding: dict[str, list[int]] = {}
    for place in np.unique(place_E).tolist():
        for name in set(named.get(place, ())):
            holding.setdefault(name, []).append(place)
    return holding


def _marked(places: list[int], place_E: np.ndarray) -> np.ndarray:
    is_marked_P = np.zeros(place_E.max(initial=0) + 1, bool)
    is_marked_P[places] = True
    marked_E: np.ndarray = is_marked_P[place_E]
    return marked_E
