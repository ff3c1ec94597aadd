"""The hybrid: the network's, item-kNN's and popularity's scores, mixed by weights that validation chose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from models.baselines import ItemKnn, Popularity
from models.catalogue import Catalogue
from models.contract import Recommender
from models.history import HistoryBatch
from models.network.sequence import SequenceRecommender

PARTS = ("network", "item-knn", "popularity")


class Part(Recommender, Protocol):
    """A recommender that can be written down."""

    def settings(self) -> dict[str, Any]:
        """JSON values."""
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays by name."""
        ...


def normalised(scores_BN: np.ndarray) -> np.ndarray:
    """Each row centred on its mean and divided by its largest distance from it, so within [-1, 1].

    This keeps a row's order and the shape of its gaps, and makes parts of other units comparable. A row whose
    scores are all equal says nothing and becomes 0.
    """
    mean_B1 = scores_BN.mean(axis=1, keepdims=True)
    high_B1, low_B1 = scores_BN.max(axis=1, keepdims=True), scores_BN.min(axis=1, keepdims=True)
    largest_B1 = np.maximum(high_B1 - mean_B1, mean_B1 - low_B1)
    flat_B1 = largest_B1 <= 1e-6 * np.maximum(np.abs(high_B1), np.abs(low_B1))
    found_BN = scores_BN - mean_B1
    found_BN /= np.where(flat_B1, np.inf, largest_B1)
    return found_BN.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Hybrid:
    """``weights`` (network, item-kNN, popularity) add up to 1; a part of weight 0 is not computed.

    Scores lie in [-1, 1] whoever the user is, so that the policy's temperature means one thing.
    """

    network: SequenceRecommender
    knn: ItemKnn
    popularity: Popularity
    weights: tuple[float, float, float]
    name: str = "hybrid"
    _popular_1N: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_popular_1N", normalised(self.popularity.weights_N[None]))

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """The recommenders in the order of the weights."""
        return self.network, self.knn, self.popularity

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN: the weighted sum of the parts' normalised scores."""
        return self.scores_of(batch, self.states(batch))

    def states(self, batch: HistoryBatch) -> np.ndarray:
        """states_BD: the users as the network sees them; the costly half of ``scores``. Without a network (B, 0)."""
        return self.network.states(batch) if self.weights[0] else np.zeros((len(batch), 0), np.float32)

    def scores_of(self, batch: HistoryBatch, states_BD: np.ndarray) -> np.ndarray:
        """``scores`` of users whose ``states`` are known already."""
        network, knn, popularity = self.weights
        found_BN = []
        if network:
            found_BN.append((normalised(self.network.scores_of(states_BD)), network))
        if knn:
            found_BN.append((normalised(self.knn.scores(batch)), knn))
        if popularity:
            found_BN.append((np.repeat(self._popular_1N, len(batch), axis=0), popularity))
        return mixed([scores_BN for scores_BN, _ in found_BN], [weight for _, weight in found_BN])

    def settings(self) -> dict[str, Any]:
        """What ``restore`` needs beside the tensors, as JSON values."""
        return {
            "weights": list(self.weights),
            **{name: part.settings() for name, part in zip(PARTS, self.parts, strict=True)},
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays of all parts, each name led by its part: ``network/...``, ``item-knn/...``, ``popularity/...``."""
        named = zip(PARTS, self.parts, strict=True)
        return {f"{part}/{name}": array for part, one in named for name, array in one.tensors().items()}

    @staticmethod
    def restore(catalogue: Catalogue, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Hybrid":
        """What ``settings`` and ``tensors`` gave, over the same catalogue."""

        def own(part: str) -> dict[str, np.ndarray]:
            lead = f"{part}/"
            return {name[len(lead) :]: array for name, array in tensors.items() if name.startswith(lead)}

        network, knn, popularity = settings["weights"]
        return Hybrid(
            SequenceRecommender.restore(catalogue, settings["network"], own("network")),
            ItemKnn.restore(settings["item-knn"], own("item-knn")),
            Popularity.restore(settings["popularity"], own("popularity")),
            (float(network), float(knn), float(popularity)),
        )


def mixed(normalised_BN: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """The weighted sum of normalised scores, float32."""
    total_BN = np.zeros_like(normalised_BN[0])
    for scores_BN, weight in zip(normalised_BN, weights, strict=True):
        total_BN += np.float32(weight) * scores_BN
    return total_BN
