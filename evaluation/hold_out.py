"""A hold-out and its replays: everybody who is compared ranks the same events, side by side in threads."""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from evaluation.replay import QueryBatch, replay_together, top_lists
from evaluation.simple_baselines import strongest
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import HistoryBatch, Recommender
from models.hybrid import Hybrid
from models.learning.batches import target_weights
from models.learning.dataset import TrainingSet
from models.metrics import Chances, Evaluation
from models.network.config import Recipe
from models.network.sequence import torch_threads
from models.ranking.retrieval import mask

ReplayKey = tuple[str, str, int, int]
"""Who was replayed (a bundle's digest, or popularity), the name of the hold-out, and its moments (after, upto].

Training sets of one digest are taken to be equal, and so are the limits of all judgements that share a cache."""

ReplayCache = MutableMapping[ReplayKey, Evaluation]
"""Replays of bundles other than a challenger, and of popularity: they are the same for each challenger."""

BASELINES = "the best simple baseline"

CHANCE_TARGETS = 5_000
"""Chances are recorded for about so many targets of a hold-out, in groups that are spread evenly over it."""


class CachedHybrid:
    """A hybrid that keeps the latest batch's states and sources, so its parts score no batch again. For one thread."""

    def __init__(self, hybrid: Hybrid) -> None:
        self.hybrid = hybrid
        self.name = hybrid.name
        self._batch: HistoryBatch | None = None
        self._states_BD = np.zeros((0, 0), np.float32)
        self._sources: dict[str, np.ndarray] = {}

    @property
    def parts(self) -> "tuple[CachedPart, ...]":
        """Each part alone."""
        named = zip(self.hybrid.source_names, self.hybrid.parts, strict=True)
        return tuple(CachedPart(self, source, part, part.name) for source, part in named)

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The hybrid's as they are served: who has no usable history is answered by its popularity."""
        return self.hybrid.served(batch, self.sources(batch))

    def sources(self, batch: HistoryBatch) -> dict[str, np.ndarray]:
        """``Hybrid.sources``; the caller must not write into them."""
        self.states(batch)
        return self._sources

    def states(self, batch: HistoryBatch) -> np.ndarray:
        """``Hybrid.states``; the caller must not write into them."""
        if batch is not self._batch:
            self._batch, self._states_BD = batch, self.hybrid.states(batch)
            self._sources = self.hybrid.sources(batch, self._states_BD)
        return self._states_BD


@dataclass(frozen=True)
class CachedPart:
    """One part alone: its scores as the hybrid normalised them, which ranks the same, or its own where it has none."""

    whole: CachedHybrid
    source: str
    part: Recommender
    name: str

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The part's; the caller must not write into them."""
        scores = self.whole.sources(batch).get(self.source)
        if scores is None:
            scores = self.part.scores(batch)
        return np.broadcast_to(scores, (len(batch), scores.shape[1]))


@dataclass(frozen=True)
class Entrant:
    """Recommenders over one catalogue that are replayed together.

    ``chances_of`` is the first of them where its chances are wanted, ``reward_floor`` what it learned with.
    With ``strongest_by``, a metric, only the evaluation of the strongest is kept: see ``simple_baselines``.
    """

    recommenders: tuple[Recommender, ...]
    catalogue: Catalogue
    chances_of: CachedHybrid | None = None
    reward_floor: float = Recipe.reward_floor
    strongest_by: str | None = None

    @staticmethod
    def of(bundle: Bundle, hybrid: CachedHybrid, parts: Sequence[Recommender] = ()) -> "Entrant":
        """A bundle's hybrid, with its chances, and parts of it alone."""
        floor = float(bundle.config["recipe"].get("reward_floor", Recipe.reward_floor))
        return Entrant((hybrid, *parts), bundle.catalogue, hybrid, floor)


