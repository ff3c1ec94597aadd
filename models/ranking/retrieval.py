"""Candidates by exact search: the whole catalogue is scored, what may not come back is removed first.

Several sources name candidates, each within its quota, so that no one of them decides alone what may be shown; the
best by the mixed score fill up what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

MIX = "mix"
"""The source of a candidate that no quota brought: it is among the best by the mixed score."""

NEW = "new"
"""The source of items that nobody had used when the model was trained: the best of them by the mixed score."""

QUOTAS: Mapping[str, int] = {"sequence": 20, "preference": 10, "item-knn": 20, "popularity": 5, NEW: 5}
"""How many candidates each source names, of the policy's depth."""


@dataclass(frozen=True)
class Candidates:
    """C candidates, the best by the mixed score first: their places (int64), and who named each."""

    places_C: np.ndarray
    sources_C: list[str]


def gather(
    mixed_N: np.ndarray, parts: Mapping[str, np.ndarray], depth: int, removed: np.ndarray, new: np.ndarray | None = None
) -> Candidates:
    """At most ``depth`` candidates: each part's best within its quota, then the best by the mixed score.

    ``parts`` are the sources' own scores (N,), ``removed`` the places (any order, repeats and -1 allowed) taken out
    before any search, ``new`` the places of new items. As many come back as are left, up to ``depth``. With less
    depth than all quotas together each has its share of it.
    """
    masked_N = without(mixed_N, removed)
    closed = np.flatnonzero(masked_N == -np.inf)
    share = min(1.0, depth / sum(QUOTAS.values()))
    named: dict[int, str] = {}
    for name, scores_N in parts.items():
        own_N = scores_N.copy()
        own_N[closed] = -np.inf
        _name(named, top_k(own_N, int(share * QUOTAS.get(name, 0))), name)
    if new is not None:
        _name(named, new[top_k(masked_N[new], int(share * QUOTAS[NEW]))], NEW)
    for place in top_k(masked_N, depth).tolist():
        if len(named) >= depth:
            break
        named.setdefault(place, MIX)
    places = np.fromiter(named, np.int64, len(named))
    sources = list(named.values())
    order = np.lexsort((places, -masked_N[places]))
    return Candidates(places[order], [sources[place] for place in order.tolist()])


def _name(named: dict[int, str], places: np.ndarray, source: str) -> None:
    """The first source that names an item is the one that is logged."""
    for place in places.tolist():
        named.setdefault(place, source)


def top_k(masked_N: np.ndarray, k: int) -> np.ndarray:
    """The places of the ``k`` best items, best first, int64; equal scores stand in catalogue order.

    What is removed has the score -inf and never comes back, so ``k`` do whenever ``k`` are left.
    """
    return top_k_rows(masked_N[None], k)[0]


def without(scores_N: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """A copy of one user's scores with -inf at the places that are removed; -1 names no item, repeats are allowed."""
    return mask(scores_N[None], np.zeros(len(removed), np.int64), removed)[0]


def mask(scores_BN: np.ndarray, rows: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    """A copy of the scores with -inf at each (row, place); a place of -1 names no item."""
    masked_BN = np.array(scores_BN, np.float32 if scores_BN.dtype == np.float32 else np.float64)
    if places is not None and len(places):
        known = places >= 0
        masked_BN[rows[known], places[known]] = -np.inf
    return masked_BN


def top_k_rows(masked_BN: np.ndarray, k: int) -> list[np.ndarray]:
    """``top_k`` of each row of scores in which -inf marks what was removed."""
    count = masked_BN.shape[1]
    if k <= 0:
        return [np.zeros(0, np.int64) for _ in masked_BN]
    if k >= count:
        pools = [np.flatnonzero(row_N > -np.inf) for row_N in masked_BN]
    else:
        best_BK = torch.topk(torch.from_numpy(masked_BN), k, sorted=False).values  # a third of numpy's time
        edges_B = best_BK.amin(dim=1).numpy()
        pools = [
            np.flatnonzero((row_N >= edge) & (row_N > -np.inf)) for row_N, edge in zip(masked_BN, edges_B, strict=True)
        ]
    return [pool[np.argsort(-row_N[pool], kind="stable")][:k] for pool, row_N in zip(pools, masked_BN, strict=True)]
