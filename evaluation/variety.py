"""What a list is like beside being right: how surprising its items are, and how unlike each other."""

import numpy as np

from models.catalogue import Catalogue
from models.learning.dataset import TrainingSet
from models.network.sequence import ItemAttributes
from models.ranking.preference import unit_rows


def self_information(training_set: TrainingSet) -> np.ndarray:
    """bits_N: minus the binary logarithm of each item's share of the events, one added to every item's count.

    Its mean over a list is the list's novelty (Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma").
    """
    counts_N = np.bincount(training_set.items, minlength=len(training_set.catalogue)) + 1.0
    bits_N: np.ndarray = -np.log2(counts_N / counts_N.sum())
    return bits_N


def genre_vectors(catalogue: Catalogue) -> np.ndarray:
    """vectors_NG, rows of length 1: the items' genres. By no model, so no arm is judged by its own taste."""
    return unit_rows(ItemAttributes.of(catalogue).genres_NG)


def novelty(lists_BK: np.ndarray, bits_N: np.ndarray) -> np.ndarray:
    """The mean self-information of each list's items, in bits; -1 stands for no item, an empty list is worth 0."""
    shown_BK = lists_BK >= 0
    total_B = np.where(shown_BK, bits_N[lists_BK], 0.0).sum(axis=1)
    found_B: np.ndarray = total_B / np.maximum(shown_BK.sum(axis=1), 1)
    return found_B


def diversity(lists_BK: np.ndarray, vectors_ND: np.ndarray) -> np.ndarray:
    """1 - the mean cosine of each list's pairs; a list without a pair is worth 0.

    The pairs' sum comes from the list's own: the square of a sum holds every pair twice and every item once.
    """
    shown_BK = lists_BK >= 0
    vectors_BKD = np.where(shown_BK[..., None], vectors_ND[lists_BK], np.float32(0.0)).astype(np.float64)
    own_B = np.einsum("BKD,BKD->B", vectors_BKD, vectors_BKD)
    whole_B = (vectors_BKD.sum(axis=1) ** 2).sum(axis=1)
    count_B = shown_BK.sum(axis=1)
    pairs_B = count_B * (count_B - 1)
    found_B: np.ndarray = np.where(pairs_B > 0, 1.0 - (whole_B - own_B) / np.maximum(pairs_B, 1), 0.0)
    return found_B
