"""The pipeline: a user's state and a bundle in, a slate out. Pure: replay, gates and serving all run this."""

import secrets
from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np

from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import reward
from attune.events import Candidate, Shown
from attune.user_state import UserState
from models.catalogue import Catalogue
from models.history import HISTORY_LIMIT, KIND_INDEX, HistoryBatch, Recommender
from models.hybrid import Hybrid
from models.network.sequence import gap_buckets
from models.ranking.policy import Allowed, Draw, Policy, Pool, Rule
from models.ranking.retrieval import Candidates, gather
from models.sources import LIVE

CHAMPION = "champion"
POPULARITY = "popularity"

Sources = Mapping[str, np.ndarray]
"""The scores of each source, (B, N), or (1, N) where all users share them."""

StateCache = MutableMapping[Hashable, np.ndarray]
"""The users as the network sees them: states (D,) by key, see ``encode``."""

DEEPER = 8
"""How many times as deep the next search is where a rule left a slate short."""

UNKNOWN_USER_STATS = np.full(len(USER_STATS), np.nan, np.float32)


class BundleView(Protocol):
    """What the pipeline needs of a bundle (``models.bundle.Bundle`` has it)."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def hybrid(self) -> Recommender: ...
    @property
    def popularity(self) -> Recommender: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def likeness_ND(self) -> np.ndarray: ...


@dataclass(frozen=True)
class PopularityAlone:
    """A bundle's pipeline with popularity for everybody: what answers in need, and the yardstick of its speed."""

    catalogue: Catalogue
    popularity: Recommender
    policy: Policy
    likeness_ND: np.ndarray

    @staticmethod
    def of(bundle: BundleView) -> "PopularityAlone":
        return PopularityAlone(bundle.catalogue, bundle.popularity, bundle.policy, bundle.likeness_ND)

    @property
    def hybrid(self) -> Recommender:
        return self.popularity


@dataclass(frozen=True)
class Request:
    """What is asked: ``k`` items at the time ``now`` (microseconds), without those of ``exclude``.

    One ``seed`` on one state gives one slate; None draws a fresh seed, which the answer's policy names.
    """

    k: int
    now: int
    exclude: Sequence[str] = ()
    seed: int | None = None
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SlateQuery:
    """One query: for whom, and what.

    ``user_stats`` has shape (F,), NaN or None where unknown. ``removed`` are places of the catalogue that may not
    come back, beside what the user saw and excludes. ``rule`` is asked once the candidates are known, and
    again for each deeper search. ``explored`` is how many positions explored in the user's slates of before, for
    policies with a budget (each slate's ``policy`` says it of itself).
    """

    state: UserState
    user_stats: np.ndarray | None
    request: Request
    removed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    rule: Rule | None = None
    explored: int = 0


@dataclass(frozen=True)
class Recommendation:
    """The slate, and what it was drawn from; these fields go into the logged slate as they are."""

    shown: list[Shown]
    candidates: list[Candidate]
    policy: dict[str, Any]
    served_by: str
    context: dict[str, Any]


@dataclass(frozen=True)
class EncodedUsers:
    """The users of some queries as the model sees them: histories, and ``states_BD`` (B, 0 without a network)."""

    batch: HistoryBatch
    states_BD: np.ndarray


@dataclass(frozen=True)
class UserScores:
    """Some of the users, by their ``rows``: the scores of each source, the mix, and whose scores these are."""

    rows: np.ndarray
    served_by: str
    sources: dict[str, np.ndarray]
    mixed_BN: np.ndarray


def recommend(
    bundle: BundleView, state: UserState, user_stats: np.ndarray | None, request: Request, rule: Rule | None = None
) -> Recommendation:
    """A slate for one user; see ``recommend_many``."""
    return recommend_many(bundle, [SlateQuery(state, user_stats, request, rule=rule)])[0]


