"""Rules of a slate: callables that say, position after position, which candidates may come next.

Each is a ``models.ranking.policy.Allowed``. They hold no state: one rule may serve many draws at once.
"""

from collections.abc import Sequence

import numpy as np

from models.ranking.policy import Allowed

NO_GROUP = -1
"""The group of an item that belongs to none: no cap applies to it. Every negative number means the same."""


def at_most(groups_C: np.ndarray, limit: int) -> Allowed:
    """A cap: at most ``limit`` items of each group (one genre, one maker), whatever the order of the draw.

    ``groups_C`` (int, C) names each candidate's group, negative for none. The cap always holds: a slate of k has k
    items whenever the candidates hold k under the cap (``room``), because a group that fills up never closes another;
    where they hold fewer, the slate has that many and ends there. Raises ValueError for a negative limit.
    """
    if limit < 0:
        raise ValueError(f"a limit must not be negative, not {limit}")
    labels_G, group_C = np.unique(np.maximum(groups_C, NO_GROUP), return_inverse=True)
    limit_G = np.where(labels_G == NO_GROUP, len(group_C), limit)

    def allowed(above: Sequence[int]) -> np.ndarray:
        counts_G = np.bincount(group_C[list(above)], minlength=len(labels_G))
        open_C: np.ndarray = (counts_G < limit_G)[group_C]
        return open_C

    return allowed


def at_most_each(holders_E: np.ndarray, values_E: np.ndarray, limits_V: np.ndarray, count: int) -> Allowed:
    """Many caps as one rule, for items that may hold several values: at most ``limits_V`` items that hold value v.

    Candidate ``holders_E[e]`` (of ``count``) holds the value ``values_E[e]``, which is counted from 0; a pair stands
    there once. Who holds nothing is never closed. The caps always hold; as with ``all_of`` an item drawn first may
    close what two others would have needed, unless every candidate holds one value at most. Each position costs as
    much as there are pairs, however many values there are.
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


def all_of(*rules: Allowed) -> Allowed:
    """What every one of the rules allows; at least one rule.

    All of them always hold, and one cap loses nothing (``at_most``). Several caps over different groups can: the item
    drawn first may close what two others would have needed. A slate of k is then sure to be full when k times the
    number of caps would fit under them all, as it is with a hundred candidates and ordinary caps; below that it may
    end early (p caps are p matroids, and what cannot be added to has at least 1/p of the largest size; Korte and
    Hausmann 1978, "An analysis of the greedy heuristic for independence systems").
    """
    if not rules:
        raise ValueError("no rule was given")
    first, *others = rules

    def allowed(above: Sequence[int]) -> np.ndarray:
        open_C = first(above)
        for rule in others:
            open_C = open_C & rule(above)
        return open_C

    return allowed


def room(groups_C: np.ndarray, limit: int) -> int:
    """How many of the candidates fit under ``at_most`` together: the longest slate that they can give.

    Where it is less than the slate that was asked for, a deeper search is needed and no other draw will do.
    """
    grouped = groups_C[groups_C >= 0]
    counts_G = np.unique(grouped, return_counts=True)[1]
    return int(np.minimum(counts_G, limit).sum()) + len(groups_C) - len(grouped)
