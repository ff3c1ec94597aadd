"""How many items of one value a slate may have: a request's caps as a rule over what the shop's items hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from models.ranking.policy import Allowed
from models.ranking.rules import at_most_each
from serving.shop import Shop

AtMost = Mapping[str, int]
"""For each attribute how many items that share one of its values may stand on one slate."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Is a ``models.ranking.policy.Rule``: goes by what is known of the items at the moment of the shop."""

    shop: Shop
    at_most: AtMost

    def __call__(self, places_C: np.ndarray) -> Allowed:
        """The rule over these items. As for filters, true is not 1; what holds no value is not capped."""
        places, holders, values, limits = places_C.tolist(), [], [], []
        used = 0
        for attribute, limit in self.at_most.items():
            rows, count = self.shop.numbered(places, attribute)
            holders.append(np.repeat(np.arange(len(places)), np.fromiter(map(len, rows), np.int64, len(rows))))
            values.append(np.fromiter(chain.from_iterable(rows), np.int64) + used)
            limits.append(np.full(count, min(limit, len(places))))
            used += count
        return at_most_each(np.concatenate(holders), np.concatenate(values), np.concatenate(limits), len(places))
