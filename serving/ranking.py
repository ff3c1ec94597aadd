"""Ranks many requests in one pass of the network: each by the champion that it captured, or by popularity."""

import copy
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from cachetools import LRUCache

from attune.columns import ITEM_STATS
from attune.promotions import Promotion
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.ranking.policy import PlackettLuce
from models.recommender import POPULARITY, PopularityAlone, Recommendation, Request, SlateQuery, encode, recommend_many
from serving.caps import AtMost, Caps
from serving.catalogue_snapshot import LiveModel, Pool
from serving.state import UserView

UNUSED = 0.1
"""People added to those who count for an item: a chance for those that nobody used yet, and less for the disliked."""


@dataclass(frozen=True, slots=True)
class Champion:
    """A loaded model: the promotion that made it champion, its bundle, when it took over (microseconds).

    ``vectors`` caches what its network said of the latest users (None: no cache), for the ranking thread alone.
    """

    promotion: Promotion
    bundle: Bundle
    loaded_at: int
    vectors: LRUCache[Hashable, np.ndarray] | None = field(repr=False)
    live: LiveModel = field(repr=False)

    @property
    def version(self) -> str:
        return self.promotion.version


class PopularityFallback:
    """Ranks by the event log's counts while no champion is loaded; ``hybrid`` and ``popularity`` are the same.

    It has the shape of a bundle and goes through the same pipeline, so its propensities are exact too.
    """

    name = "popularity"
    reads: Mapping[str, int] = {}
    policy = PlackettLuce(temperature=0.5, depth=100)
    """Scores are log-counts: at 0.5 an item's chance grows with the square of its count."""

    def __init__(self, counts: Sequence[tuple[str, float]]) -> None:
        """``counts`` pairs item ids with numbers of people, below 0 for what is disliked."""
        size, people_N = len(counts), np.array([count for _, count in counts], np.float64)
        stats_NF = np.full((size, len(ITEM_STATS)), np.nan, np.float32)
        stats_NF[:, 0] = np.maximum(people_N, 0.0)
        self.catalogue = Catalogue(
            item_ids=tuple(item_id for item_id, _ in counts),
            titles=("",) * size,
            genres=((),) * size,
            years=(None,) * size,
            stats_NF=stats_NF,
        )
        scores_N = np.log(UNUSED + np.maximum(people_N, 0.0)) - np.log1p(np.maximum(-people_N, 0.0))
        self._scores_N = scores_N.astype(np.float32)
        self.live = LiveModel(self)

    def extended(self, more: Catalogue) -> "PopularityFallback":
        """With items behind these that nobody used yet."""
        extended = copy.copy(self)
        extended.catalogue = self.catalogue.extended(more)
        extended._scores_N = np.append(self._scores_N, np.full(len(more), np.log(UNUSED), np.float32))
        return extended

    @property
    def hybrid(self) -> "PopularityFallback":
        return self

    @property
    def popularity(self) -> "PopularityFallback":
        return self

    @property
    def likeness_ND(self) -> np.ndarray:
        """Counts say nothing of likeness: no two items are alike."""
        return np.zeros((len(self.catalogue), 1), np.float32)

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        """The logarithm of every item's count, for every user: scores_BN, float32."""
        return np.tile(self._scores_N, (len(batch), 1))


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """One request, with the champion of the moment when it came in (None: popularity alone) and its candidates.

    ``explored`` is how many positions explored in the user's earlier slates, as far as the policy has a budget.
    """

    champion: Champion | None
    pool: Pool
    user: UserView
    request: Request
    at_most: AtMost = field(default_factory=dict)
    explored: int = 0


def rank(queries: Sequence[RankingQuery]) -> list[Recommendation]:
    """A slate for each query, those of one model together; no slate mixes two. Blocks for its CPU time."""
    by_model: dict[int, list[int]] = defaultdict(list)
    for row, query in enumerate(queries):
        by_model[id(query.pool.snapshot.model)].append(row)
    slates: dict[int, Recommendation] = {}
    for rows in by_model.values():
        group = [queries[row] for row in rows]
        champion = group[0].champion
        if champion is None:
            slates.update((row, rank_by_popularity(queries[row])) for row in rows)
            continue
        model = group[0].pool.snapshot.model
        inputs = [_pipeline_input(query) for query in group]
        live_1N = resized(champion.live.live_1N, len(model.catalogue))
        ranked = recommend_many(model, inputs, encode(model, inputs, champion.vectors), live_1N)
        slates.update(zip(rows, ranked, strict=True))
    return [slates[row] for row in range(len(queries))]


def rank_by_popularity(query: RankingQuery) -> Recommendation:
    """A slate by popularity: the model's own if there is one, else the event log's counts."""
    model = PopularityAlone.of(query.pool.snapshot.model)
    return replace(recommend_many(model, [_pipeline_input(query)])[0], served_by=POPULARITY)


def _pipeline_input(query: RankingQuery) -> SlateQuery:
    rule = Caps(query.pool.snapshot, query.at_most) if query.at_most else None
    user = query.user
    return SlateQuery(user.state, user.user_stats, query.request, query.pool.removed, rule, query.explored)


def resized(live_1N: np.ndarray | None, size: int) -> np.ndarray | None:
    """Live scores for a snapshot of ``size`` items: 0 for items that came later, cut where the snapshot ends."""
    if live_1N is None or live_1N.shape[1] == size:
        return live_1N
    resized_1N = np.zeros((1, size), np.float32)
    resized_1N[:, : live_1N.shape[1]] = live_1N[:, :size]
    return resized_1N
