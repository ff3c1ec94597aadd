"""What answers when no model does: the counts of the event log, in the shape of a bundle.

It goes through the same pipeline as a champion, so its propensities are as exact and its slates as useful.
"""

import copy
from collections.abc import Sequence

import numpy as np

from attune.columns import ITEM_STATS
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.ranking.policy import PlackettLuce
from serving.catalogue_snapshot import Shelf

POLICY = PlackettLuce(temperature=0.5, depth=100)
"""Scores are log-counts: at 0.5 an item's chance grows with the square of its count."""


UNUSED = 0.5
"""What an item counts that is described in the log and that nobody used yet: less than one that somebody did."""


class Popular:
    """Items by number of behaviour events; ``hybrid`` and ``popularity`` are the same."""

    name = "popularity"
    policy = POLICY

    def __init__(self, counts: Sequence[tuple[str, int]]) -> None:
        """``counts`` pairs item ids with positive numbers."""
        size = len(counts)
        stats_NF = np.full((size, len(ITEM_STATS)), np.nan, np.float32)
        stats_NF[:, 0] = [count for _, count in counts]
        self.catalogue = Catalogue(
            item_ids=tuple(item_id for item_id, _ in counts),
            titles=("",) * size,
            genres=((),) * size,
            years=(None,) * size,
            stats_NF=stats_NF,
        )
        self._scores_N = np.log(np.array([count for _, count in counts], np.float64)).astype(np.float32)
        self.shelf = Shelf(self)

    def extended(self, more: Catalogue) -> "Popular":
        """With items behind these that nobody used yet."""
        found = copy.copy(self)
        found.catalogue = self.catalogue.extended(more)
        found._scores_N = np.append(self._scores_N, np.full(len(more), np.log(UNUSED), np.float32))
        return found

    @property
    def hybrid(self) -> "Popular":
        """The recommender for users with a history."""
        return self

    @property
    def popularity(self) -> "Popular":
        """The recommender for users without."""
        return self

    @property
    def likeness_ND(self) -> np.ndarray:
        """Nothing is known of the items but their counts: no two are alike."""
        return np.zeros((len(self.catalogue), 1), np.float32)

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The logarithm of every item's count, for every user: scores_BN, float32."""
        return np.tile(self._scores_N, (len(batch), 1))
