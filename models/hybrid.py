"""The hybrid: the scores of the network and of the sources beside it, mixed by weights that validation chose.

On top come, where the hybrid has them, the user's preference vector, which moves with every reaction of the user's,
and the live item profile, which moves with everybody's (``attune.item_profile``; the caller hands it over).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from models.baselines import ItemKnn, Popularity
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.network.sequence import SequenceRecommender
from models.ranking.preference import Preference
from models.sources import LIVE, NETWORK, PREFERENCE, SEQUENCE, SOURCES, Part, Source

S = TypeVar("S")


def normalised(scores_BN: np.ndarray, learned: int | None = None) -> np.ndarray:
    """Each row centred on its mean and divided by its largest distance from it, so within [-1, 1].

    This keeps a row's order and the shape of its gaps, and makes parts of other units comparable. A row whose
    scores are all equal says nothing and becomes 0. The scale is that of the first ``learned`` columns (of all if
    None): those stay what they are whatever comes behind them, which is cut off at -1 and 1.
    """
    own_BN = scores_BN[:, :learned]
    mean_B1 = own_BN.mean(axis=1, keepdims=True)
    high_B1, low_B1 = own_BN.max(axis=1, keepdims=True), own_BN.min(axis=1, keepdims=True)
    largest_B1 = np.maximum(high_B1 - mean_B1, mean_B1 - low_B1)
    flat_B1 = largest_B1 <= 1e-6 * np.maximum(np.abs(high_B1), np.abs(low_B1))
    centred_BN = scores_BN - mean_B1
    centred_BN /= np.where(flat_B1, np.inf, largest_B1)
    if own_BN.shape != scores_BN.shape:
        centred_BN[:, learned:] = centred_BN[:, learned:].clip(-1.0, 1.0)
    return centred_BN.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Hybrid:
    """The network and the ``others`` (of ``models.sources.SOURCES``, in that order; popularity is one where it serves).

    ``weights`` are the network's and theirs, 1 in sum; a part of weight 0 is not computed. The parts' sum lies in
    [-1, 1] whoever the user is, so that the policy's temperature means one thing; preference and live profile, in
    [-1, 1] as well, come on top by weights of their own (``live`` is the latter's, 0 for a hybrid that does not use
    it). ``learned`` is how many of the items the parts were fitted to, None for all, see ``extended``.
    Raises ValueError for a weight too many or too few, and for a live weight that is negative or not finite.
    """

    network: SequenceRecommender
    others: tuple[Source, ...]
    weights: tuple[float, ...]
    preference: Preference | None = None
    name: str = "hybrid"
    learned: int | None = None
    live: float = 0.0
    _shared_1N: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.parts):
            raise ValueError(f"{len(self.weights)} weights for the {len(self.parts)} parts {', '.join(self.names)}")
        if not (np.isfinite(self.live) and self.live >= 0):
            raise ValueError(f"the weight of the live profile must be finite and not negative, not {self.live}")
        shared = [(other.name, other.shared_N) for other in self.others]
        rows = {name: normalised(row_N[None], self.learned) for name, row_N in shared if row_N is not None}
        object.__setattr__(self, "_shared_1N", rows)

    def extended(self, more: Catalogue) -> "Hybrid":
        """With the items of ``more`` behind these, known by their attributes; scores of known items do not change."""
        return replace(
            self,
            network=self.network.extended(more),
            others=tuple(other.extended(more) for other in self.others),
            learned=len(self.popularity.weights_N) if self.learned is None else self.learned,
        )

    def with_others(self, *others: Source) -> "Hybrid":
        """With these in place of the sources of their names."""
        named = {other.name: other for other in others}
        return replace(self, others=tuple(named.get(other.name, other) for other in self.others))

    def without_idle(self) -> "Hybrid":
        """Without the sources of weight 0, which cost each fine-tune a fit; item-kNN and popularity, cheap, stay."""
        weighed = zip(self.others, self.weights[1:], strict=True)
        kept = [pair for pair in weighed if pair[1] or isinstance(pair[0], ItemKnn | Popularity)]
        weights = self.weights[0], *(weight for _, weight in kept)
        return replace(self, others=tuple(other for other, _ in kept), weights=weights)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.network, *self.others

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names in bundles and reports."""
        return NETWORK, *(other.name for other in self.others)

    @property
    def source_names(self) -> tuple[str, ...]:
        """The parts' names as sources in slates."""
        return SEQUENCE, *(other.name for other in self.others)

    @property
    def knn(self) -> ItemKnn:
        """Item-kNN. Raises ValueError where the hybrid has none."""
        return self._other(ItemKnn)

    @property
    def popularity(self) -> Popularity:
        """What answers for a user without history. Raises ValueError where the hybrid has none."""
        return self._other(Popularity)

    def _other(self, kind: type[S]) -> S:
        for other in self.others:
            if isinstance(other, kind):
                return other
        raise ValueError(f"the hybrid of {', '.join(self.names)} has no {kind.__name__}")

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN: the weighted sum of the parts' normalised scores."""
        return self.mix(self.sources(batch, self.states(batch)), len(batch))

    def states(self, batch: HistoryBatch) -> np.ndarray:
        """states_BD: the users as the network sees them; the costly half of ``scores``. Without a network (B, 0)."""
        return self.network.states(batch) if self.weights[0] else np.zeros((len(batch), 0), np.float32)

    def sources(
        self, batch: HistoryBatch, states_BD: np.ndarray, live_1N: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What each part says, by the name that a slate gives it: (B, N), or (1, N) where it says the same to all.

        ``live_1N`` is what the live profile says of the items at this moment; without it that source is absent.
        """
        sources: dict[str, np.ndarray] = {}
        if self.weights[0]:
            sources[SEQUENCE] = normalised(self.network.scores_of(states_BD), self.learned)
        if self.preference is not None:
            u_BD = self.preference.vectors(batch, self.network.unit_items_ND)
            sources[PREFERENCE] = self.network.likeness(u_BD)
        for other, weight in zip(self.others, self.weights[1:], strict=True):
            if weight:
                shared_1N = self._shared_1N.get(other.name)
                sources[other.name] = normalised(other.scores(batch), self.learned) if shared_1N is None else shared_1N
        if self.live and live_1N is not None:
            sources[LIVE] = live_1N
        return sources

    @property
    def source_weights(self) -> dict[str, float]:
        """The weight of each source that has one: a user's score of an item is the sum of these by what they say."""
        return {name: weight for name, weight in self._weights().items() if weight}

    def _weights(self) -> dict[str, float]:
        preference = 0.0 if self.preference is None else self.preference.weight
        return {**dict(zip(self.source_names, self.weights, strict=True)), PREFERENCE: preference, LIVE: self.live}

    def mix(self, sources: Mapping[str, np.ndarray], users: int) -> np.ndarray:
        """scores_BN: the weighted sum of what ``sources`` gave for so many users."""
        weights, shape = self._weights(), (users, next(iter(sources.values())).shape[1])
        rows = [np.broadcast_to(scores_BN, shape) for scores_BN in sources.values()]
        return mixed(rows, [weights[name] for name in sources])

    def served(self, batch: HistoryBatch, sources: Mapping[str, np.ndarray]) -> np.ndarray:
        """scores_BN that ``models.recommender`` ranks by: the mix, or without usable history popularity (and live)."""
        scores_BN, unknown_B = self.mix(sources, len(batch)), batch.items_BL[:, -1] == 0
        if unknown_B.any():
            scores_BN[unknown_B] = self.popularity.weights_N
            if LIVE in sources:
                live_BN = np.broadcast_to(sources[LIVE], scores_BN.shape)
                scores_BN[unknown_B] += np.float32(self.live) * live_BN[unknown_B]
        return scores_BN

    def settings(self) -> dict[str, Any]:
        return {
            "weights": list(self.weights),
            **({PREFERENCE: asdict(self.preference)} if self.preference else {}),
            **({LIVE: self.live} if self.live else {}),
            **{name: part.settings() for name, part in zip(self.names, self.parts, strict=True)},
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays of all parts, each name led by its part: ``network/...``, ``item-knn/...``, ``popularity/...``."""
        named = zip(self.names, self.parts, strict=True)
        return {f"{lead}/{name}": array for lead, part in named for name, array in part.tensors().items()}

    @staticmethod
    def restore(catalogue: Catalogue, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Hybrid":
        """What ``settings`` and ``tensors`` gave, over the same catalogue. Raises ValueError for an unknown source."""

        def own(part: str) -> dict[str, np.ndarray]:
            lead = f"{part}/"
            return {name.removeprefix(lead): array for name, array in tensors.items() if name.startswith(lead)}

        unknown = settings.keys() - {"weights", NETWORK, PREFERENCE, LIVE, *SOURCES}
        if unknown:
            raise ValueError(f"unknown sources {sorted(unknown)}: this version knows {', '.join(SOURCES)}")
        return Hybrid(
            SequenceRecommender.restore(catalogue, settings[NETWORK], own(NETWORK)),
            tuple(kind.restore(settings[name], own(name)) for name, kind in SOURCES.items() if name in settings),
            tuple(map(float, settings["weights"])),
            Preference(**settings[PREFERENCE]) if PREFERENCE in settings else None,
            live=float(settings.get(LIVE, 0.0)),
        )


def mixed(normalised_BN: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The weighted sum of normalised scores, float32."""
    total_BN = np.zeros_like(normalised_BN[0])
    for scores_BN, weight in zip(normalised_BN, weights, strict=True):
        if weight:
            total_BN += np.float32(weight) * scores_BN
    return total_BN
