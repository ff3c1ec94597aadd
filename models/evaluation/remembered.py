"""The parts of a hybrid, each asked once a batch though the hybrid and the report both want to know."""

from dataclasses import replace
from typing import Any, cast

import numpy as np

from models.contract import Recommender
from models.history import HistoryBatch
from models.hybrid import Hybrid


class Remembered:
    """A recommender that keeps its latest answer: the same batch object is not scored again."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._asked: HistoryBatch | None = None
        self._answer = np.zeros((0, 0), np.float32)

    @property
    def name(self) -> str:
        """The recommender's."""
        return self._recommender.name

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The recommender's; the caller must not write into them."""
        if batch is not self._asked:
            self._asked, self._answer = batch, self._recommender.scores(batch)
        return self._answer


def remembering(hybrid: Hybrid) -> tuple[Hybrid, tuple[Remembered, ...]]:
    """The same hybrid over parts that remember, and those parts."""
    parts = tuple(Remembered(part) for part in hybrid.parts)
    network, knn, popularity = cast(tuple[Any, Any, Any], parts)
    return replace(hybrid, network=network, knn=knn, popularity=popularity), parts
