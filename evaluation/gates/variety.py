"""How surprising are the items of a list, and how unlike each other?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.intervals import capped_mean
from models.catalogue import Catalogue
from models.learning.dataset import TrainingSet
from models.network.sequence import ItemAttributes
from models.ranking.preference import unit_rows


@dataclass(frozen=True)
class Variety(Gate):
    """Novelty is by use before the hold-out, diversity by genres: by no model, so that none judges its own taste."""

    variety_share: float = 0.8
    """Relative: the shares of the champion's diversity and novelty that must be kept."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        if case.champion is None:
            return
        training_set = case.training_set
        lists = []
        for name in ("challenger", "champion"):
            places_N = training_set.catalogue.places(case.bundles[name].catalogue.item_ids)
            lists.append(np.append(places_N, -1)[case.replays[name].lists_GK])  # -1, which stands for no item, stays
        if not len(lists[0]):
            yield from (not_applicable(name, "there are no lists") for name in ("diversity", "novelty"))
            return
        users_G = case.replays["challenger"].groups["user_id"].to_numpy()  # both had the same groups
        vectors_NG = genre_vectors(training_set.catalogue)
        bits_N = self_information(training_set.select(training_set.times <= case.after))
        for name, measure, table in (("diversity", diversity, vectors_NG), ("novelty", novelty, bits_N)):
            means = (capped_mean(measure(lists_GK, table), users_G, case.limits.user_cap) for lists_GK in lists)
            yield self.verdict(name, *means)

    def verdict(self, name: str, measured: float, of_champion: float) -> Verdict:
        limit = self.variety_share * of_champion
        note = f"mean over the ten best of each group; the champion's {of_champion:.4f}"
        return Verdict(name, limit, measured, passes(measured >= limit), note)


def self_information(training_set: TrainingSet) -> np.ndarray:
    """bits_N: minus the binary logarithm of each item's share of the events, one added to every item's count.

    Its mean over a list is the list's novelty (Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma").
    """
    counts_N = np.bincount(training_set.items, minlength=len(training_set.catalogue)) + 1.0
    return -np.log2(counts_N / counts_N.sum())


def genre_vectors(catalogue: Catalogue) -> np.ndarray:
    """vectors_NG, rows of length 1: the items' genres."""
    return unit_rows(ItemAttributes.of(catalogue).genres_NG)


def novelty(lists_BK: np.ndarray, bits_N: np.ndarray) -> np.ndarray:
    """The mean self-information of each list's items, in bits; -1 stands for no item, an empty list is worth 0."""
    shown_BK = lists_BK >= 0
    total_B = np.where(shown_BK, bits_N[lists_BK], 0.0).sum(axis=1)
    return total_B / np.maximum(shown_BK.sum(axis=1), 1)


def diversity(lists_BK: np.ndarray, vectors_ND: np.ndarray) -> np.ndarray:
    """1 - the mean cosine of each list's pairs; a list without a pair is worth 0."""
    shown_BK = lists_BK >= 0
    vectors_BKD = np.where(shown_BK[..., None], vectors_ND[lists_BK], np.float32(0.0)).astype(np.float64)
    own_B = np.einsum("BKD,BKD->B", vectors_BKD, vectors_BKD)
    whole_B = (vectors_BKD.sum(axis=1) ** 2).sum(axis=1)  # every pair twice and every item once
    count_B = shown_BK.sum(axis=1)
    pairs_B = count_B * (count_B - 1)
    return np.where(pairs_B > 0, 1.0 - (whole_B - own_B) / np.maximum(pairs_B, 1), 0.0)