def recommend_many(
    bundle: BundleView,
    queries: Sequence[SlateQuery],
    users: EncodedUsers | None = None,
    live_1N: np.ndarray | None = None,
) -> list[Recommendation]:
    """A slate for each query: score everything, remove what may not come back, gather candidates, draw.

    Each is the slate that the query alone would have got. A user without any usable history is served by the
    bundle's popularity, and ``served_by`` says so. As many items come back as are asked for, unless fewer are left or
    a rule lets none of those that are left follow (``serving.caps`` says when a rule can end a slate early).
    ``users`` is what ``encode`` gave for these queries. ``live_1N`` (float32, in [-1, 1]) is what everybody says of
    the catalogue's items at this moment, by ``attune.item_profile``; without it that source is absent, as it is where
    models are judged. A bundle with a weight for it adds it to its popularity as well: who is new is shown hits too.
    """
    slates: dict[int, Recommendation] = {}
    for part in scored(bundle, users or encode(bundle, queries), live_1N):
        rows = part.rows.tolist()
        slates.update(zip(rows, _slates(bundle, [queries[row] for row in rows], part), strict=True))
    return [slates[place] for place in range(len(queries))]


def scored(bundle: BundleView, users: EncodedUsers, live_1N: np.ndarray | None = None) -> Iterator[UserScores]:
    """The scores of everything: the hybrid's for those who have a usable history, popularity's for the others."""
    known_B = users.batch.items_BL[:, -1] > 0
    for recommender, name, mask_B in ((bundle.hybrid, CHAMPION, known_B), (bundle.popularity, POPULARITY, ~known_B)):
        rows = np.flatnonzero(mask_B)
        if not len(rows):
            continue
        batch = users.batch.select(rows)
        if isinstance(recommender, Hybrid):
            sources = recommender.sources(batch, users.states_BD[rows], live_1N)
            mixed_BN = recommender.mix(sources, len(batch))
        else:
            mixed_BN = recommender.scores(batch)
            sources = {recommender.name: mixed_BN}
            live = bundle.hybrid.live if isinstance(bundle.hybrid, Hybrid) else 0.0
            if live and live_1N is not None:
                sources[LIVE], mixed_BN = live_1N, mixed_BN + np.float32(live) * live_1N
        yield UserScores(rows, name, sources, mixed_BN)


def encode(bundle: BundleView, queries: Sequence[SlateQuery], cache: StateCache | None = None) -> EncodedUsers:
    """The users of the queries. What the network says of them is looked up in ``cache`` first, and added to it.

    A key is the user, the log position that was folded, which of the events the bundle knows the items of, what it
    makes of those items that it did not learn (they may change), the statistics and the bucket of the time since the
    latest event: all that the network is given. Use one ``cache`` for a bundle and what it is extended to.
    """
    stats_BF = np.stack([UNKNOWN_USER_STATS if query.user_stats is None else query.user_stats for query in queries])
    now_B = np.array([query.request.now for query in queries], np.int64)
    batch = histories_from_states(bundle.catalogue, [query.state for query in queries], stats_BF, now_B)
    if not isinstance(bundle.hybrid, Hybrid):
        return EncodedUsers(batch, np.zeros((len(queries), 0), np.float32))
    if cache is None:
        return EncodedUsers(batch, bundle.hybrid.states(batch))
    network, learned = bundle.hybrid.network, bundle.hybrid.learned
    pauses = gap_buckets(batch.now_B - batch.times_BL[:, -1]).tolist()
    keys: list[Hashable] = []
    for query, items_L, pause, stats_F in zip(queries, batch.items_BL, pauses, batch.user_stats_BF, strict=True):
        later = [] if learned is None else (items_L[items_L > learned] - 1).tolist()
        attributes = network.items_ND[later].cpu().numpy().tobytes() if later else b""
        items = hash(items_L[items_L > 0].tobytes())
        keys.append((query.state.user_id, query.state.position, items, attributes, pause, stats_F.tobytes()))
    states = {place: state_D for place, key in enumerate(keys) if (state_D := cache.get(key)) is not None}
    missing = [place for place in range(len(queries)) if place not in states]
    if missing:
        part = batch if len(missing) == len(queries) else batch.select(np.array(missing))
        states.update(zip(missing, bundle.hybrid.states(part), strict=True))
        cache.update((keys[place], states[place]) for place in missing)
    return EncodedUsers(batch, np.stack([states[place] for place in range(len(queries))]))


