"""The candidate sources by name: who scores the catalogue for a user, and how many candidates each may name.

The network (``models.network.sequence``) leads every hybrid. The sources of ``SOURCES`` stand beside it; to add one,
write a class that keeps to ``Source`` in a file of its own and give it a line there. Two more move with what was just
said, without training: the user's preference vector and the live item profile (``models.hybrid``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from models.baselines import ItemKnn, Latest, Measure, Popularity, Tried
from models.catalogue import Catalogue
from models.ease import Ease
from models.history import Recommender
from models.learning.dataset import TrainingSet
from models.network.config import Recipe

NETWORK, SEQUENCE = "network", "sequence"
"""The network's name in bundles and reports, and in slates."""

PREFERENCE, LIVE = "preference", "live"
"""The sources that move with what was just said: by the user, and by everybody."""

MIX = "mix"
"""The source of a candidate that no quota brought: it is among the best by the mixed score."""

NEW = "new"
"""The source of items that nobody had used when the model was trained: the best of them by the mixed score."""

Settings = Mapping[str, Any]
Tensors = Mapping[str, np.ndarray]


class Part(Recommender, Protocol):
    """A recommender that can be written down: ``settings`` are JSON values, ``tensors`` arrays by name."""

    def settings(self) -> dict[str, Any]: ...
    def tensors(self) -> dict[str, np.ndarray]: ...


class Source(Part, Protocol):
    """A fitted source beside the network."""

    @property
    def shared_N(self) -> np.ndarray | None:
        """The scores, where they are the same for everybody; else None."""

    def refit(self, known: TrainingSet) -> Self:
        """With the settings that validation chose, fitted to other events."""

    def extended(self, more: Catalogue) -> Self:
        """With the items of ``more`` behind those that it was fitted to."""


@dataclass(frozen=True)
class SourceKind:
    """``quota`` candidates at most; chosen and fitted by ``choose``, read back from a bundle by ``restore``."""

    quota: int
    choose: Callable[[TrainingSet, Recipe, Measure], tuple[Source, Tried]]
    restore: Callable[[Settings, Tensors], Source]


SOURCES: Mapping[str, SourceKind] = {
    "item-knn": SourceKind(20, ItemKnn.choose, ItemKnn.restore),
    "popularity": SourceKind(5, Popularity.choose, Popularity.restore),
    "ease": SourceKind(20, Ease.choose, Ease.restore),
    "latest": SourceKind(5, Latest.choose, Latest.restore),
}
"""In the order of a hybrid's weights, which the network's leads. A bundle holds those that it was trained with."""

QUOTAS: Mapping[str, int] = {
    SEQUENCE: 20,
    PREFERENCE: 10,
    **{name: kind.quota for name, kind in SOURCES.items()},
    LIVE: 10,
    NEW: 5,
}
"""How many candidates each source names, of the policy's depth."""

SILENT_AT_ZERO = frozenset({PREFERENCE, LIVE})
"""Sources whose 0 says that nothing is known of an item: they name only what stands above it."""
