"""How sure a figure is: the bootstrap over users (one user's events are not independent of each other).

A replicate draws as many users as there are, with replacement, and takes all events of each draw: a ratio of the users'
sums (Field and Welsh 2007, "Bootstrapping clustered data"). The seed is fixed, so that a judgement can be repeated.

Figures and their differences have studentised intervals: how far a replicate lies from the figure is counted in the
replicate's own standard error (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", 12.5). Among few users,
of whom some lose much, the plain quantiles of the replicates lie too high; ``python -m benchmarks evidence`` counts how
often, and from how many users on these intervals can be believed.
"""

import math
from collections.abc import Callable, Sequence
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
    """``a - b`` and ``a / b - 1`` on the same events and replicates; ``rows`` counts of each user at most the cap.

    ``effective`` is how many equal users they are worth.
    """

    absolute: Interval
    relative: Interval
    users: int
    rows: int
    effective: float


def interval(
    evaluation: Evaluation, metric: str, part: str = "all", replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """The metric of a slice and its interval, clustered by user."""
    users, value_E = values(evaluation, metric, part)
    sums_SU, counts_U = by_user(users, value_E[None, :])
    return ratios([(sums_SU[0], counts_U)], replicates, seed)[0]


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
    a_U, b_U = sums_SU
    return paired_sums(a_U, b_U, counts_U)


def paired_sums(a_U: np.ndarray, b_U: np.ndarray, counts_U: np.ndarray, replicates: int = REPLICATES) -> Paired:
    """The same from each user's sums of the two and counts of rows."""
    absolute, relative = ratios([(a_U - b_U, counts_U), (a_U - b_U, b_U)], replicates, 0)
    return Paired(
        absolute=absolute,
        relative=relative,
        users=len(counts_U),
        rows=int(counts_U.sum()),
        effective=effective(counts_U),
    )


def effective(counts_U: np.ndarray) -> float:
    """How many equal users these are worth, by what each counts: (sum w)^2 / sum w^2 (Kish 1965); 0 of none."""
    return float(counts_U.sum() ** 2 / max((counts_U**2).sum(), 1e-12))


def ratios(pairs: Sequence[tuple[np.ndarray, np.ndarray]], replicates: int, seed: int) -> list[Interval]:
    """``sum(above) / sum(below)`` of each pair of users' sums (U,), on the same draws, with its studentised interval.

    Nothing over nothing is 0, something over nothing is infinite. A replicate in which nobody differs is measured by
    the standard error of the whole.
    """
    users = len(pairs[0][0])
    columns = [np.stack([a, b, a * a, a * b, b * b]) for a, b in pairs]
    whole_C = np.concatenate(columns).sum(axis=1) if users else np.zeros(5 * len(pairs))
    drawn_RC, _ = replicated(np.concatenate(columns), np.zeros(users), replicates, seed)
    return [
        _studentised(whole_C[None, start : start + 5], drawn_RC[:, start : start + 5], users)
        for start in range(0, 5 * len(pairs), 5)
    ]


def _studentised(whole_1C: np.ndarray, drawn_RC: np.ndarray, users: int) -> Interval:
    (value,), (error,) = (figures.tolist() for figures in _ratio(whole_1C))
    if users < 2:
        return Interval(value, -math.inf, math.inf)
    if not error:  # nobody differs, or it is infinite
        return Interval(value, value, value)
    value_R, error_R = _ratio(drawn_RC)
    distance_R = (value_R - value) / np.where(error_R > 0, error_R, error)
    near, far = np.quantile(distance_R, [0.025, 0.975], method="inverted_cdf").tolist()
    return Interval(value, value - far * error, value - near * error)


def _ratio(sums_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratio (R,) of each row of (a, b, aa, ab, bb), and its linearised standard error, 0 where there is none."""
    a_R, b_R, aa_R, ab_R, bb_R = sums_RC.T
    known_R = b_R > 0
    value_R = quotients(a_R, b_R)
    squares_R = aa_R - 2 * value_R * ab_R + value_R**2 * bb_R
    squares_R[squares_R < 1e-12 * (aa_R + value_R**2 * bb_R)] = 0.0  # what rounding leaves of no difference
    return np.where(known_R | (a_R == 0), value_R, np.inf), quotients(np.sqrt(squares_R), b_R)


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
