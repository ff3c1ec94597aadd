"""Candidates by exact search: the whole catalogue is scored, what may not come back is removed first.

Several sources name candidates, each within its quota, so that no one of them decides alone what may be shown; the
best by the mixed score fill up what is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.sources import MIX, NEW, QUOTAS, SILENT_AT_ZERO


@dataclass(frozen=True)
class Candidates:
    """C candidates, the best by the mixed score first: their places (int64), and who named each."""

    places_C: np.ndarray
    sources_C: list[str]


def gather(
    mixed_BN: np.ndarray,
    parts: Mapping[str, np.ndarray],
    depths: Sequence[int],
    removed: Sequence[np.ndarray],
    new: np.ndarray | None = None,
) -> list[Candidates]:
    """For each of B users at most ``depths`` candidates: each part's best within its quota, then the best by the mix.

    ``parts`` are the sources' own scores, (B, N) or (1, N) where all users share them; ``removed`` are each user's
    places (any order, repeats and -1 allowed) taken out before any search, ``new`` the places of new items. As many
    come back as are left, up to the depth. With less depth than all quotas together each has its share of it.
    """
    rows, places = np.repeat(np.arange(len(removed)), list(map(len, removed))), np.concatenate(removed)
    masked_BN = mask(mixed_BN, rows, places)
    named: list[dict[int, str]] = [{} for _ in depths]
    for name, scores_BN in parts.items():
        quota = QUOTAS.get(name, 0)
        if len(scores_BN) < len(masked_BN):
            # one search for all users, so deep that each has the quota left without what is removed; torch needs a copy
            (shared,) = top_k_rows(np.array(scores_BN), quota + max(map(len, removed)))
            best = [shared[masked_N[shared] > -np.inf][:quota] for masked_N in masked_BN]
        else:
            best = top_k_rows(mask(scores_BN, rows, places), quota)
        if name in SILENT_AT_ZERO:
            rows_BN = np.broadcast_to(scores_BN, (len(best), scores_BN.shape[1]))
            best = [places_K[row_N[places_K] > 0] for places_K, row_N in zip(best, rows_BN, strict=True)]
        _name(named, best, depths, name)
    if new is not None:
        _name(named, [new[best] for best in top_k_rows(masked_BN[:, new], QUOTAS[NEW])], depths, NEW)
    best = top_k_rows(masked_BN, max(depths))
    return [_filled(*row) for row in zip(named, best, depths, masked_BN, strict=True)]


def _name(named: list[dict[int, str]], best: Sequence[np.ndarray], depths: Sequence[int], source: str) -> None:
    """Within its share of each user's depth; the first source that names an item is the one that is logged."""
    for sources, places_K, depth in zip(named, best, depths, strict=True):
        share = min(1.0, depth / sum(QUOTAS.values()))
        for place in places_K[: int(share * QUOTAS.get(source, 0))].tolist():
            sources.setdefault(place, source)


def _filled(named: dict[int, str], best: np.ndarray, depth: int, masked_N: np.ndarray) -> Candidates:
    """With the best by the mixed score up to the depth, all of them in that score's order."""
    for place in best.tolist():
        if len(named) >= depth:
            break
        named.setdefault(place, MIX)
    places = np.fromiter(named, np.int64, len(named))
    places = places[np.lexsort((places, -masked_N[places]))]
    return Candidates(places, [named[place] for place in places.tolist()])


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
    if k <= 0 or not count:
        return [np.zeros(0, np.int64) for _ in masked_BN]
    if k >= count:
        return [_sorted(row_N, np.flatnonzero(row_N > -np.inf)) for row_N in masked_BN]
    best = torch.topk(torch.from_numpy(masked_BN), k + 1)  # a third of numpy's time
    scores_BK, places_BK = best.values.numpy(), best.indices.numpy()
    is_tied_B = (scores_BK[:, 1:] == scores_BK[:, :-1]).any(axis=1)
    return [
        # ties, or scores of what was removed: catalogue order decides among all that are as good as the last
        _sorted(row_N, np.flatnonzero((row_N >= scores_K[k - 1]) & (row_N > -np.inf)))[:k] if is_tied else places_K[:k]
        for row_N, scores_K, places_K, is_tied in zip(masked_BN, scores_BK, places_BK, is_tied_B, strict=True)
    ]


def _sorted(row_N: np.ndarray, pool: np.ndarray) -> np.ndarray:
    return pool[np.argsort(-row_N[pool], kind="stable")]
