"""Candidates by exact search: the whole catalogue is scored, what may not come back is removed first."""

import numpy as np


def top_k(scores_N: np.ndarray, k: int, removed: np.ndarray | None = None) -> np.ndarray:
    """The places of the ``k`` best items, best first, int64; equal scores stand in catalogue order.

    ``removed`` (int64 places, any order, repeats and -1 allowed) is taken out before the search, so ``k`` come
    back whenever ``k`` are left.
    """
    masked_N = mask(scores_N[None, :], np.zeros(0 if removed is None else len(removed), np.int64), removed)
    return top_k_rows(masked_N, k)[0]


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
    if k >= count:
        pools = [np.flatnonzero(row_N > -np.inf) for row_N in masked_BN]
    else:
        edges_B = np.partition(masked_BN, count - k, axis=1)[:, count - k]
        pools = [
            np.flatnonzero((row_N >= edge) & (row_N > -np.inf)) for row_N, edge in zip(masked_BN, edges_B, strict=True)
        ]
    return [pool[np.argsort(-row_N[pool], kind="stable")][:k] for pool, row_N in zip(pools, masked_BN, strict=True)]
