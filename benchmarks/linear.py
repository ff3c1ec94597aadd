"""The linear item model as a yardstick: everything that a user ever saw, weighed once, whatever the order.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data"): of all item-item weights with a zero diagonal
those that restore the users' rows best under an L2 penalty; a closed form. It knows nothing of order or moment, so it
loses little by being asked late: a model that reads sessions must not be compared with its own stale lists alone.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from benchmarks.arms import Arm
from benchmarks.stream import Questions
from models.learning.dataset import TrainingSet

PENALTY = 500.0
"""The L2 penalty; Steck found 200 to 1,000 for sets of this size."""

TIES = 1e-6
"""What popularity adds: it decides between equal scores, and alone for whoever has seen nothing."""


@dataclass(frozen=True)
class LinearItems(Arm):
    """Scores by what the user has seen of N items: ``weights_NN`` from each of them, ``popular_N`` for ties."""

    weights_NN: np.ndarray
    popular_N: np.ndarray
    name: str = "linear item model"

    @staticmethod
    def fit(training_set: TrainingSet, penalty: float = PENALTY) -> "LinearItems":
        """From every event of the training set. Costs a dense inverse over the items used: of some thousands."""
        shape = (len(training_set.user_ids), len(training_set.catalogue))
        ones_E = np.ones(len(training_set), np.float32)
        seen_UN = sp.csr_matrix((ones_E, (training_set.users, training_set.items)), shape=shape)
        seen_UN.data[:] = 1.0
        used_N = np.asarray(seen_UN.sum(axis=0)).ravel()
        used = np.flatnonzero(used_N)  # an item that nobody used weighs nothing, and nothing weighs for it
        weights_NN = np.zeros((shape[1], shape[1]), np.float32)
        weights_NN[np.ix_(used, used)] = restoring(seen_UN[:, used], penalty)
        return LinearItems(weights_NN, (TIES * used_N / used_N.max()).astype(np.float32))

    def scores(self, asked: Questions) -> np.ndarray:
        """Of the items seen before each moment."""
        scores_BN: np.ndarray = asked.seen_BN.astype(np.float32) @ self.weights_NN
        scores_BN += self.popular_N
        return scores_BN


def restoring(seen_UM: sp.csr_matrix, penalty: float) -> np.ndarray:
    """The M by M weights, zero on the diagonal, that restore the rows best."""
    gram_MM = (seen_UM.T @ seen_UM).toarray().astype(np.float64)
    gram_MM[np.diag_indices_from(gram_MM)] += penalty
    inverse_MM = np.linalg.inv(gram_MM)
    weights_MM: np.ndarray = -inverse_MM / inverse_MM.diagonal()
    weights_MM[np.diag_indices_from(weights_MM)] = 0.0
    return weights_MM
