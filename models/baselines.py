"""Recommenders that count: popularity, the latest items, item-kNN. Hard to beat on sparse data, and quick to refit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import scipy.sparse as sp

from attune.clock import DAY, MINUTE
from attune.event_types import VERDICTS
from models.catalogue import Catalogue
from models.history import KIND_INDEX, HistoryBatch, Recommender
from models.learning.dataset import MARKS_SEEN, TrainingSet, ranges
from models.network.config import Recipe

Measure = Callable[[Recommender], float]
"""The objective of a recommender on validation; the first option with the largest one is chosen."""

Tried = list[dict[str, Any]]
"""A row for each option: its settings and its ``objective``."""

_IS_VERDICT = np.isin(np.arange(len(KIND_INDEX) + 1), [KIND_INDEX[name] for name in VERDICTS])


def votes(kinds: np.ndarray, rewards: np.ndarray, slope: float) -> np.ndarray:
    """What each event says for its item, float32 of the same shape.

    Verdicts say their centred reward ``2 r - 1``; other kinds ``1 + slope (2 r - 1)``, since even a low rating is
    a sign of interest in things of that sort; padding and kinds that are no use of the item (an impression) say 0.
    """
    centred = 2.0 * rewards - 1.0
    vote = np.where(_IS_VERDICT[kinds], centred, 1.0 + slope * centred)
    return np.where(MARKS_SEEN[kinds], vote, 0.0).astype(np.float32)


def uses(training_set: TrainingSet) -> np.ndarray:
    """What each event says of its item in popularity, times what its user may count (E,), float64.

    A verdict says its centred reward, so that dislikes push down, any other use its reward.
    """
    rewards = training_set.rewards.astype(np.float64)
    said = np.where(_IS_VERDICT[training_set.kinds], 2.0 * rewards - 1.0, rewards)
    return np.asarray(training_set.influence_E * said)


C = TypeVar("C")

USES_OF_THE_SHORTEST, HALF_LIFE_STEP = 100, 4.0
WITHOUT_END = 1e5
"""Days: a half-life at which nothing in a log is older than anything else."""


def half_lives(training_set: TrainingSet) -> tuple[float, ...]:
    """Half-lives in days on the data's own scale, the longest first: ``WITHOUT_END``, then the span of the events.

    Each is a quarter of the one before, down to the time in which ``USES_OF_THE_SHORTEST`` events come on average, at
    least a minute: fewer make no ranking.
    """
    span = float(np.ptp(training_set.times)) / DAY if len(training_set) else 0.0
    shortest = max(span * USES_OF_THE_SHORTEST / max(len(training_set), 1), MINUTE / DAY)
    count = int(np.log(max(span / shortest, 1.0)) / np.log(HALF_LIFE_STEP)) + 1 if span else 0
    return (WITHOUT_END, *(float(f"{span / HALF_LIFE_STEP**power:.3g}") for power in range(count)))


def along_axes(
    kind: Callable[..., C], axes: Mapping[str, Sequence[Any]], objective: Callable[[C], float], **fixed: Any
) -> tuple[C, Tried]:
    """Settings chosen one after another from the first of each, every one with the best of those before it, and all
    that was tried."""
    chosen = kind(**{name: values[0] for name, values in axes.items()}, **fixed)
    measured: dict[C, float] = {}

    def known(choice: C) -> float:
        if choice not in measured:
            measured[choice] = objective(choice)
        return measured[choice]

    for name, values in axes.items():
        if len(values) > 1:
            chosen = max((replace(chosen, **{name: value}) for value in values), key=known)  # type: ignore[type-var]
    return chosen, [{**vars(choice), "objective": value} for choice, value in measured.items()]


@dataclass(frozen=True)
class SharedScores(ABC):
    """Scores in [-1, 1] that are the same for everybody, halved with an age of ``half_life_days``."""

    weights_N: np.ndarray
    half_life_days: float

    @classmethod
    @abstractmethod
    def fit(cls, training_set: TrainingSet, half_life_days: float) -> Self:
        """From what counts in the training set; "now" is its latest event."""

    @classmethod
    def choose(cls, learned: TrainingSet, recipe: Recipe, measure: Measure) -> tuple[Self, Tried]:
        """By the half-life that predicts the validation window best, and all that was tried."""
        fitted = [cls.fit(learned, days) for days in recipe.popularity_days or half_lives(learned)]
        tried = [{"half_life_days": option.half_life_days, "objective": measure(option)} for option in fitted]
        return fitted[int(np.argmax([row["objective"] for row in tried]))], tried

    def refit(self, known: TrainingSet) -> Self:
        return self.fit(known, self.half_life_days)

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    def shared_N(self) -> np.ndarray:
        return self.weights_N

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        return np.repeat(self.weights_N[None], len(batch), axis=0)

    def extended(self, more: Catalogue) -> Self:
        """With the items of ``more`` behind these, which nobody used yet: they weigh nothing."""
        return replace(self, weights_N=np.concatenate([self.weights_N, np.zeros(len(more), self.weights_N.dtype)]))

    def settings(self) -> dict[str, Any]:
        return {"half_life_days": self.half_life_days}

    def tensors(self) -> dict[str, np.ndarray]:
        return {"weights_N": self.weights_N}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Self:
        return cls(tensors["weights_N"], **settings)


@dataclass(frozen=True)
class Popularity(SharedScores):
    """Items by their latest uses: what people say of them.

    Who counts, and how much, is ``attune.influence``'s: of one user and item the last event.
    """

    name: str = "popularity"

    @classmethod
    def fit(cls, training_set: TrainingSet, half_life_days: float) -> Self:
        rows, _ = training_set.counted
        age = (training_set.times.max(initial=0) - training_set.times[rows]) / DAY
        amount = uses(training_set)[rows] * 0.5 ** (age / half_life_days)
        weights_N = np.bincount(training_set.items[rows], amount, len(training_set.catalogue))
        return cls((weights_N / max(weights_N.max(initial=0.0), 1e-12)).clip(-1.0).astype(np.float32), half_life_days)


@dataclass(frozen=True)
class Latest(SharedScores):
    """The newest items, by the first use that counts; an item that nobody used is not known to be new and has 0."""

    name: str = "latest"

    @classmethod
    def fit(cls, training_set: TrainingSet, half_life_days: float) -> Self:
        uses_E = np.flatnonzero(training_set.influence_E)
        first_N = np.full(len(training_set.catalogue), np.iinfo(np.int64).max)
        np.minimum.at(first_N, training_set.items[uses_E], training_set.times[uses_E])
        age_N = np.maximum((training_set.times.max(initial=0) - first_N) / DAY, 0.0)
        used_N = first_N < np.iinfo(np.int64).max
        return cls(np.where(used_N, 0.5 ** (age_N / half_life_days), 0.0).astype(np.float32), half_life_days)


@dataclass(frozen=True)
class KnnChoice:
    """What of item-kNN is chosen on validation; see ``KnnGrid``."""

    window: int
    shrinkage: float
    history: int
    decay: float
    slope: float
    neighbours: int


class VoteChoice(Protocol):
    """How the events of a history vote: so many of the latest ones, see ``KnnGrid``."""

    @property
    def history(self) -> int: ...
    @property
    def decay(self) -> float: ...
    @property
    def slope(self) -> float: ...


V = TypeVar("V", bound=VoteChoice)


@dataclass(frozen=True)
class ItemToItem(Generic[V]):
    """The user's latest events vote for the items that their row of ``similarity_NN`` names."""

    similarity_NN: sp.csr_matrix
    choice: V

    @property
    def shared_N(self) -> None:
        """None: everybody has scores of their own."""

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN: the weighted sum of the neighbours' similarities; negative after dislikes."""
        crop = slice(-self.choice.history, None)
        items_BL = batch.items_BL[:, crop]
        recency_L = self.choice.decay ** np.arange(items_BL.shape[1] - 1, -1, -1)
        vote_BL = votes(batch.kinds_BL[:, crop], batch.rewards_BL[:, crop], self.choice.slope) * recency_L
        table = self.similarity_NN
        scores_BN = np.zeros((len(batch), table.shape[0]), np.float32)
        for scores_N, items_L, vote_L in zip(scores_BN, items_BL, vote_BL, strict=True):
            used = items_L > 0
            rows = items_L[used] - 1
            lengths = np.diff(table.indptr)[rows]
            flat = ranges(table.indptr[rows], lengths)  # for one user quicker than scipy's product
            values = np.repeat(vote_L[used], lengths) * table.data[flat]
            scores_N[:] = np.bincount(table.indices[flat], values, len(scores_N))
        return scores_BN

    def extended(self, more: Catalogue) -> Self:
        """With the items of ``more`` behind these, near nothing yet; the similarities are shared, not copied."""
        old = self.similarity_NN
        count = old.shape[0] + len(more)
        indptr = np.concatenate([old.indptr, np.full(len(more), old.indptr[-1], old.indptr.dtype)])
        return replace(self, similarity_NN=sp.csr_matrix((old.data, old.indices, indptr), shape=(count, count)))

    def settings(self) -> dict[str, Any]:
        return dict(vars(self.choice))

    def tensors(self) -> dict[str, np.ndarray]:
        table = self.similarity_NN
        pointers, indices = table.indptr.astype(np.int64), table.indices.astype(np.int32)
        return {"indptr": pointers, "indices": indices, "values": table.data.astype(np.float32)}


