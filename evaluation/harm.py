"""Whether a challenger harms somebody: slice by slice against the champion, corrected for looking at many of them.

Of each slice the hypothesis "the relative change is not below the floor" is tested by the bootstrap over users; Holm
(1979), "A simple sequentially rejective multiple test procedure", keeps the chance of one false alarm among all slices
below the level. A slice that is not rejected has not been shown to be harmed: with few users that says little, and the
gate's note says how many there were.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.intervals import REPLICATES, Interval, by_user, percentiles, replicated
from evaluation.limits import GateLimits
from models.metrics import Evaluation, values


@dataclass(frozen=True)
class Harm:
    """One slice: the relative change with the interval at Holm's level for it, and whether it is below the floor."""

    change: Interval
    users: int
    events: int
    is_harmed: bool


_Change = tuple[float, np.ndarray, int]
"""The relative change, its replicates (R,), the number of users."""


def harms(
    challenger: Evaluation,
    champion: Evaluation,
    slices_E: Mapping[str, np.ndarray],
    limits: GateLimits,
    seed: int = 0,
) -> dict[str, Harm]:
    """Each slice's ``Harm``, in their order. Left out are slices of too few users, or with nothing to compare with, and
    the last ones where there are too many.

    ``slices_E`` are masks over the events of both evaluations, which judged the same ones. Raises ValueError where the
    two did not judge the same events.
    """
    if not np.array_equal(challenger.events["position"].to_numpy(), champion.events["position"].to_numpy()):
        raise ValueError(f"{challenger.name} and {champion.name} were not judged on the same events")
    users_E, ours_E = values(challenger, limits.metric)
    found_SE = np.stack([ours_E, values(champion, limits.metric)[1]])
    tested: dict[str, _Change] = {}
    for name, mask_E in slices_E.items():
        one = _changes(users_E[mask_E], found_SE[:, mask_E], limits, seed)
        if one is not None:
            tested[name] = one
        if len(tested) == limits.slices.most:
            break
    chances = {
        name: (1 + (drawn_R >= limits.slice_change).sum()) / (1 + len(drawn_R))
        for name, (_, drawn_R, _) in tested.items()
    }
    levels, rejected = holm(chances, limits.slices.level)
    return {
        name: Harm(
            change=percentiles(value, drawn_R, users, 1 - 2 * levels[name]),
            users=users,
            events=int(slices_E[name].sum()),
            is_harmed=name in rejected,
        )
        for name, (value, drawn_R, users) in tested.items()
    }


def holm(chances: Mapping[str, float], level: float) -> tuple[dict[str, float], set[str]]:
    """The level at which each is tested, and which are rejected: the least likely first, until one stands."""
    levels, rejected, stands = {}, set[str](), False
    for place, name in enumerate(sorted(chances, key=lambda one: (chances[one], one))):
        levels[name] = level / (len(chances) - place)
        stands = stands or chances[name] > levels[name]
        if not stands:
            rejected.add(name)
    return levels, rejected


def _changes(users_E: np.ndarray, found_SE: np.ndarray, limits: GateLimits, seed: int) -> _Change | None:
    """None where nothing can be compared."""
    defined_E = ~np.isnan(found_SE).any(axis=0)
    sums_SU, counts_U = by_user(users_E[defined_E], found_SE[:, defined_E], limits.user_cap)
    if len(counts_U) < limits.slices.least_users or not sums_SU[1].any():
        return None
    sums_RS, _ = replicated(sums_SU, counts_U, REPLICATES, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn_R = np.where(sums_RS[:, 1] > 0, sums_RS[:, 0] / sums_RS[:, 1] - 1.0, np.inf)
    ours, theirs = sums_SU.sum(axis=1)
    return float(ours / theirs - 1.0), drawn_R, len(counts_U)
