"""What a model has to beat: the best simple thing on this very hold-out (popularity, trends, what is new, counters).

Neither the challenger nor its recipe chooses the yardstick. Live counters go on counting during the replay, up to each
query's own moment, as a counter in a database would; the panel counts in none, as it teaches no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attune.clock import DAY
from evaluation.replay import replay_together
from models.baselines import Popularity, uses
from models.history import HistoryBatch, Recommender
from models.learning.dataset import TrainingSet, is_panel
from models.metrics import Evaluation, decisive, values

SCREENED = 500
"""Queries, spread evenly over the hold-out, that the finalists are chosen on."""

FINALISTS = 3
"""So many are replayed over the whole hold-out; the strongest there is the yardstick."""


@dataclass(frozen=True)
class DecayedCounts:
    """Uses of each item, halved every ``half_life_days``: ``before_N`` at the moment ``after``, and E later events.

    Who counts, and how much, is ``attune.influence``'s: of one user and item the last event so far. So an event brings
    what it says (``uses_E``) less what is left then of the one that it replaces.
    """

    half_life_days: float
    before_N: np.ndarray
    after: int
    times_E: np.ndarray
    items_E: np.ndarray
    uses_E: np.ndarray

    @staticmethod
    def of(known: TrainingSet, after: int, half_life_days: float) -> "DecayedCounts":
        """Of a training set, from a moment on."""
        uses_E, later, count = _standing_uses(known, half_life_days), known.times > after, len(known.catalogue)
        decay_E = np.exp2((known.times[~later] - after) / (half_life_days * DAY))
        before_N = np.bincount(known.items[~later], uses_E[~later] * decay_E, count)
        return DecayedCounts(half_life_days, before_N, after, known.times[later], known.items[later], uses_E[later])

    def at(self, moments_B: np.ndarray) -> np.ndarray:
        """counts_BN, float64: what was used strictly before each moment (none before ``after``), decayed by then."""
        order = np.argsort(moments_B, kind="stable")
        counts_BN = np.empty((len(order), len(self.before_N)))
        count_N, then, start = self.before_N, self.after, 0
        for row, stop in zip(order, np.searchsorted(self.times_E, moments_B[order]), strict=True):
            now = moments_B[row]
            count_N = count_N * np.exp2((then - now) / (self.half_life_days * DAY))
            if stop > start:
                decay_E = np.exp2((self.times_E[start:stop] - now) / (self.half_life_days * DAY))
                count_N += np.bincount(self.items_E[start:stop], self.uses_E[start:stop] * decay_E, len(count_N))
            counts_BN[row], then, start = count_N, now, stop
        return counts_BN


def _standing_uses(known: TrainingSet, half_life_days: float) -> np.ndarray:
    """What each event changes in the sum of the uses that stand (E,)."""
    said_E, uses_E = uses(known), np.zeros(len(known))
    rows = known.by_user[known.influence_E[known.by_user] > 0]
    rows = rows[np.lexsort((known.items[rows], known.users[rows]))]  # stable: in the order of time for each pair
    again = (np.diff(known.users[rows]) == 0) & (np.diff(known.items[rows]) == 0)
    before, after = rows[:-1][again], rows[1:][again]
    uses_E[rows] = said_E[rows]
    uses_E[after] -= said_E[before] * np.exp2((known.times[before] - known.times[after]) / (half_life_days * DAY))
    return uses_E


@dataclass(frozen=True)
class LiveCounter:
    """Items by how much they were used lately, up to the moment of each query."""

    counts: DecayedCounts

    @property
    def name(self) -> str:
        """With its half-life."""
        return f"live counter, half-life {duration(self.counts.half_life_days)}"

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN, in [-1, 1]."""
        counts_BN = self.counts.at(batch.now_B)
        return (counts_BN / np.maximum(np.abs(counts_BN).max(axis=1, keepdims=True), 1e-300)).astype(np.float32)


@dataclass(frozen=True)
class Trending:
    """Items by their recent rate of use against their long-run rate, up to the moment of each query."""

    recent: DecayedCounts
    long: DecayedCounts

    @property
    def name(self) -> str:
        """With both half-lives."""
        return f"trending, {duration(self.recent.half_life_days)} against {duration(self.long.half_life_days)}"

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN: the quotient of the decayed counts; one use more below, so that one alone is no trend."""
        return (self.recent.at(batch.now_B) / (np.maximum(self.long.at(batch.now_B), 0.0) + 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Latest:
    """The newest items by their first event, up to the moment of each query; ``first_N`` are microseconds."""

    first_N: np.ndarray
    name: str = "latest items"

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """scores_BN: the closer to 1 the newer, 0 for what nobody used yet."""
        age_BN = (batch.now_B[:, None] - self.first_N) / DAY
        return np.where(age_BN > 0.0, 1.0 / (1.0 + np.maximum(age_BN, 0.0)), 0.0).astype(np.float32)


def simple_baselines(
    training_set: TrainingSet, after: int, half_lives: Sequence[float], trends: Sequence[tuple[float, float]]
) -> tuple[Recommender, ...]:
    """Popularity as of the moment ``after`` and live counters, for every half-life (days); trends; the latest items."""
    known = training_set.select(~is_panel(training_set.user_ids)[training_set.users])
    learned = known.select(known.times <= after)
    halved = sorted({*half_lives, *(days for trend in trends for days in trend)})
    counts = {days: DecayedCounts.of(known, after, days) for days in halved}
    first_N = np.full(len(known.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first_N, known.items, known.times)
    frozen = (Popularity.fit(learned, days) for days in half_lives)
    return (
        *(replace(one, name=f"popularity, half-life {duration(one.half_life_days)}") for one in frozen),
        *(LiveCounter(counts[days]) for days in half_lives),
        *(Trending(counts[recent], counts[long]) for recent, long in trends),
        Latest(first_N),
    )


def strongest(
    baselines: Sequence[Recommender], training_set: TrainingSet, after: int, upto: int, metric: str
) -> Evaluation:
    """The evaluation of the baseline with the largest sum of a metric over deciding targets in (after, upto]."""
    window = training_set, after, upto
    screened = replay_together(baselines, *window, most=SCREENED)
    order = sorted(range(len(baselines)), key=lambda place: -_total(screened[place], metric))
    finalists = [baselines[place] for place in order[:FINALISTS]]
    return max(replay_together(finalists, *window), key=lambda evaluation: _total(evaluation, metric))


def _total(evaluation: Evaluation, metric: str) -> float:
    return float(np.nansum(values(evaluation, metric, decisive(evaluation))[1]))


def duration(days: float) -> str:
    """A half-life in words: minutes, hours, days; 'without end' from a hundred years on."""
    if days >= 36_500:
        return "without end"
    unit, share = ("day", 1.0) if days >= 1.0 else ("hour", 24.0) if days >= 1 / 24 else ("minute", 1440.0)
    return f"{days * share:g} {unit}{'s' * (days * share != 1.0)}"
