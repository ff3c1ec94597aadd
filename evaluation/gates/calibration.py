"""Of all that was given a chance of 0.3, did about 0.3 come true?

Of a hybrid the network alone gives chances (``evaluation.hold_out.ChanceRecorder``). Targets count by their weight in
training. Two chances of each are compared with what came: that of the first choice, and of the ten best together.

The expected calibration error (Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using
Bayesian binning") is the mean distance of chance and share over bins; here of equal mass, as Nixon et al. (2019),
"Measuring calibration in deep learning", find steadier.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.intervals import REPLICATES, Interval, by_user, counted, percentiles, quotients, replicated
from models.metrics import Chances, Evaluation

BINS = 10
"""What the error is a mean over, and so part of its definition: no limit."""

FORECASTERS = ("challenger", "champion")


@dataclass(frozen=True)
class Calibration(Gate):
    """The chances that the network gives are about what comes true, or hardly further from it than the champion's.

    Honest models are too sure when times change: so neither a large error alone nor a small change of it fails.
    """

    calibration_error: float = 0.1
    """Absolute: how far the network's chances may be from what comes true, on average, whatever the champion's are."""
    calibration_change: float = 0.05
    """Absolute: above that, how much further than the champion's they may be: the difference's lower bound counts."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        yield self.of_replays(case.replays, case.limits.user_cap)

    def of_replays(self, replays: Mapping[str, Evaluation], cap: float) -> Verdict:
        """Of the chances that challenger and champion gave, where they gave any."""
        ours, theirs = (replays[name].chances if name in replays else None for name in FORECASTERS)
        if ours is None:
            return not_applicable("calibration", "no part that has a weight in its mix gives probabilities")
        weights_E = ours.weights_E * counted(ours.users_E, cap)
        error = calibration_error(ours.ten_E, ours.in_ten_E, weights_E)
        return self.verdict(error, None if theirs is None else error_change(ours, theirs, cap))

    def verdict(self, error: float, change: Interval | None) -> Verdict:
        """``change`` is the error's difference to the champion's, None where there is none to compare with."""
        limit = self.calibration_error
        note = "mean distance between the chance of the ten best, by the network, and the share that came true"
        if change is None:
            note += "; no champion gives any"
            return Verdict("calibration", limit, error, "not_applicable", note, at_most=True)
        note += f"; more than the champion's by {change.value:.4f} [{change.low:.4f}, {change.high:.4f}]"
        fails = (error > limit and change.low > self.calibration_change) or math.isnan(error)
        return Verdict("calibration", limit, error, passes(not fails), note, at_most=True)


def bins(chance_E: np.ndarray, weight_E: np.ndarray) -> np.ndarray:
    """The bin of each chance, from 0: bins of equal weight, in the order of the chances."""
    order = np.argsort(chance_E, kind="stable")
    middle_E = np.cumsum(weight_E[order]) - weight_E[order] / 2
    bin_E = np.empty(len(chance_E), np.int64)
    bin_E[order] = np.minimum(middle_E * BINS / max(weight_E.sum(), 1e-12), BINS - 1).astype(np.int64)
    return bin_E


def reliability(chance_E: np.ndarray, came_E: np.ndarray, weight_E: np.ndarray) -> list[dict[str, float]]:
    """A row a bin: the mean ``chance`` that was given, the ``share`` that came true, and how many ``targets``."""
    bin_E = bins(chance_E, weight_E)
    return [
        {
            "chance": float(np.average(chance_E[chosen_E], weights=weight_E[chosen_E])),
            "share": float(np.average(came_E[chosen_E], weights=weight_E[chosen_E])),
            "targets": int((weight_E[chosen_E] > 0).sum()),
        }
        for place in range(BINS)
        if weight_E[chosen_E := bin_E == place].any()
    ]


def calibration_error(chance_E: np.ndarray, came_E: np.ndarray, weight_E: np.ndarray) -> float:
    """The mean over all targets of how far their bin's share is from its mean chance; 0 of none."""
    return float(_errors(_gaps(chance_E, came_E, weight_E).sum(axis=1)[None])[0])


def error_change(challenger: Chances, champion: Chances, cap: float = np.inf) -> Interval:
    """How much larger the challenger's error of the ten best is than the champion's, by the bootstrap over users.

    The bins stay while users are drawn. ``cap`` is the most targets that one user counts for, in the edges of the bins
    too. Raises ValueError when the two did not foretell the same targets.
    """
    if not np.array_equal(challenger.positions_E, champion.positions_E):
        raise ValueError("the two did not foretell the same targets")
    counted_E = counted(challenger.users_E, cap)
    both = (_gaps(who.ten_E, who.in_ten_E, who.weights_E * counted_E) for who in (challenger, champion))
    sums_SU, counts_U = by_user(challenger.users_E, np.concatenate(list(both)))
    drawn_RS, _ = replicated(sums_SU, counts_U, REPLICATES, 0)
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
    """The error of each replicate from the sums of ``_gaps``; 0 where no target weighs anything."""
    return quotients(np.abs(sums_RS[:, :BINS]).sum(axis=1), sums_RS[:, BINS])


def curves(replays: Mapping[str, Evaluation]) -> dict[str, Any]:
    """By who gave finite chances: the targets, both errors, and the reliability of the ten best, as JSON values."""
    given = {who: replays[who].chances for who in FORECASTERS if who in replays}
    return {
        who: {
            "targets": int((chances.weights_E > 0).sum()),
            "error_first": calibration_error(chances.first_E, chances.is_first_E, chances.weights_E),
            "error_ten": calibration_error(chances.ten_E, chances.in_ten_E, chances.weights_E),
            "reliability": reliability(chances.ten_E, chances.in_ten_E, chances.weights_E),
        }
        for who, chances in given.items()
        if chances is not None and np.isfinite(chances.ten_E).all()
    }