@dataclass(frozen=True)
class HoldOut:
    """Events to replay: those of ``training_set`` at moments in (after, upto].

    ``name`` tells hold-outs of one window apart in a cache. With ``each`` only so many groups of each user, the latest
    ones, are replayed.
    """

    training_set: TrainingSet
    name: str
    after: int
    upto: int
    each: int | None = None

    def replays(
        self, entrants: Mapping[str, Entrant], newcomer: str, cache: ReplayCache
    ) -> dict[str, list[Evaluation]]:
        """The evaluations of each entrant, a thread each; the cache keeps those of all but the newcomer."""
        keys = {who: (who, self.name, self.after, self.upto) for who in entrants}
        missing = [who for who in entrants if who == newcomer or keys[who] not in cache]
        with torch_threads(1), ThreadPoolExecutor(os.cpu_count()) as pool:
            running = {who: pool.submit(self._replay, entrants[who]) for who in missing}
            fresh = {who: future.result() for who, future in running.items()}
        cache.update({keys[who]: evaluations[0] for who, evaluations in fresh.items() if who != newcomer})
        return {who: fresh[who] if who in fresh else [cache[keys[who]]] for who in entrants}

    def _replay(self, entrant: Entrant) -> list[Evaluation]:
        """The evaluation of each recommender of an entrant; the chances stand with the first."""
        recorder, times = None, self.training_set.times
        if entrant.chances_of is not None:
            events = int(((times > self.after) & (times <= self.upto)).sum())
            recorder = ChanceRecorder(entrant.chances_of, entrant.reward_floor, events)
        window = self.training_set, self.after, self.upto
        if entrant.strongest_by is not None:
            return [strongest(entrant.recommenders, *window, entrant.strongest_by)]
        evaluations = replay_together(entrant.recommenders, *window, entrant.catalogue, recorder, self.each)
        if recorder is not None:
            evaluations[0] = replace(evaluations[0], chances=recorder.chances())
        return evaluations


class ChanceRecorder:
    """Records the chances that the network of a replayed hybrid gives to the targets of some groups.

    The network learns by the softmax over the catalogue (``models.learning.fit``), so the softmax of its scores over
    the unseen items is the chance that an item is the next. Scores of other parts and of the mix mean no such thing.
    """

    def __init__(self, hybrid: CachedHybrid, reward_floor: float, events: int) -> None:
        """``reward_floor`` is the recipe's, ``events`` how many the replay goes over at most."""
        self.hybrid, self.reward_floor = hybrid, reward_floor
        self.every = max(round(events / CHANCE_TARGETS), 1)
        self._taken: list[tuple[np.ndarray, ...]] = []

    def take(self, queries: QueryBatch) -> None:
        """The chances of a batch, by the states that the hybrid was scored by."""
        has_target_B = np.zeros(len(queries), bool)
        has_target_B[queries.row_T] = True
        rows = np.flatnonzero(has_target_B & (queries.query_B % self.every == 0))
        if not self.hybrid.hybrid.weights[0] or not len(rows):
            return
        place_B = np.full(len(queries), -1)
        place_B[rows] = np.arange(len(rows))
        seen, of_T = place_B[queries.row_S] >= 0, np.flatnonzero(place_B[queries.row_T] >= 0)
        logits_BN = self.hybrid.hybrid.network.scores_of(self.hybrid.states(queries.histories)[rows])
        masked_BN = mask(logits_BN, place_B[queries.row_S[seen]], queries.seen_S[seen])
        lists_BK = top_lists(masked_BN)
        weights_BN = np.exp(masked_BN.astype(np.float64) - masked_BN.max(axis=1, keepdims=True))
        chances_BK = np.take_along_axis(weights_BN, np.maximum(lists_BK, 0), axis=1) * (lists_BK >= 0)
        chances_BK /= weights_BN.sum(axis=1, keepdims=True)
        row_T, item_T, event_T = place_B[queries.row_T[of_T]], queries.item_T[of_T], queries.event_T[of_T]
        hit_TK = (lists_BK[row_T] == item_T[:, None]) & (item_T[:, None] >= 0)
        events = queries.training_set
        self._taken.append(
            (
                events.times[event_T],
                events.positions[event_T],
                events.user_ids[queries.users_B[queries.row_T[of_T]]],
                target_weights(events.kinds[event_T], events.rewards[event_T], self.reward_floor).astype(np.float64),
                chances_BK[row_T, 0],
                hit_TK[:, 0],
                chances_BK.sum(axis=1)[row_T],
                hit_TK.any(axis=1),
            )
        )

    def chances(self) -> Chances | None:
        """Everything recorded, in the order of time; None for a hybrid whose network has no weight, and of nothing."""
        if not self._taken:
            return None
        times_E, *columns = [np.concatenate(parts) for parts in zip(*self._taken, strict=True)]
        order = np.lexsort((columns[0], times_E))
        return Chances(*(column[order] for column in columns))


def event_rows(evaluation: Evaluation, training_set: TrainingSet) -> np.ndarray:
    """The training set's row of each event that was judged (E,)."""
    order = np.argsort(training_set.positions)
    place_E = np.searchsorted(training_set.positions, evaluation.events["position"].to_numpy(), sorter=order)
    return order[place_E]
