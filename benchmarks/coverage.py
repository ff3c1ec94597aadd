"""Off-policy intervals and refusals over worlds whose truth is known."""

import numpy as np

from benchmarks.bandit_worlds import ROUNDS, bandit_world
from benchmarks.offpolicy_proofs import CLAIMS, COVERED, LEAST_REFUSED, WORLDS, Claim, Tally, prove
from benchmarks.record import Figure, at_least, just
from evaluation.offpolicy.estimate import OffPolicyLimits, estimate

SMALL, TRIES = 40, 50
"""Users of a log that is too small, and how many such logs are asked how much would do."""


def measure(seed: int, worlds: int = WORLDS) -> list[Figure]:
    """Every claim's figures over so many worlds each, and what comes of the rows that a verdict asks for."""
    found = [figure for claim in CLAIMS for figure in _figures(claim, prove(claim.shape, claim.flaw, worlds, seed))]
    return [*found, _asked_for(seed)]


def _figures(claim: Claim, tallies: dict[str, Tally]) -> list[Figure]:
    flaw = "assumptions hold" if claim.flaw == "none" else claim.flaw
    return [
        figure
        for name, tally in tallies.items()
        for figure in _of_estimator(f"3 {claim.shape}, {flaw}: {name}", name, claim, tally)
    ]


def _of_estimator(where: str, name: str, claim: Claim, tally: Tally) -> list[Figure]:
    covered, error = round(tally.covered, 4), f"mean error {tally.bias:+.4f}"
    width = just(f"{where}, mean width of its intervals", tally.width, error)
    if name in claim.covers:
        low, high = COVERED
        note = f"{low:.2f} to {high:.2f}, of {tally.worlds} worlds"
        found = Figure(f"{where} covers the truth", covered, low, low <= covered <= high, note)
        return [found, width, just(f"{where} refused all the same", tally.refused)]
    if name in claim.refuses:
        note = f"of {tally.worlds} worlds; its intervals would cover {covered:.3f}, {error}"
        return [at_least(f"{where} refused", tally.refused, LEAST_REFUSED, note)]
    note = f"of {tally.worlds} worlds; nothing is promised here"
    return [just(f"{where} covers the truth", covered, note), width, just(f"{where} refused", tally.refused)]


def _asked_for(seed: int) -> Figure:
    """Half of the interval of as many rows as a small log asked for, in half widths that they were asked for."""
    wanted, got = OffPolicyLimits().half_width, []
    for place in range(TRIES):
        rng = np.random.default_rng([seed, place])
        world = bandit_world("none", rng)
        needed = estimate(world.draw(rng, users=SMALL)).estimates["dr"].rows_needed
        if needed is not None:
            interval = estimate(world.draw(rng, users=needed // ROUNDS)).estimates["dr"].interval
            got.append((interval.high - interval.low) / 2 / wanted)
    low, middle, high = np.quantile(got, [0.05, 0.5, 0.95]).tolist()
    note = f"dr; from {SMALL * ROUNDS} rows, nine in ten between {low:.2f} and {high:.2f}, of {len(got)} that said so"
    return just("3 bandit, rows asked for: half width that they give, of the one asked for, median", middle, note)
