"""What a recommender is: a batch of histories as arrays in, scores of the whole catalogue out.

Serving builds the batch from the folded state, training and evaluation from the training set's frame; a test holds
both to the same arrays for the same events. One suite of checks runs over every recommender (tests/models).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from attune.event_types import KINDS

KIND_INDEX: dict[str, int] = {name: place for place, name in enumerate(KINDS, start=1)}
"""Kinds as small integers, 0 is padding. The order is part of the bundle format: append only."""

HISTORY_LIMIT = 200
"""The longest history that any recommender is given: the state holds no more."""


@dataclass(frozen=True)
class HistoryBatch:
    """B users' latest events, oldest first, padded on the left to L places.

    ``items_BL``   int64, catalogue index + 1; 0 is padding. Items that the catalogue lacks and events that were
                   taken back are left out.
    ``kinds_BL``   int64, see ``KIND_INDEX``.
    ``rewards_BL`` float32 in [0, 1] by the reward table; 0.5 at padding.
    ``times_BL``   int64, microseconds; 0 at padding.
    ``item_stats_BLF`` float32, ``attune.columns.ITEM_STATS`` of the event's item (as of the event in training,
                   as of the bundle elsewhere), NaN when unknown.
    ``user_stats_BF`` float32, ``attune.columns.USER_STATS``, NaN when unknown.
    ``now_B``      int64, microseconds: the time of the request.
    """

    items_BL: np.ndarray
    kinds_BL: np.ndarray
    rewards_BL: np.ndarray
    times_BL: np.ndarray
    item_stats_BLF: np.ndarray
    user_stats_BF: np.ndarray
    now_B: np.ndarray

    def __len__(self) -> int:
        return len(self.items_BL)

    def select(self, rows: np.ndarray) -> "HistoryBatch":
        """Those users, in the order of ``rows``, as a batch of their own."""
        return HistoryBatch(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class Recommender(Protocol):
    """Scores the whole catalogue for a batch of histories; ``name`` is the word that reports use for it.

    ``scores`` returns float32 of shape (B, N), N the catalogue's size, finite, higher is better. It depends on
    the batch alone (no hidden state, no randomness), row by row: a row's scores do not depend on the others.
    Removing seen items, drawing and explaining are the pipeline's business, not the recommender's.
    """

    @property
    def name(self) -> str: ...
    def scores(self, batch: HistoryBatch) -> np.ndarray: ...