@dataclass(frozen=True)
class _Slate:
    """What was drawn, from which candidates, by which policy."""

    policy: Policy
    candidates: Candidates
    pool: Pool
    draw: Draw


def _slates(bundle: BundleView, queries: Sequence[SlateQuery], scores: UserScores) -> list[Recommendation]:
    policy, catalogue, sources = bundle.policy, bundle.catalogue, scores.sources
    depths = [max(policy.depth, query.request.k) for query in queries]
    known = [catalogue.places([*query.state.seen, *query.request.exclude]) for query in queries]
    removed = [np.concatenate([places, query.removed]) for places, query in zip(known, queries, strict=True)]
    candidates = gather(scores.mixed_BN, sources, depths, removed, catalogue.new_places)
    seeds = [secrets.randbits(53) if query.request.seed is None else query.request.seed for query in queries]
    own = [_own(sources, policy.features, row) for row in range(len(queries))]
    places = [row.places_C for row in candidates]
    pools = [_pool(bundle, *row) for row in zip(queries, places, scores.mixed_BN, own, seeds, strict=True)]
    recommendations = []
    for row, draw in enumerate(policy.draw_many(pools)):
        query, slate = queries[row], _Slate(policy.at_depth(depths[row]), candidates[row], pools[row], draw)
        if query.rule is not None and len(draw.places_K) < query.request.k:
            all_own = _own(sources, tuple(sources), row)
            slate = _deepened(bundle, query, slate, all_own, scores.mixed_BN[row : row + 1], removed[row], seeds[row])
        recommendations.append(_recommendation(catalogue, slate, seeds[row], scores.served_by, query))
    return recommendations


def _own(sources: Sources, names: Sequence[str], row: int) -> dict[str, np.ndarray]:
    """The scores of one user by those of the named sources that there are, (1, N) each."""
    named = {name: sources[name] for name in names if name in sources}
    return {name: scores_BN[row : row + 1] if len(scores_BN) > 1 else scores_BN for name, scores_BN in named.items()}


def _pool(
    bundle: BundleView, query: SlateQuery, places_C: np.ndarray, mixed_N: np.ndarray, own: Sources, seed: int
) -> Pool:
    allowed = None if query.rule is None else query.rule(places_C)
    vectors_CD = bundle.likeness_ND[places_C] if bundle.policy.needs_vectors else None
    features_CF, rng = features_of(bundle.policy.features, own, places_C), np.random.default_rng(seed)
    return Pool(mixed_N[places_C], query.request.k, rng, allowed, places_C, vectors_CD, features_CF, query.explored)


def features_of(names: Sequence[str], scores: Sources, places_C: np.ndarray) -> np.ndarray | None:
    """The scores (1, N) of the named sources at the candidates (C, F), 0 for one that is absent; None without names."""
    if not names:
        return None
    absent_C = np.zeros(len(places_C), np.float32)
    return np.stack([scores[name][0, places_C] if name in scores else absent_C for name in names], axis=1)


