"""What every recommender is: one contract, and one suite of checks over all of them (tests/models)."""

from typing import Protocol

import numpy as np

from models.history import HistoryBatch


class Recommender(Protocol):
    """Scores the whole catalogue for a batch of histories.

    ``scores`` returns float32 of shape (B, N), N the catalogue's size, finite, higher is better. It depends on
    the batch alone (no hidden state, no randomness), row by row: a row's scores do not depend on the others.
    Removing seen items, drawing and explaining are the pipeline's business, not the recommender's.
    """

    @property
    def name(self) -> str:
        """The word that reports use for it."""
        ...

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN for every item of the catalogue."""
        ...
