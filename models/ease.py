"""EASE, the linear item model: the weights from item to item that restore the users' rows best.

Of all item-item weights with a zero diagonal under an L2 penalty, in closed form (Steck 2019, "Embarrassingly shallow
autoencoders for sparse data"). It knows nothing of order or moment.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from attune.errors import ModelError
from models.baselines import ItemToItem, Measure, Tried, along_axes, stored_table, votes
from models.learning.dataset import TrainingSet
from models.network.config import Recipe

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EaseChoice:
    """What of EASE is chosen on validation, and how large it is; see ``models.network.config.EaseGrid``."""

    penalty: float
    history: int
    decay: float
    slope: float
    neighbours: int
    items: int


@dataclass(frozen=True)
class Ease(ItemToItem[EaseChoice]):
    """EASE of the ``items`` most used items, whose rows keep the ``neighbours`` strongest weights; others have none.

    Who counts, and how much, is ``attune.influence``'s; verdicts count with their sign.
    """

    name: str = "ease"

    @staticmethod
    def fit(training_set: TrainingSet, choice: EaseChoice) -> "Ease":
        return Ease.from_gram(*gram(training_set, choice.items), len(training_set.catalogue), choice)

    @staticmethod
    def choose(learned: TrainingSet, recipe: Recipe, measure: Measure) -> tuple["Ease", Tried]:
        """By settings chosen one after another, each with the best of those before it, and all that was tried."""
        grid = recipe.ease
        axes: dict[str, tuple[Any, ...]] = {
            "penalty": grid.penalties,
            "history": grid.histories,
            "decay": grid.decays,
            "slope": grid.slopes,
        }
        gram_MM, places_M = gram(learned, grid.items)
        if len(places_M) == grid.items < len(learned.catalogue):
            LOG.info("EASE takes the %d most used items of %d: see EaseGrid.items", grid.items, len(learned.catalogue))

        fitted: dict[float, Ease] = {}

        def ease(choice: EaseChoice) -> Ease:
            if choice.penalty not in fitted:
                fitted[choice.penalty] = Ease.from_gram(gram_MM, places_M, len(learned.catalogue), choice)
            return replace(fitted[choice.penalty], choice=choice)

        size = {"neighbours": grid.neighbours, "items": grid.items}
        chosen, tried = along_axes(EaseChoice, axes, lambda choice: measure(ease(choice)), **size)
        return ease(chosen), tried

    def refit(self, known: TrainingSet) -> "Ease":
        return Ease.fit(known, self.choice)

    @staticmethod
    def from_gram(gram_MM: np.ndarray, places_M: np.ndarray, count: int, choice: EaseChoice) -> "Ease":
        """From what ``gram`` gives, of a catalogue of ``count`` items."""
        if not len(places_M):
            return Ease(sp.csr_matrix((count, count), dtype=np.float32), choice)
        weights_MM = ease_weights(gram_MM, choice.penalty)
        kept = min(choice.neighbours, len(places_M) - 1)
        best_MK = np.argpartition(-np.abs(weights_MM), kept, axis=1)[:, :kept]
        values = np.take_along_axis(weights_MM, best_MK, axis=1).ravel()
        rows, columns = np.repeat(places_M, kept), places_M[best_MK.ravel()]
        similarity_NN = sp.csr_matrix((values, (rows, columns)), shape=(count, count))
        similarity_NN.sort_indices()
        return Ease(similarity_NN, choice)

    @staticmethod
    def restore(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Ease":
        return Ease(stored_table(tensors), EaseChoice(**settings))


def gram(training_set: TrainingSet, most: int) -> tuple[np.ndarray, np.ndarray]:
    """gram_MM, float32, of the ``most`` most used items (equal use: in catalogue order), and their places (M,).

    An item that only one user used is none of them: nothing can be said of it.
    """
    rows, weights = training_set.counted
    vote = votes(training_set.kinds[rows], training_set.rewards[rows], slope=0.0) * np.sqrt(weights).astype(np.float32)
    used_N = np.bincount(training_set.items[rows], minlength=len(training_set.catalogue))
    places_M = np.sort(np.argsort(-used_N, kind="stable")[: min(most, int((used_N > 1).sum()))])
    column_N = np.full(len(used_N), -1)
    column_N[places_M] = np.arange(len(places_M))
    columns = column_N[training_set.items[rows]]
    known = columns >= 0
    votes_UM = sp.csr_matrix(
        (vote[known], (training_set.users[rows][known], columns[known])),
        shape=(len(training_set.user_ids), len(places_M)),
    )
    return (votes_UM.T @ votes_UM).toarray(), places_M


def ease_weights(gram_MM: np.ndarray, penalty: float) -> np.ndarray:
    """weights_MM, zero on the diagonal, of the dtype of ``gram_MM``. Raises ModelError for too small a penalty."""
    factor, inverse = lapack.get_lapack_funcs(("potrf", "potri"), (gram_MM,))
    penalised_MM = gram_MM + penalty * np.eye(len(gram_MM), dtype=gram_MM.dtype)
    factor_MM, failed = factor(penalised_MM, overwrite_a=True)
    if failed:
        raise ModelError(f"EASE cannot be solved with the penalty {penalty:g}: choose a larger one")
    upper_MM = np.triu(inverse(factor_MM, overwrite_c=True)[0])
    weights_MM: np.ndarray = -(upper_MM + np.triu(upper_MM, 1).T) / upper_MM.diagonal()
    weights_MM[np.diag_indices_from(weights_MM)] = 0.0
    return weights_MM
