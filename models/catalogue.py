"""The items that a model knows: their ids in a fixed order, their attributes and statistics as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Catalogue:
    """N items; an item's index is its place in ``item_ids``.

    ``genres`` and ``years`` are attributes (an empty tuple, None when unknown), ``titles`` may be empty strings.
    ``stats_NF`` holds the ``attune.columns.ITEM_STATS`` as of the end of the training window, float32, NaN when
    the item had none. ``vectors`` are blocks as of ``models.item_vectors``; a bundle's catalogue has none.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]
    years: tuple[float | None, ...]
    stats_NF: np.ndarray
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    index: dict[str, int] = field(init=False, repr=False, compare=False)
    new_places: np.ndarray = field(init=False, repr=False, compare=False)
    """The places of items without statistics: nobody had used them by the end of the training window."""

    def __post_init__(self) -> None:
        lengths = {len(self.item_ids), len(self.titles), len(self.genres), len(self.years), len(self.stats_NF)}
        if len(lengths) != 1:
            raise ValueError(f"columns of unequal length: {sorted(lengths)}")
        object.__setattr__(self, "index", {item_id: place for place, item_id in enumerate(self.item_ids)})
        object.__setattr__(self, "new_places", np.flatnonzero(np.isnan(self.stats_NF[:, 0])))
        if len(self.index) != len(self.item_ids):
            raise ValueError("an item id stands twice in the catalogue")

    def __len__(self) -> int:
        return len(self.item_ids)

    def extended(self, more: "Catalogue") -> "Catalogue":
        """These items in their places, and those of ``more`` behind them, without vectors.

        Raises ValueError for an item of both.
        """
        both = object.__new__(Catalogue)  # what was checked of these items is not checked again
        for name in ("item_ids", "titles", "genres", "years"):
            object.__setattr__(both, name, getattr(self, name) + getattr(more, name))
        object.__setattr__(both, "stats_NF", np.concatenate([self.stats_NF, more.stats_NF]))
        object.__setattr__(both, "vectors", {})
        object.__setattr__(both, "new_places", np.concatenate([self.new_places, len(self) + more.new_places]))
        index = {item_id: len(self) + place for item_id, place in more.index.items()}
        object.__setattr__(both, "index", self.index | index)
        if len(both.index) != len(both.item_ids):
            raise ValueError("an item id stands in both catalogues")
        return both

    def unused(self, places: np.ndarray) -> "Catalogue":
        """The items at these places alone, with all that is known of them but their statistics."""
        rows = places.tolist()
        return Catalogue(
            item_ids=tuple(self.item_ids[row] for row in rows),
            titles=tuple(self.titles[row] for row in rows),
            genres=tuple(self.genres[row] for row in rows),
            years=tuple(self.years[row] for row in rows),
            stats_NF=np.full((len(rows), self.stats_NF.shape[1]), np.nan, np.float32),
            vectors={name: block_NV[places] for name, block_NV in self.vectors.items()},
        )

    def places(self, item_ids: Sequence[str]) -> np.ndarray:
        """The indices of the ids, int64; -1 for an id that the catalogue does not hold."""
        return np.fromiter((self.index.get(item_id, -1) for item_id in item_ids), np.int64, len(item_ids))
