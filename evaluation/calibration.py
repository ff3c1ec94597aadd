"""Whether chances are what they are called: of all that was given a chance of 0.3, did about 0.3 come true?

Of a hybrid the network alone gives probabilities. It learns by the softmax over the whole catalogue, or by a sampled
one whose correction makes it an estimate of the whole (``models.learning.fit``), and each target counts as much as
it is to be foreseen (``models.learning.batches.target_weights``: a dislike not at all). So the softmax of its scores
over the items that a user had not seen is the chance that the next is this one, among targets that count so much. Two
statements about each are held against what came: the chance of the first choice, and that of the ten best together,
which is to HR@10 what a forecast is to the weather. The scores of item-kNN, of popularity and of the mix have no such
meaning.

The expected calibration error (Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using
Bayesian binning") is the mean distance of chance and share over bins; here of equal mass, as Nixon et al. (2019),
"Measuring calibration in deep learning", find steadier.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.intervals import REPLICATES, Interval, by_user, counted, percentiles, replicated
from evaluation.replay import Questions, RememberedHybrid
from models.history import HistoryBatch
from models.learning.batches import target_weights
from models.metrics import CUT, Chances, Evaluation
from models.ranking.retrieval import mask, top_k_rows

BINS = 10
"""What the error is a mean over, and so part of its definition: no limit."""

FORETOLD = ("challenger", "champion")

TARGETS = 5_000
"""About so many targets of a hold-out are asked after, in groups that are spread evenly over it."""


class Foretelling:
    """Looks on while a hybrid is replayed, and keeps what its network foretells of some groups."""

    def __init__(self, whole: RememberedHybrid, floor: float, events: int) -> None:
        """``floor`` is the recipe's ``reward_floor``, ``events`` how many the replay goes over at most."""
        self.whole, self.floor, self.every = whole, floor, max(round(events / TARGETS), 1)
        self._taken: list[tuple[np.ndarray, ...]] = []

    def take(self, asked: Questions, batch: HistoryBatch) -> None:
        """The chances of a batch; the states that the hybrid was scored by are used again."""
        is_asked_B = np.zeros(len(batch), bool)
        is_asked_B[asked.row_T] = True
        rows = np.flatnonzero(is_asked_B & (asked.group_B % self.every == 0))
        if not self.whole.hybrid.weights[0] or not len(rows):
            return
        place_B = np.full(len(batch), -1)
        place_B[rows] = np.arange(len(rows))
        seen, of_T = place_B[asked.row_S] >= 0, np.flatnonzero(place_B[asked.row_T] >= 0)
        logits_BN = self.whole.hybrid.network.scores_of(self.whole.states(batch)[rows])
        masked_BN = mask(logits_BN, place_B[asked.row_S[seen]], asked.seen_S[seen])
        first_B, ten_B, lists_BK = _foretold(masked_BN)
        row_T, item_T = place_B[asked.row_T[of_T]], asked.item_T[of_T]
        hit_TK = (lists_BK[row_T] == item_T[:, None]) & (item_T[:, None] >= 0)
        self._taken.append(
            (
                asked.position_T[of_T],
                asked.user_B[asked.row_T[of_T]],
                target_weights(asked.kind_T[of_T], asked.reward_T[of_T], self.floor).astype(np.float64),
                first_B[row_T],
                hit_TK[:, 0],
                ten_B[row_T],
                hit_TK.any(axis=1),
            )
        )

    def chances(self) -> Chances | None:
        """Everything taken, in the order of time; None for a hybrid whose network has no weight, and of nothing."""
        if not self._taken:
            return None
        columns = [np.concatenate(one) for one in zip(*self._taken, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        return Chances(*(column[order] for column in columns))


def _foretold(masked_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row's softmax the largest chance and the sum of the ten largest, and the places of these (-1: none)."""
    lists_BK = np.full((len(masked_BN), CUT), -1)
    for row, best in enumerate(top_k_rows(masked_BN, CUT)):
        lists_BK[row, : len(best)] = best
    weights_BN = np.exp(masked_BN.astype(np.float64) - masked_BN.max(axis=1, keepdims=True))
    chances_BK = np.take_along_axis(weights_BN, np.maximum(lists_BK, 0), axis=1) * (lists_BK >= 0)
    chances_BK /= weights_BN.sum(axis=1, keepdims=True)
    return chances_BK[:, 0], chances_BK.sum(axis=1), lists_BK


def bins(chance_E: np.ndarray, weight_E: np.ndarray) -> np.ndarray:
    """The bin of each chance, from 0, in the order of the chances: as heavy as each other."""
    order = np.argsort(chance_E, kind="stable")
    middle_E = np.cumsum(weight_E[order]) - weight_E[order] / 2
    bin_E = np.empty(len(chance_E), np.int64)
    bin_E[order] = np.minimum(middle_E * BINS / max(weight_E.sum(), 1e-12), BINS - 1).astype(np.int64)
    return bin_E


def reliability(chance_E: np.ndarray, came_E: np.ndarray, weight_E: np.ndarray) -> list[dict[str, float]]:
    """A row a bin: the mean ``chance`` that was given, the ``share`` that came true, and how many ``targets``."""
    bin_E = bins(chance_E, weight_E)
    heavy = [chosen_E for one in range(BINS) if weight_E[chosen_E := bin_E == one].any()]
    return [
        {
            "chance": float(np.average(chance_E[chosen_E], weights=weight_E[chosen_E])),
            "share": float(np.average(came_E[chosen_E], weights=weight_E[chosen_E])),
            "targets": int((weight_E[chosen_E] > 0).sum()),
        }
        for chosen_E in heavy
    ]


def calibration_error(chance_E: np.ndarray, came_E: np.ndarray, weight_E: np.ndarray) -> float:
    """The mean over all targets of how far their bin's share is from its mean chance; 0 of none."""
    return float(_errors(_gaps(chance_E, came_E, weight_E).sum(axis=1)[None])[0])


def error_change(challenger: Chances, champion: Chances, cap: float = np.inf, seed: int = 0) -> Interval:
    """How much larger the challenger's error of the ten best is than the champion's, by the bootstrap over users.

    The bins stay while users are drawn. Noise makes an error larger than it is, of both by about as much, so that it
    falls out of the difference. ``cap`` is the most targets that one user counts for, in the edges of the bins too.
    Raises ValueError when the two did not foretell the same targets.
    """
    if not np.array_equal(challenger.positions_E, champion.positions_E):
        raise ValueError("the two did not foretell the same targets")
    counted_E = counted(challenger.users_E, cap)
    both = (_gaps(one.ten_E, one.in_ten_E, one.weights_E * counted_E) for one in (challenger, champion))
    sums_SU, counts_U = by_user(challenger.users_E, np.concatenate(list(both)))
    drawn_RS, _ = replicated(sums_SU, counts_U, REPLICATES, seed)
    value, drawn_R = (
        np.subtract(*map(_errors, np.split(sums_RS, 2, axis=1))) for sums_RS in (sums_SU.sum(axis=1)[None], drawn_RS)
    )
    return percentiles(float(value[0]), drawn_R, len(counts_U))


def _gaps(chance_E: np.ndarray, came_E: np.ndarray, weight_E: np.ndarray) -> np.ndarray:
    """Of each target (bins + 1, E) its weighed chance less what came, in the row of its bin, and last its weight."""
    gaps_SE = np.zeros((BINS + 1, len(chance_E)))
    gaps_SE[bins(chance_E, weight_E), np.arange(len(chance_E))] = weight_E * (chance_E - came_E)
    gaps_SE[BINS] = weight_E
    return gaps_SE


def _errors(sums_RS: np.ndarray) -> np.ndarray:
    """The error of each replicate, from the sums of what ``_gaps`` gave; 0 where no target weighs anything."""
    total_R = sums_RS[:, BINS]
    gaps_R = np.abs(sums_RS[:, :BINS]).sum(axis=1)
    return np.divide(gaps_R, total_R, out=np.zeros(len(sums_RS)), where=total_R > 0)


def curves(replays: Mapping[str, Evaluation]) -> dict[str, Any]:
    """By who foretold: the targets, both errors, and the reliability of the ten best, as JSON values.

    Left out is who gave chances that are no numbers.
    """
    return {
        who: {
            "targets": int((one.weights_E > 0).sum()),
            "error_first": calibration_error(one.first_E, one.is_first_E, one.weights_E),
            "error_ten": calibration_error(one.ten_E, one.in_ten_E, one.weights_E),
            "reliability": reliability(one.ten_E, one.in_ten_E, one.weights_E),
        }
        for who in FORETOLD
        if who in replays and (one := replays[who].chances) is not None and np.isfinite(one.ten_E).all()
    }
