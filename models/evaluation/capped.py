"""So that no account decides alone: where one user counts for so many rows at most, what each row counts.

Of a user with more rows than the cap each counts for less, as in ``models.evaluation.bootstrap.by_user``, which sums.
"""

import numpy as np


def counted(users_E: np.ndarray, cap: float) -> np.ndarray:
    """What each row (E,) counts, above 0 and at most 1: those of one user together at most ``cap``."""
    _, place_E, rows_U = np.unique(users_E.astype(str), return_inverse=True, return_counts=True)
    counted_E: np.ndarray = np.minimum(1.0, cap / rows_U)[place_E]
    return counted_E


def capped_mean(found_E: np.ndarray, users_E: np.ndarray, cap: float) -> float:
    """The mean over rows, each counted as ``counted`` says. Raises ZeroDivisionError where there are none."""
    return float(np.average(found_E, weights=counted(users_E, cap)))
