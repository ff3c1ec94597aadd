"""One bootstrap for everything that is asked of a log.

All estimates share the draws, so that the difference between two of them has an interval as well, and a narrow one.
A replicate draws users, not rows, and forms every ratio anew; see ``models/evaluation/bootstrap.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.evaluation.bootstrap import REPLICATES, Draw, Interval, by_user, percentiles, replicated
from models.evaluation.offpolicy.terms import Terms


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
) -> Replicates:
    """Replicates of every one of the terms, all of the same N rows, by user where there are users.

    Time and memory grow with replicates times users, not with the rows behind them.
    """
    sums_TN = np.stack([part for one in terms.values() for part in (one.plain_N, one.weighted_N, one.norms_N)])
    sums_TU, counts_U = (sums_TN, np.ones(sums_TN.shape[1])) if users_N is None else by_user(users_N, sums_TN)
    sums_RT, counts_R = replicated(sums_TU, counts_U, replicates, seed, draw)
    drawn = {}
    for place, name in enumerate(terms):
        plain_R, weighted_R, norms_R = sums_RT[:, 3 * place : 3 * place + 3].T
        drawn[name] = plain_R / counts_R + np.divide(weighted_R, norms_R, out=np.zeros_like(norms_R), where=norms_R > 0)
    return Replicates({name: one.value for name, one in terms.items()}, drawn, len(counts_U))