def _deepened(
    bundle: BundleView,
    query: SlateQuery,
    slate: _Slate,
    own: Sources,
    mixed_1N: np.ndarray,
    removed: np.ndarray,
    seed: int,
) -> _Slate:
    """The slate of one query, by deeper and deeper searches, until it is full or nothing that is left may follow.

    Each is drawn anew under the same seed, and its policy names the depth. Under one cap on items of one value each
    the propensities are those of the whole answer, otherwise those of the draw at that depth.
    """
    depth = max(bundle.policy.depth, query.request.k)
    is_left_N = np.ones(len(bundle.catalogue), bool)
    is_left_N[removed[removed >= 0]] = False
    left = np.flatnonzero(is_left_N)
    allowed = None if query.rule is None else query.rule(left)
    while len(slate.draw.places_K) < query.request.k and depth < len(left) and _may_follow(allowed, left, slate):
        depth = min(DEEPER * depth, len(left))
        policy = bundle.policy.at_depth(depth)
        (candidates,) = gather(mixed_1N, own, [depth], [removed], bundle.catalogue.new_places)
        pool = _pool(bundle, query, candidates.places_C, mixed_1N[0], own, seed)
        slate = _Slate(policy, candidates, pool, policy.draw_many([pool])[0])
    return slate


def _may_follow(allowed: Allowed | None, left: np.ndarray, slate: _Slate) -> bool:
    """Whether any item that is left (places, ascending) may stand below those of the slate by the rule over them."""
    if allowed is None:
        return True
    above = np.searchsorted(left, slate.candidates.places_C[slate.draw.places_K])
    open_C = allowed(above.tolist()).copy()
    open_C[above] = False
    return bool(open_C.any())


def _recommendation(
    catalogue: Catalogue, slate: _Slate, seed: int, served_by: str, query: SlateQuery
) -> Recommendation:
    candidates, draw = slate.candidates, slate.draw
    ids_C = [catalogue.item_ids[place] for place in candidates.places_C.tolist()]
    scores_C = slate.pool.scores_C.tolist()
    positions = zip(draw.places_K.tolist(), draw.propensities_K.tolist(), strict=True)
    return Recommendation(
        shown=[Shown(ids_C[place], scores_C[place], propensity) for place, propensity in positions],
        candidates=list(map(Candidate, ids_C, scores_C, candidates.sources_C)),
        policy={**slate.policy.describe(), **draw.notes, "seed": seed},
        served_by=served_by,
        context=query.request.context,
    )


def histories_from_states(
    catalogue: Catalogue, states: Sequence[UserState], user_stats_BF: np.ndarray, now: int | np.ndarray
) -> HistoryBatch:
    """The states' histories as arrays, the same that ``models.learning.dataset.histories`` gives for these events.

    Events that were taken back and items that the catalogue lacks are left out; item statistics are the
    catalogue's. The batch is as long as its longest history, at least 1. ``now`` is one time for all, or one each.
    """
    kept = []
    for state in states:
        events = [event for event in state.recent if not event.retracted]
        places = catalogue.places([event.item_id for event in events]).tolist()
        kept.append([(place + 1, event) for place, event in zip(places, events, strict=True) if place >= 0])
    kept = [row[-HISTORY_LIMIT:] for row in kept]
    length = max(map(len, kept), default=1) or 1
    known_BL = np.arange(length) >= length - np.array([len(row) for row in kept])[:, None]
    flat = list(chain.from_iterable(kept))

    def filled(values: list[Any], padding: float, dtype: type) -> np.ndarray:
        filled_BL: np.ndarray = np.full(known_BL.shape, padding, dtype)
        filled_BL[known_BL] = values
        return filled_BL

    items_BL = filled([item for item, _ in flat], 0, np.int64)
    stats_BLF = np.full((*items_BL.shape, len(ITEM_STATS)), np.nan, np.float32)
    stats_BLF[known_BL] = catalogue.stats_NF[items_BL[known_BL] - 1]
    return HistoryBatch(
        items_BL=items_BL,
        kinds_BL=filled([KIND_INDEX[event.kind] for _, event in flat], 0, np.int64),
        rewards_BL=filled([reward(event.kind, event.value) for _, event in flat], 0.5, np.float32),
        times_BL=filled([event.time for _, event in flat], 0, np.int64),
        item_stats_BLF=stats_BLF,
        user_stats_BF=np.asarray(user_stats_BF, np.float32),
        now_B=np.full(len(states), now, np.int64),
    )
