"""A hybrid and its parts, the costly work done once a batch though the hybrid and each part are to be measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.contract import Recommender
from models.history import HistoryBatch
from models.hybrid import SOURCES, Hybrid


class RememberedHybrid:
    """The hybrid, which keeps what its sources said of the latest batch: the same object is not scored again."""

    def __init__(self, hybrid: Hybrid) -> None:
        self.hybrid = hybrid
        self.name = hybrid.name
        self._asked: HistoryBatch | None = None
        self._states_BD = np.zeros((0, 0), np.float32)
        self._sources: dict[str, np.ndarray] = {}

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The hybrid's as they are served: who has no usable history is answered by its popularity."""
        return self.hybrid.served(batch, self.sources(batch))

    def sources(self, batch: HistoryBatch) -> dict[str, np.ndarray]:
        """``Hybrid.sources``; the caller must not write into them."""
        self._ask(batch)
        return self._sources

    def states(self, batch: HistoryBatch) -> np.ndarray:
        """``Hybrid.states``; the caller must not write into them."""
        self._ask(batch)
        return self._states_BD

    def _ask(self, batch: HistoryBatch) -> None:
        if batch is not self._asked:
            self._asked, self._states_BD = batch, self.hybrid.states(batch)
            self._sources = self.hybrid.sources(batch, self._states_BD)


@dataclass(frozen=True)
class RememberedPart:
    """One part alone: its scores as the hybrid normalised them, which ranks the same, or its own where it has none."""

    whole: RememberedHybrid
    source: str
    part: Any

    @property
    def name(self) -> str:
        """The part's."""
        return str(self.part.name)

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The part's; the caller must not write into them."""
        found = self.whole.sources(batch).get(self.source)
        if found is None:
            found = self.part.scores(batch)
        return np.broadcast_to(found, (len(batch), found.shape[1]))


def remembering(hybrid: Hybrid) -> tuple[RememberedHybrid, tuple[Recommender, ...]]:
    """The same hybrid, and its parts; in one thread."""
    whole = RememberedHybrid(hybrid)
    return whole, tuple(RememberedPart(whole, *one) for one in zip(SOURCES, hybrid.parts, strict=True))
