"""Rules of a slate: callables that say, position after position, which candidates may come next.

Each is a ``models.ranking.policy.Allowed``. They hold no state: one rule may serve many draws at once.
"""

from collections.abc import Sequence

import numpy as np

from models.ranking.policy import Allowed


def at_most_each(holders_E: np.ndarray, values_E: np.ndarray, limits_V: np.ndarray, count: int) -> Allowed:
    """Caps: at most ``limits_V`` items that hold value v (a genre, a maker), for items that may hold several values.

    Candidate ``holders_E[e]`` (of ``count``) holds the value ``values_E[e]``, which is counted from 0; a pair stands
    there once. Who holds nothing is never closed. Each position costs as much as there are pairs, however many values
    there are.

    The caps always hold. Where every candidate holds one value at most they lose nothing: a slate of k has k items
    whenever the candidates hold k under the caps, because a value that fills up never closes another. Where they hold
    several, an item drawn first may close what two others would have needed. A slate of k is then sure to be full when
    k times the most values that one item holds would fit, as it is with a hundred candidates and ordinary caps; below
    that it may end early (caps over p groupings are p matroids, and what cannot be added to has at least 1/p of the
    largest size; Korte and Hausmann 1978, "An analysis of the greedy heuristic for independence systems").
    """
    held, values_E = np.unique(values_E, return_inverse=True)
    limits_V = limits_V[held]

    def allowed(above: Sequence[int]) -> np.ndarray:
        is_above_C, open_C = np.zeros(count, bool), np.ones(count, bool)
        is_above_C[list(above)] = True
        counts_V = np.bincount(values_E[is_above_C[holders_E]], minlength=len(limits_V))
        open_C[holders_E[(counts_V >= limits_V)[values_E]]] = False
        return open_C

    return allowed