def stored_table(tensors: Mapping[str, np.ndarray]) -> sp.csr_matrix:
    """The similarities that ``ItemToItem.tensors`` gave."""
    count = len(tensors["indptr"]) - 1
    return sp.csr_matrix((tensors["values"], tensors["indices"], tensors["indptr"]), shape=(count, count))


@dataclass(frozen=True)
class ItemKnn(ItemToItem[KnnChoice]):
    """Item to item by co-occurrence: the user's latest events vote for the items that stood near theirs.

    Two items co-occur when a user used both within ``window`` events, counted ``NEARNESS`` to the power of the
    distance. Similarity is the cosine with shrinkage, ``c_ij / (sqrt(n_i n_j) + shrinkage)``; a row keeps the
    ``neighbours`` strongest. Verdicts count with their sign, so what one likes and another dislikes moves apart.
    Of each user count the reactions that ``attune.influence`` lets count: one an item.
    """

    name: str = "item-knn"

    @staticmethod
    def fit(training_set: TrainingSet, choice: KnnChoice) -> "ItemKnn":
        return ItemKnn.from_counts(cooccurrence(training_set, choice.window), usage(training_set), choice)

    @staticmethod
    def choose(learned: TrainingSet, recipe: Recipe, measure: Measure) -> tuple["ItemKnn", Tried]:
        """By settings chosen one after another, each with the best of those before it, and all that was tried."""
        grid = recipe.knn
        axes: dict[str, tuple[Any, ...]] = {
            "window": grid.windows,
            "shrinkage": grid.shrinkages,
            "history": grid.histories,
            "decay": grid.decays,
            "slope": grid.slopes,
        }
        counts = {window: cooccurrence(learned, window) for window in grid.windows}
        used_N = usage(learned)
        fitted: dict[tuple[int, float], ItemKnn] = {}

        def knn(choice: KnnChoice) -> ItemKnn:
            key = (choice.window, choice.shrinkage)
            if key not in fitted:
                fitted[key] = ItemKnn.from_counts(counts[choice.window], used_N, choice)
            return replace(fitted[key], choice=choice)

        chosen, tried = along_axes(KnnChoice, axes, lambda choice: measure(knn(choice)), neighbours=grid.neighbours)
        return knn(chosen), tried

    def refit(self, known: TrainingSet) -> "ItemKnn":
        return ItemKnn.fit(known, self.choice)

    @staticmethod
    def from_counts(counts_NN: sp.csr_matrix, usage_N: np.ndarray, choice: KnnChoice) -> "ItemKnn":
        """From ``cooccurrence`` and ``usage``, which are the same for every choice with one window."""
        pairs = counts_NN.tocoo()
        expected = np.sqrt(usage_N[pairs.row] * usage_N[pairs.col])
        strength = (pairs.data / (expected + choice.shrinkage)).astype(np.float32)
        order = np.lexsort((pairs.col, -np.abs(strength), pairs.row))
        row = pairs.row[order]
        keep = order[np.arange(len(row)) - np.searchsorted(row, row) < choice.neighbours]
        values = (strength[keep], (pairs.row[keep], pairs.col[keep]))
        similarity_NN = sp.csr_matrix(values, shape=counts_NN.shape)
        similarity_NN.sort_indices()
        return ItemKnn(similarity_NN, choice)

    @staticmethod
    def restore(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "ItemKnn":
        return ItemKnn(stored_table(tensors), KnnChoice(**settings))


NEARNESS = 0.95  # the weight of a co-occurrence one event further apart; chosen on validation, see docs/lab-notes.md
_DISTANCES_AT_ONCE = 10


def cooccurrence(training_set: TrainingSet, window: int) -> sp.csr_matrix:
    """counts_NN, symmetric, zero on the diagonal: how often, and how near, two items stand in one user's events.

    A pair weighs the geometric mean of what its two events may count.
    """
    count = len(training_set.catalogue)
    weights_E = np.zeros(len(training_set))
    weights_E[training_set.counted[0]] = training_set.counted[1]
    rows = training_set.by_user[weights_E[training_set.by_user] > 0]
    users, items = training_set.users[rows], training_set.items[rows]
    vote = votes(training_set.kinds[rows], training_set.rewards[rows], slope=0.0) * np.sqrt(weights_E[rows])
    total = sp.csr_matrix((count, count), dtype=np.float32)
    for nearest in range(1, window + 1, _DISTANCES_AT_ONCE):
        first, second, weight = [], [], []
        for distance in range(nearest, min(nearest + _DISTANCES_AT_ONCE, window + 1)):
            same = users[distance:] == users[:-distance]
            first.append(items[:-distance][same])
            second.append(items[distance:][same])
            weight.append((vote[:-distance] * vote[distance:])[same] * NEARNESS ** (distance - 1))
        pairs = (np.concatenate(first), np.concatenate(second))
        total = total + sp.csr_matrix((np.concatenate(weight).astype(np.float32), pairs), shape=(count, count))
    counts_NN = (total + total.T).tocsr()
    counts_NN.setdiag(0)
    counts_NN.eliminate_zeros()
    return counts_NN


def usage(training_set: TrainingSet) -> np.ndarray:
    """usage_N, float32: how many people used each item, a verdict counting as much as it says."""
    rows, weights = training_set.counted
    vote = np.abs(votes(training_set.kinds[rows], training_set.rewards[rows], slope=0.0)) * weights
    return np.bincount(training_set.items[rows], vote, len(training_set.catalogue)).astype(np.float32)
