"""Position bias: how much of what stands at each position is looked at, next to the top.

The position-based model (Joachims, Swaminathan and Schnabel 2017, "Unbiased learning-to-rank with biased feedback",
section 4) says that who reacts has looked, and that looking depends on the position alone:

    P(reaction to the item at position k) = examination_k * attraction(item, user)

What stands higher is also better. Items of about equal score at different positions tell the two apart: given the score
that an exploring policy drew by, where an item lands is chance. So the scores are cut into cells, and reactions are
regressed on position and cell, as Wang et al. (2018), "Position bias estimation for unbiased learning-to-rank in
personal search", do with features. The regression is multiplicative and fitted by Poisson quasi-likelihood, which needs
the mean alone to be right (Gourieroux, Monfort and Trognon 1984, "Pseudo maximum likelihood methods").

It is wrong for a deterministic policy, where one reaction makes the next more or less likely (a cascade), and where
people trust the top more than their own eyes.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from evaluation.intervals import quotients

CELLS = 20
REPLICATES = 200
ROUNDS = 500
CLOSE = 1e-7
"""The alternation ends when no examination changes by more, relative to the largest."""

_BLOCK = 4_000_000


@dataclass(frozen=True)
class Examination:
    """``share_K`` is how often position k (from the top) is looked at per look at the top, with its 95 % interval.

    NaN, with an interval from 0 to infinity, where nothing compares the position to the top. ``rows_K`` counts the
    shown items.
    """

    share_K: np.ndarray
    low_K: np.ndarray
    high_K: np.ndarray
    rows_K: np.ndarray
    users: int


def examination(
    users_R: np.ndarray,
    ranks_R: np.ndarray,
    scores_R: np.ndarray,
    reacted_R: np.ndarray,
    replicates: int = REPLICATES,
) -> Examination:
    """The examination curve of R shown items.

    ``users_R`` (any sortable ids) says whose slate it was, ``ranks_R`` counts positions from 1, ``scores_R`` are those
    that the policy drew by, ``reacted_R`` is whether the user reacted at all. Raises ValueError for arrays of unequal
    length, ranks below 1, scores that are not finite, and no rows.
    """
    if not len(users_R) == len(ranks_R) == len(scores_R) == len(reacted_R):
        raise ValueError("users, ranks, scores and reactions must be of equal length: one row for each shown item")
    if not len(users_R):
        raise ValueError("no shown items: choose a window with slates")
    if np.min(ranks_R) < 1:
        raise ValueError(f"ranks count from 1, and {np.min(ranks_R)} is below")
    if not np.isfinite(scores_R).all():
        raise ValueError("a score is not finite")
    edges = np.unique(np.quantile(scores_R, np.linspace(0.0, 1.0, CELLS + 1)[1:-1]))  # equal scores stay together
    cells_R = np.searchsorted(edges, scores_R, side="right")
    names, user_R = np.unique(users_R, return_inverse=True)
    users, shape = len(names), (int(np.max(ranks_R)), int(cells_R.max()) + 1)
    place_R = (np.asarray(ranks_R, np.int64) - 1) * shape[1] + cells_R  # position and cell, flat
    shown_UP, reacted_UP = (
        sp.csr_matrix((value_R, (user_R, place_R)), shape=(users, shape[0] * shape[1]))
        for value_R in (np.ones(len(user_R)), np.asarray(reacted_R, np.float64))
    )
    drawn = []
    rng, block = np.random.default_rng(0), max(_BLOCK // users, 1)  # blocks of bounded memory
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        times_RU = rng.multinomial(users, np.full(users, 1.0 / users), size=rows).astype(np.float64)
        drawn.append(_fitted(*((table.T @ times_RU.T).T.reshape(-1, *shape) for table in (shown_UP, reacted_UP))))
    rows_KG, reacted_KG = (np.asarray(table.sum(axis=0)).reshape(shape) for table in (shown_UP, reacted_UP))
    (share_K,) = _fitted(rows_KG[None], reacted_KG[None])
    drawn_RK, is_known_K = np.concatenate(drawn), np.isfinite(share_K) & (users > 1)
    unknown_RK = np.isnan(drawn_RK)  # a replicate that cannot tell counts as 0 below and as infinite above
    low_K = np.quantile(np.where(unknown_RK, 0.0, drawn_RK), 0.025, axis=0, method="inverted_cdf")
    high_K = np.quantile(np.where(unknown_RK, np.inf, drawn_RK), 0.975, axis=0, method="inverted_cdf")
    interval = np.where(is_known_K, low_K, 0.0), np.where(is_known_K, high_K, np.inf)
    return Examination(share_K, *interval, rows_KG.sum(axis=1).astype(np.int64), users)


def _fitted(shown_RKG: np.ndarray, reacted_RKG: np.ndarray) -> np.ndarray:
    """The examination (R, K) of each replicate, relative to its top; NaN where nothing compares it to the top.

    A position is compared if it shares cells in which anybody reacted with the top, directly or by way of others. One
    without any reaction is not: its share would be 0, and no resampling could say how sure that is.
    """
    tells_RKG = (shown_RKG > 0) & (reacted_RKG.sum(axis=1, keepdims=True) > 0)
    reached_RK = np.zeros(shown_RKG.shape[:2], bool)
    reached_RK[:, 0] = reacted_RKG[:, 0].sum(axis=1) > 0
    for _ in range(shown_RKG.shape[1]):
        cells_RG = (tells_RKG & reached_RK[:, :, None]).any(axis=1)
        reached_RK |= (tells_RKG & cells_RG[:, None, :]).any(axis=2)
    compared_RK = reached_RK & (reacted_RKG.sum(axis=2) > 0)
    shown_RKG, reacted_RKG = (table * compared_RK[:, :, None] for table in (shown_RKG, reacted_RKG))
    share_RK = compared_RK.astype(np.float64)
    for _ in range(ROUNDS):
        attraction_RG = quotients(reacted_RKG.sum(axis=1), np.einsum("RKG,RK->RG", shown_RKG, share_RK))
        next_RK = quotients(reacted_RKG.sum(axis=2), np.einsum("RKG,RG->RK", shown_RKG, attraction_RG))
        next_RK = quotients(next_RK, next_RK[:, :1])
        moved = np.abs(next_RK - share_RK).max() / max(next_RK.max(), 1.0)
        share_RK = next_RK
        if moved < CLOSE:
            break
    return np.where(compared_RK, share_RK, np.nan)
