"""How many items of one value a slate may have: caps as rules that say which candidates may take the next position.

Each rule is a ``models.ranking.policy.Allowed``. It holds no state and may serve many draws at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from models.ranking.policy import Allowed
from serving.catalogue_snapshot import CatalogueSnapshot

AtMost = Mapping[str, int]
"""For each attribute how many items that share one of its values may stand on one slate."""


def at_most_each(holders_E: np.ndarray, values_E: np.ndarray, limits_V: np.ndarray, count: int) -> Allowed:
    """Caps: at most ``limits_V`` items that hold value v (a genre, a maker), for items that may hold several values.

    Candidate ``holders_E[e]`` (of ``count``) holds the value ``values_E[e]``, which is counted from 0; a pair stands
    there once. A candidate that holds nothing is never closed. The cost of a position grows with the pairs, not with
    the values.

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


@dataclass(frozen=True, slots=True)
class Caps:
    """A request's caps over what the items of a snapshot hold; a ``models.ranking.policy.Rule``."""

    snapshot: CatalogueSnapshot
    at_most: AtMost

    def __call__(self, places_C: np.ndarray) -> Allowed:
        """The rule over these items. As for filters, true is not 1; what holds no value is not capped."""
        places, holders, values, limits = places_C.tolist(), [], [], []
        first = 0
        for attribute, limit in self.at_most.items():
            rows, count = self.snapshot.numbers.of(self.snapshot, places, attribute)
            holders.append(np.repeat(np.arange(len(places)), np.fromiter(map(len, rows), np.int64, len(rows))))
            values.append(np.fromiter(chain.from_iterable(rows), np.int64) + first)
            limits.append(np.full(count, min(limit, len(places))))
            first += count
        return at_most_each(np.concatenate(holders), np.concatenate(values), np.concatenate(limits), len(places))
