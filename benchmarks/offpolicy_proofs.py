"""Do intervals hold the truth, and are logs refused that cannot answer? Counted over worlds whose truth is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.bandit_worlds import FLAWS, bandit_world
from benchmarks.slate_worlds import SLATE_FLAWS, slate_world
from evaluation.offpolicy.estimate import estimate
from evaluation.offpolicy.estimators import Weighting
from evaluation.offpolicy.logs import Log

SHAPES = {"bandit": FLAWS, "slate": SLATE_FLAWS}
WORLDS = 500
COVERED = (0.90, 0.99)
"""What a 95 % interval may cover; above it would be wider than it says."""
LEAST_REFUSED = 0.95
WEIGHTING = Weighting(switch=3.0)
"""A switch low enough that the reward model has something to say in these worlds."""


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
class Tally:
    """Of one estimator over so many worlds: in what share its interval held the truth, and it refused.

    ``width`` is the mean width of its intervals, ``bias`` the mean error, both in the unit of the value.
    """

    worlds: int
    covered: float
    refused: float
    width: float
    bias: float


def prove(shape: str, flaw: str, worlds: int = WORLDS, seed: int = 0, replicates: int = 1000) -> dict[str, Tally]:
    """The tallies of every estimator over worlds of a shape (``bandit`` or ``slate``) with one flaw."""
    place = SHAPES[shape].index(flaw)
    seen: dict[str, list[tuple[float, ...]]] = {}
    for world in range(worlds):
        value, log = _world(shape, flaw, np.random.default_rng([seed, place, world]))
        answer = estimate(log, weighting=WEIGHTING, replicates=replicates, seed=world)
        for name, verdict in answer.estimates.items():
            found = verdict.interval
            seen.setdefault(name, []).append(
                (
                    found.low <= value <= found.high,
                    verdict.outcome == "refused",
                    found.high - found.low,
                    found.value - value,
                )
            )
    return {name: Tally(worlds, *np.mean(rows, axis=0).tolist()) for name, rows in seen.items()}


def _world(shape: str, flaw: str, rng: np.random.Generator) -> tuple[float, Log]:
    """The true value of one world, and a log of it."""
    make: Callable = {"bandit": bandit_world, "slate": slate_world}[shape]
    world = make(flaw, rng)
    return world.value, world.draw(rng)
