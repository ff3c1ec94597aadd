"""What a replay costs: the live arm over a hundred thousand and over a million events, and whether memory stays flat.

Users, items and values are those of the demo's ratings, each user copied ten times. Each copy's ratings come once, as
in life, and all of them in a random order, ten a second: no two share a moment, so every event is a query. The
model is ``small`` with histories of 50 events; its network is as it was drawn, since speed does not depend on what the
weights say.
"""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from attune.clock import SECOND
from benchmarks import child_process
from benchmarks.datasets import movielens_demo
from benchmarks.prequential import ItemMeasures, prequential
from benchmarks.record import Figure, at_most, just
from benchmarks.replay_arms import LiveHistory
from benchmarks.replay_stream import WINDOW, StreamState
from benchmarks.serving_world import HISTORY, KNN
from evaluation.gates.variety import genre_vectors, self_information
from models.baselines import ItemKnn, Popularity
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.fit import seeded
from models.network.config import small
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender

SIZES = (100_000, 300_000, 1_000_000)
MOST_SECONDS, GROWTH = 900.0, 1.1
COPIES = 10
BETWEEN = SECOND // 10
WEIGHTS = (0.5, 0.4, 0.1)


def measure(seed: int, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Seconds and peak memory of each size, each in a process of its own."""
    figures, peaks = [], []
    for size in sizes:
        timed, peak = child_process.run(timed_replay, size, seed)
        peaks.append(peak / 2**20)
        name, limit = f"live arm, {size:,} events", MOST_SECONDS * size / 1_000_000
        note = f"{timed.groups} queries, {timed.processor:.0f} s of processor"
        figures.append(at_most(f"{name}, s", timed.seconds, limit, note))
        figures.append(just(f"{name}, events/s", size / timed.seconds))
        figures.append(just(f"{name}, peak memory, MiB", peaks[-1], f"{timed.before:.0f} before the replay"))
    return [*figures, *_growth(sizes, peaks)]


def _growth(sizes: tuple[int, ...], peaks: list[float]) -> list[Figure]:
    """The largest stream's peak against each smaller one's: what is remembered has bounds, and fills up at first."""
    against = f"live arm, peak memory, {sizes[-1]:,} events against"
    return [
        at_most(f"{against} {size:,}, times", peaks[-1] / peak, GROWTH)
        for size, peak in zip(sizes[:-1], peaks[:-1], strict=True)
    ]


@dataclass(frozen=True)
class Timed:
    """Seconds by the clock and of the processor, queries, and MiB of peak memory before the replay began."""

    seconds: float
    processor: float
    groups: int
    before: float


def timed_replay(size: int, seed: int) -> Timed:
    """The live arm alone over so many events."""
    rated = movielens_demo()
    hybrid = _untaught(rated)
    measures = ItemMeasures(self_information(rated), genre_vectors(rated.catalogue))
    state = StreamState(COPIES * len(rated.user_ids), rated.catalogue, HISTORY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    (tally,) = prequential(state, [LiveHistory(hybrid)], stream(rated, size, seed), measures)
    return Timed(time.perf_counter() - began, tally.seconds, tally.groups, before)


def _untaught(rated: TrainingSet) -> Hybrid:
    """Counted parts as ever, and a network that has learned nothing."""
    attributes = ItemAttributes.of(rated.catalogue)
    with seeded(0):
        network = SequenceNetwork(replace(small().network, context=HISTORY), attributes)
    sequence = SequenceRecommender(network, attributes.genre_names)
    return Hybrid(sequence, (ItemKnn.fit(rated, KNN), Popularity.fit(rated, 30.0)), WEIGHTS)


def stream(rated: TrainingSet, size: int, seed: int) -> Iterator[TrainingSet]:
    """Windows of the copies' ratings, made one by one."""
    drawn = np.random.default_rng(seed).permutation(COPIES * len(rated))[:size]
    users = np.array([f"{user}-{copy}" for user in rated.user_ids for copy in range(COPIES)], object)
    for start in range(0, len(drawn), WINDOW):
        row, copy = np.divmod(drawn[start : start + WINDOW], COPIES)
        place = np.arange(start, start + len(row))
        yield replace(
            rated,
            positions=place,
            users=rated.users[row] * COPIES + copy,
            items=rated.items[row],
            kinds=rated.kinds[row],
            rewards=rated.rewards[row],
            times=place * BETWEEN,
            user_stats_EF=rated.user_stats_EF[row],
            item_stats_EF=rated.item_stats_EF[row],
            user_ids=users,
        )
