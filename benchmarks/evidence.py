"""From how many users on an interval decides: worlds in which a challenger is truly no better, judged as gates judge.

In each world the challenger gains as much from some users as it loses from others: over everybody it is truly no better
than the one that it is compared with, which is also what it is to lie exactly at a relative limit. A world goes wrong
when its whole interval lies above 0 all the same. It is hard to see for few users because the losses hide: in one kind
of world a tenth of the users lose everything, and a small sample may hold none of them.

The floor ``CaseLimits.min_users`` is on the number of *effective* users, (sum w)^2 / sum w^2, w being the events that a
user counts for (``min_events`` in all): at most the user cap, which all reach, or few as in public logs, or one to
three a user.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.record import Figure, at_least, at_most, just
from evaluation.case import CaseLimits
from evaluation.intervals import paired_sums

WORLDS, REPLICATES = 1_000, 800
SIZES = (10, 20, 30, 50, 95, 150, 300)
WRONG, COVERED = 0.05, 0.9
"""The share of worlds that may go wrong at most, and that must hold the truth at least, where the floor lets decide."""

HIT = 0.6
"""NDCG of a hit: the mean over the places in the ten best."""

Draw = Callable[[int, np.random.Generator], np.ndarray]

COUNTS: dict[str, Draw] = {
    "equal": lambda users, rng: np.full(users, CaseLimits().user_cap),
    "skewed": lambda users, rng: np.minimum(np.ceil(rng.lognormal(2.0, 1.3, users)), CaseLimits().user_cap),
    "one to three": lambda users, rng: rng.integers(1, 4, users).astype(float),
}
"""Events a user."""

CHANGES: dict[str, Draw] = {
    "nobody": lambda users, rng: np.zeros(users),
    "a tenth lose all": lambda users, rng: np.where(rng.random(users) < 0.1, -1.0, 1 / 9),
    "a twentieth lose all": lambda users, rng: np.where(rng.random(users) < 0.05, -1.0, 1 / 19),
}
"""What the challenger changes of each user's hit rate, as a share of that rate; 0 in the mean."""


def measure(seed: int) -> list[Figure]:
    """Of each kind of world and number of users the share that goes wrong, and the share of intervals with the truth.

    The limits are asked where effective users and events, in the mean, reach the floors.
    """
    rng, figures, floor = np.random.default_rng(seed), [], CaseLimits()
    for counts, count in COUNTS.items():
        for changes, change in CHANGES.items():
            for users in SIZES:
                rates = evidence(users, count, change, WORLDS, rng)
                world = f"{counts} counts, {changes}, {users} users"
                note = f"{rates['effective']:.0f} effective users, {rates['events']:.0f} events, {WORLDS} worlds"
                decides = rates["effective"] >= floor.min_users and rates["events"] >= floor.min_events
                wrong, covered = f"{world}: wholly on the good side", f"{world}: interval holds the truth"
                figures += [
                    at_most(wrong, rates["wrong"], WRONG, note) if decides else just(wrong, rates["wrong"], note),
                    at_least(covered, rates["covered"], COVERED, note)
                    if decides
                    else just(covered, rates["covered"], note),
                ]
    return figures


def evidence(users: int, count: Draw, change: Draw, worlds: int, rng: np.random.Generator) -> dict[str, float]:
    """The shares of worlds that go ``wrong`` and are ``covered``, and the mean of ``effective`` users and ``events``.

    Of the absolute and the relative change that which does worse.
    """
    wrong, covered = np.zeros((2, worlds), bool), np.zeros((2, worlds), bool)
    effective, events = np.zeros(worlds), np.zeros(worlds)
    for world in range(worlds):
        count_U = count(users, rng)
        rate_U = rng.beta(2.0, 14.0, users)  # mean 0.125
        changed_U = np.minimum(rate_U * (1.0 + change(users, rng)), 1.0)
        theirs_U, ours_U = (HIT * rng.binomial(count_U.astype(int), rate) for rate in (rate_U, changed_U))
        found = paired_sums(ours_U, theirs_U, count_U, REPLICATES)
        both = found.absolute, found.relative
        wrong[:, world] = [interval.low > 0 for interval in both]
        covered[:, world] = [interval.low <= 0 <= interval.high for interval in both]
        effective[world], events[world] = found.effective, found.rows
    return {
        "wrong": float(wrong.mean(axis=1).max()),
        "covered": float(covered.mean(axis=1).min()),
        "effective": float(effective.mean()),
        "events": float(events.mean()),
    }
