"""One bootstrap for everything that is asked of a log.

All estimates share the draws, so that the difference between two of them has an interval as well, and a narrow one.
A replicate draws users, not rows, and forms every ratio anew; see ``evaluation/intervals.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.intervals import REPLICATES, Draw, Interval, by_user, percentiles, replicated
from evaluation.offpolicy.estimators import Terms, value_of


@dataclass(frozen=True)
class Replicates:
    """Named values with their R replicates each, of a log with so many users."""

    values: Mapping[str, float]
    drawn: Mapping[str, np.ndarray]
    users: int

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """The percentile interval of a value."""
        return percentiles(self.values[name], self.drawn[name], self.users, level)

    def difference(self, one: str, other: str, level: float = 0.95) -> Interval:
        """The interval of ``one - other``, paired draw by draw."""
        drawn_R = self.drawn[one] - self.drawn[other]
        return percentiles(self.values[one] - self.values[other], drawn_R, self.users, level)


def bootstrap(
    terms: Mapping[str, Terms],
    users_N: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    draw: Draw | None = None,
    counts_N: np.ndarray | None = None,
) -> Replicates:
    """Replicates of every one of the terms, all of the same N rows, by user where there are users.

    Rows count for ``counts_N`` (see ``counts_of``; by default each for one), in every sum and in the number of rows.
    Time and memory grow with replicates times users, not with the rows behind them.
    """
    sums_TN = np.stack([part for one in terms.values() for part in (one.plain_N, one.weighted_N, one.norms_N)])
    counts_N = np.ones(sums_TN.shape[1]) if counts_N is None else counts_N
    counted_TN = np.concatenate([sums_TN * counts_N, counts_N[None, :]])
    counted_TU = counted_TN if users_N is None else by_user(users_N, counted_TN)[0]
    sums_RT, counts_R = replicated(counted_TU[:-1], counted_TU[-1], replicates, seed, draw)
    totals_T, values, drawn = counted_TN.sum(axis=1), {}, {}
    for place, name in enumerate(terms):
        own = slice(3 * place, 3 * place + 3)
        (plain, weighted, norms), (plain_R, weighted_R, norms_R) = totals_T[own], sums_RT[:, own].T
        values[name] = float(value_of(plain, weighted, norms, totals_T[-1]))
        drawn[name] = value_of(plain_R, weighted_R, norms_R, counts_R)
    return Replicates(values, drawn, counted_TU.shape[1])
