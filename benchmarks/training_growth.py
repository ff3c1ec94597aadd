"""What training costs as work grows: an epoch at 1, 2, 4 and 8 times the events, a step at 10k, 100k and 1M items.

Events are drawn: every user has as many as the context holds, items by a power law. One thread, sampled loss.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from attune.clock import MINUTE
from benchmarks.record import Figure, at_most, just
from benchmarks.training_peer import ATTUNE, MIB, Side, side

CONTEXT, BATCH = 32, 16
RECIPE = {
    "network": {"width": 64, "blocks": 2, "heads": 2, "context": CONTEXT},
    "batch": BATCH,
    "loss": "sampled",
    "negatives": 512,
}
TIMES = (1, 2, 4, 8)
CATALOGUES = (10_000, 100_000, 1_000_000)
LEAST_ITEMS = CATALOGUES[0]
FEW, MANY = 5, 25
"""A step's cost is the difference between so many batches: what an epoch costs once is in neither."""

MOST_AWAY, MOST_STEP = 1.15, 1.5


def measure(seed: int, users: int = 2_000, rounds: int = 3, catalogues: tuple[int, ...] = CATALOGUES) -> list[Figure]:
    """Seconds and memory of an epoch over those of the smallest, by the events; seconds of a step by the items."""
    return [*of_epochs(seed, users, rounds), *of_steps(seed, rounds, catalogues)]


def of_epochs(seed: int, users: int, rounds: int) -> list[Figure]:
    """The median epoch of ``rounds``, for ``users`` times 1, 2, 4 and 8."""
    figures: list[Figure] = []
    first: tuple[float, float] | None = None
    for times in TIMES:
        with _trained_on(world(seed, times * users, LEAST_ITEMS)) as one:
            seconds = median([one.train() for _ in range(1 + rounds)][1:])
            peak = one.end()["peak"]
        first = first or (seconds, peak)
        note = f"{times * users * CONTEXT:,} events: {seconds:.1f} CPU s, {peak / MIB:,.0f} MiB"
        name = f"4 an epoch at {times} times the events"
        if times == 1:
            figures += [just(f"{name}, CPU s", seconds, note), just(f"{name}, peak MiB", peak / MIB, note)]
        else:
            figures.append(at_most(f"{name}, CPU s over linear", seconds / first[0] / times, MOST_AWAY, note))
            figures.append(at_most(f"{name}, peak memory over linear", peak / first[1] / times, MOST_AWAY, note))
    return figures


def of_steps(seed: int, rounds: int, catalogues: tuple[int, ...]) -> list[Figure]:
    """A step's median CPU seconds at each size of the catalogue, over those at the smallest."""
    figures: list[Figure] = []
    first: float | None = None
    for items in catalogues:
        with _trained_on(world(seed, MANY * BATCH, items)) as one:
            one.train(FEW)
            pairs = [(one.train(FEW), one.train(MANY)) for _ in range(rounds)]
            peak = one.end()["peak"]
        step = median((many - few) / (MANY - FEW) for few, many in pairs)
        first = first or step
        note = f"{1000 * step:.1f} CPU ms, peak {peak / MIB:,.0f} MiB"
        if items == catalogues[0]:
            figures.append(just(f"4 a step at {items:,} items, CPU ms", 1000 * step, note))
        else:
            name = f"4 a step at {items:,} items over one at {catalogues[0]:,}"
            figures.append(at_most(name, step / first, MOST_STEP, note))
    return figures


def world(seed: int, users: int, items: int) -> dict[str, Any]:
    """``users`` with as many events as the context holds, each a minute after the one before."""
    rng, events = np.random.default_rng(seed), users * CONTEXT
    return {
        "users_E": np.repeat(np.arange(users), CONTEXT),
        "items_E": (items * rng.random(events) ** 3).astype(np.int64),
        "times_E": np.arange(events, dtype=np.int64) * MINUTE,
        "items": items,
    }


@contextmanager
def _trained_on(arrays: dict[str, Any]) -> Iterator[Side]:
    """A side of attune's over this world."""
    with TemporaryDirectory(prefix="attune-growth-") as folder:
        path = Path(folder) / "world.npz"
        np.savez(path, **arrays)
        with side([sys.executable, *ATTUNE], path, RECIPE) as trained:
            yield trained
