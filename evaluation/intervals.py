"""How sure a figure is: the bootstrap over users (one user's events are not independent of each other).

A replicate draws as many users as there are, with replacement, and takes all events of each draw: a ratio of the users'
sums (Field and Welsh 2007, "Bootstrapping clustered data"). The seed is fixed, so that a judgement can be repeated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.metrics import Evaluation, values

REPLICATES = 2000
_BLOCK = 4_000_000

Draw = Callable[[int, int], np.ndarray]
"""How users are drawn: (replicates, users) to places below ``users``, int64 (replicates, users)."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; with fewer than two users the interval is infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """``a - b`` and ``a / b - 1`` on the same events and replicates; ``rows`` counts of each user at most the cap."""

    absolute: Interval
    relative: Interval
    users: int
    rows: int


def interval(
    evaluation: Evaluation, metric: str, part: str = "all", replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """The metric of a slice and its interval, clustered by user."""
    users, value_E = values(evaluation, metric, part)
    sums_SU, counts_U = by_user(users, value_E[None, :])
    sums_RS, counts_R = replicated(sums_SU, counts_U, replicates, seed)
    value = quotients(sums_SU.sum(1), counts_U.sum())[0]
    return percentiles(value, quotients(sums_RS[:, 0], counts_R), len(counts_U))


def paired(a: Evaluation, b: Evaluation, metric: str, part: str = "all", cap: float = np.inf) -> Paired:
    """The differences of a metric between two replays of the same events; ``cap`` as in ``by_user``.

    Raises ValueError when the two did not judge the same events.
    """
    if not np.array_equal(a.events["position"].to_numpy(), b.events["position"].to_numpy()):
        raise ValueError(f"{a.name} and {b.name} were not judged on the same events")
    users, a_E = values(a, metric, part)
    b_E = values(b, metric, part)[1]
    defined = ~(np.isnan(a_E) | np.isnan(b_E))
    sums_SU, counts_U = by_user(users[defined], np.stack([a_E[defined], b_E[defined]]), cap)
    sums_RS, counts_R = replicated(sums_SU, counts_U, REPLICATES, 0)
    of_a, of_b = (quotients(sums_SU[s].sum(), counts_U.sum()) for s in (0, 1))
    drawn_a, drawn_b = (quotients(sums_RS[:, s], counts_R) for s in (0, 1))
    return Paired(
        absolute=percentiles(float(of_a - of_b), drawn_a - drawn_b, len(counts_U)),
        relative=percentiles(float(_relative(of_a, of_b)), _relative(drawn_a, drawn_b), len(counts_U)),
        users=len(counts_U),
        rows=int(counts_U.sum()),
    )


def by_user(users: np.ndarray, value_SE: np.ndarray, cap: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """The sums of each row of values and the count of defined ones, by user; both shrink to ``cap`` rows a user."""
    names, place_E = np.unique(users.astype(str), return_inverse=True)
    defined_E = ~np.isnan(value_SE).any(axis=0)
    sums = [np.bincount(place_E[defined_E], row[defined_E], minlength=len(names)) for row in value_SE]
    counts_U = np.bincount(place_E[defined_E], minlength=len(names)).astype(np.float64)
    counted_U = np.minimum(counts_U, cap)
    return np.stack(sums) * (counted_U / np.maximum(counts_U, 1.0)), counted_U


def replicated(
    sums_SU: np.ndarray, counts_U: np.ndarray, replicates: int, seed: int, draw: Draw | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The sums (R, S) and counts (R) of each replicate; ``draw`` takes the place of the draws of the seed."""
    rng, users = np.random.default_rng(seed), len(counts_U)
    draw = draw or (lambda rows, below: rng.integers(0, below, size=(rows, below)))
    stacked_UX = np.concatenate([sums_SU, counts_U[None, :]]).T
    totals_RX = np.zeros((replicates, stacked_UX.shape[1]))
    rows = max(_BLOCK // max(users, 1), 1)
    for start in range(0, replicates if users else 0, rows):
        stop = min(start + rows, replicates)
        drawn = draw(stop - start, users) + np.arange(stop - start)[:, None] * users
        times_RU = np.bincount(drawn.ravel(), minlength=(stop - start) * users).reshape(-1, users)
        totals_RX[start:stop] = times_RU @ stacked_UX
    return totals_RX[:, :-1], totals_RX[:, -1]


def quotients(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, in the shape of ``above``; 0 where ``below`` is not positive."""
    return np.divide(above, below, out=np.zeros_like(np.asarray(above, float)), where=np.asarray(below) > 0)


def _relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b - 1; from nothing to nothing is no change, from nothing to something is infinite."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b != 0, a / b - 1.0, np.where(a == 0, 0.0, np.inf))


def percentiles(value: float, drawn: np.ndarray, users: int, level: float = 0.95) -> Interval:
    """The value with what lies between the replicates' quantiles; infinite with fewer than two users."""
    if users < 2:
        return Interval(float(value), -np.inf, np.inf)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(value), float(low), float(high))


def confidence_sequence(value_U: np.ndarray, level: float, narrowest: int, least_users: int) -> Interval:
    """The mean of one value a user (U,) with an interval that may be looked at as often as one likes while users come.

    A usual 95 % interval misses the truth once in twenty looks; a confidence sequence covers it at all numbers of users
    at once. This is the asymptotic one of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), "Time-uniform central
    limit theory and asymptotic confidence sequences", theorem 2.2: after n independent users of mean m and standard
    deviation s it is

        m +- s sqrt(2 (n rho^2 + 1) / (n^2 rho^2) log(sqrt(n rho^2 + 1) / alpha))

    with probability 1 - alpha for all n together, narrowest at about ``narrowest`` users, for which rho is chosen, and
    infinite below ``least_users``: the theorem speaks of many. A user's value must stay while others come.

    It covers one version against one champion, as its hold-out grows; docs/adr/0005-gates.md says why nothing corrects
    for many versions. Raises ValueError for a level outside (0, 1) and for what is not finite.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if not np.isfinite(value_U).all():
        raise ValueError("a user's value is not finite")
    count = len(value_U)
    if count < least_users:
        return Interval(float(value_U.mean()) if count else 0.0, -math.inf, math.inf)
    alpha = 1 - level
    rho_squared = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / narrowest
    grown = count * rho_squared + 1
    half = math.sqrt(2 * grown / (count**2 * rho_squared) * math.log(math.sqrt(grown) / alpha))
    mean, spread = float(value_U.mean()), float(value_U.std(ddof=1))
    return Interval(mean, mean - half * spread, mean + half * spread)


def counted(users_E: np.ndarray, cap: float) -> np.ndarray:
    """What each row (E,) counts, in (0, 1]: one user's together at most ``cap``, so that nobody decides alone."""
    _, place_E, rows_U = np.unique(users_E.astype(str), return_inverse=True, return_counts=True)
    return np.minimum(1.0, cap / rows_U)[place_E]


def capped_mean(value_E: np.ndarray, users_E: np.ndarray, cap: float) -> float:
    """The mean over rows, each counted as ``counted`` says. Raises ZeroDivisionError where there are none."""
    return float(np.average(value_E, weights=counted(users_E, cap)))
