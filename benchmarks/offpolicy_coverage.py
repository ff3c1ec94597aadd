"""How often off-policy intervals hold the truth, and how often bad logs are refused, over worlds of known truth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.offpolicy_worlds import FLAWS, ROUNDS, SLATE_FLAWS, bandit_world, slate_world
from benchmarks.record import Figure, at_least, just
from evaluation.offpolicy.estimate import OffPolicyLimits, estimate
from evaluation.offpolicy.estimators import Weighting
from evaluation.offpolicy.logs import Log

SHAPES = {"bandit": FLAWS, "slate": SLATE_FLAWS}
WORLDS = 500
COVERED = (0.90, 0.99)
"""What a 95 % interval may cover; above it would be wider than it says."""
LEAST_REFUSED = 0.95
WEIGHTING = Weighting(switch=3.0)
"""A switch low enough that the reward model has something to say in these worlds."""

SMALL, TRIES = 40, 50
"""Users of a log that is too small, and how many such logs are asked how much would do."""


@dataclass(frozen=True)
class Claim:
    """Of worlds with a flaw: whose intervals hold the truth all the same, and who must refuse.

    An estimator that stands in neither is promised nothing there: its assumption is broken by less than a log of
    this size can show.
    """

    shape: str
    flaw: str
    covers: tuple[str, ...]
    refuses: tuple[str, ...] = ()


_ALL, _WEIGHTED = ("dm", "ips", "snips", "dr", "sndr", "switch-dr"), ("ips", "snips", "dr", "sndr")
_SLATES = ("slate-ips", "rips", "cascade-dr")
CLAIMS = (
    Claim("bandit", "none", _ALL),
    Claim("bandit", "rough model", _WEIGHTED),
    Claim("bandit", "wrong model", _WEIGHTED, ("dm", "switch-dr")),
    Claim("bandit", "wrong propensities", (), _ALL),
    Claim("bandit", "no overlap", (), _ALL),
    Claim("slate", "none", _SLATES),
    Claim("slate", "wrong model", _SLATES),
    Claim("slate", "wrong propensities", (), _SLATES),
    Claim("slate", "no overlap", (), _SLATES),
    Claim("slate", "no cascade", ("slate-ips",), ("rips", "cascade-dr")),
)


@dataclass(frozen=True)
class Coverage:
    """Of one estimator over so many worlds: in what share its interval held the truth, and it refused.

    ``width`` is the mean width of its intervals, ``bias`` the mean error, both in the unit of the value.
    """

    worlds: int
    covered: float
    refused: float
    width: float
    bias: float


def count_worlds(
    shape: str, flaw: str, worlds: int = WORLDS, seed: int = 0, replicates: int = 1000
) -> dict[str, Coverage]:
    """Each estimator's coverage over worlds of a shape (``bandit`` or ``slate``) with one flaw."""
    place = SHAPES[shape].index(flaw)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for world in range(worlds):
        value, log = _world(shape, flaw, np.random.default_rng([seed, place, world]))
        answer = estimate(log, weighting=WEIGHTING, replicates=replicates, seed=world)
        for name, verdict in answer.estimates.items():
            found = verdict.interval
            rows.setdefault(name, []).append(
                (
                    found.low <= value <= found.high,
                    verdict.outcome == "refused",
                    found.high - found.low,
                    found.value - value,
                )
            )
    return {name: Coverage(worlds, *np.mean(of_name, axis=0).tolist()) for name, of_name in rows.items()}


def _world(shape: str, flaw: str, rng: np.random.Generator) -> tuple[float, Log]:
    """The true value of one world, and a log of it."""
    make: Callable = {"bandit": bandit_world, "slate": slate_world}[shape]
    world = make(flaw, rng)
    return world.value, world.draw(rng)


def measure(seed: int, worlds: int = WORLDS) -> list[Figure]:
    """Every claim's figures over so many worlds each, and what comes of the rows that a verdict asks for."""
    found = [
        figure for claim in CLAIMS for figure in _figures(claim, count_worlds(claim.shape, claim.flaw, worlds, seed))
    ]
    return [*found, _asked_for(seed)]


def _figures(claim: Claim, of_estimators: dict[str, Coverage]) -> list[Figure]:
    flaw = "assumptions hold" if claim.flaw == "none" else claim.flaw
    return [
        figure
        for name, coverage in of_estimators.items()
        for figure in _of_estimator(f"3 {claim.shape}, {flaw}: {name}", name, claim, coverage)
    ]


def _of_estimator(where: str, name: str, claim: Claim, coverage: Coverage) -> list[Figure]:
    covered, error = round(coverage.covered, 4), f"mean error {coverage.bias:+.4f}"
    width = just(f"{where}, mean width of its intervals", coverage.width, error)
    if name in claim.covers:
        low, high = COVERED
        note = f"{low:.2f} to {high:.2f}, of {coverage.worlds} worlds"
        found = Figure(f"{where} covers the truth", covered, low, low <= covered <= high, note)
        return [found, width, just(f"{where} refused all the same", coverage.refused)]
    if name in claim.refuses:
        note = f"of {coverage.worlds} worlds; its intervals would cover {covered:.3f}, {error}"
        return [at_least(f"{where} refused", coverage.refused, LEAST_REFUSED, note)]
    note = f"of {coverage.worlds} worlds; nothing is promised here"
    return [just(f"{where} covers the truth", covered, note), width, just(f"{where} refused", coverage.refused)]


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
