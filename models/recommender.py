"""The pipeline: a user's state and a bundle in, a slate out. Pure: replay, gates and serving all run this."""

import secrets
from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np

from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import reward
from attune.events import Candidate, Shown
from attune.user_state import UserState
from models.catalogue import Catalogue
from models.history import HISTORY_LIMIT, KIND_INDEX, HistoryBatch, Recommender
from models.network.sequence import gap_buckets
from models.ranking.policy import Allowed, Drawn, Lot, Policy, Rule
from models.ranking.retrieval import Candidates, gather
from models.sources import LIVE

CHAMPION = "champion"
POPULARITY = "popularity"

Kept = MutableMapping[Hashable, np.ndarray]
"""What the network said of users: states (D,) by key, see ``encode``."""

DEEPER = 8
"""How many times as deep the next search is where a rule left a slate short."""

NOTHING = np.zeros(0, np.int64)
UNKNOWN_USER_STATS = np.full(len(USER_STATS), np.nan, np.float32)


@runtime_checkable
class Mixture(Protocol):
    """A recommender of several sources (``models.hybrid.Hybrid`` is one): each can be asked on its own."""

    @property
    def live(self) -> float: ...
    @property
    def learned(self) -> int | None: ...
    def states(self, batch: HistoryBatch) -> np.ndarray: ...
    def sources(
        self, batch: HistoryBatch, states_BD: np.ndarray, live_1N: np.ndarray | None = None
    ) -> dict[str, np.ndarray]: ...
    def mix(self, sources: Mapping[str, np.ndarray], users: int) -> np.ndarray: ...


class Served(Protocol):
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
    def of(bundle: Served) -> "PopularityAlone":
        """Equal catalogue and policy."""
        return PopularityAlone(bundle.catalogue, bundle.popularity, bundle.policy, bundle.likeness_ND)

    @property
    def hybrid(self) -> Recommender:
        """Popularity again."""
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
class Asked:
    """One question: for whom, and what.

    ``user_stats`` has shape (F,), NaN or None where unknown. ``removed`` are places of the catalogue that may not
    come back, beside what the user saw and excludes. ``rule`` is asked once the candidates are known, and
    again for each deeper search. ``explored`` is how many positions explored in the user's slates of before, for
    policies with a budget (each slate's ``policy`` says it of itself).
    """

    state: UserState
    user_stats: np.ndarray | None
    request: Request
    removed: np.ndarray = field(default_factory=lambda: NOTHING)
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
class Users:
    """The users of some questions as the model sees them: histories, and ``states_BD`` (B, 0 without a network)."""

    batch: HistoryBatch
    states_BD: np.ndarray


def recommend(
    bundle: Served,
    state: UserState,
    user_stats: np.ndarray | None,
    request: Request,
    rule: Rule | None = None,
) -> Recommendation:
    """A slate for one user; see ``recommend_many``."""
    return recommend_many(bundle, [Asked(state, user_stats, request, rule=rule)])[0]


def recommend_many(
    bundle: Served, asked: Sequence[Asked], users: Users | None = None, live_1N: np.ndarray | None = None
) -> list[Recommendation]:
    """A slate for each question: score everything, remove what may not come back, gather candidates, draw.

    Each is the slate that the question alone would have got. A user without any usable history is served by the
    bundle's popularity, and ``served_by`` says so. As many items come back as are asked for, unless fewer are left or
    a rule lets none of those that are left follow (``serving.caps`` says when a rule can end a slate early).
    ``users`` is what ``encode`` gave for these questions. ``live_1N`` (float32, in [-1, 1]) is what everybody says of
    the catalogue's items at this moment, by ``attune.item_profile``; without it that source is absent, as it is where
    models are judged. A bundle with a weight for it adds it to its popularity as well: who is new is shown hits too.
    """
    found: dict[int, Recommendation] = {}
    for part in scored(bundle, users or encode(bundle, asked), live_1N):
        rows = part.rows.tolist()
        slates = _slates(bundle, [asked[row] for row in rows], part.sources, part.mixed_BN, part.served_by)
        found.update(zip(rows, slates, strict=True))
    return [found[place] for place in range(len(asked))]


@dataclass(frozen=True)
class Scored:
    """Some of the users, by their ``rows``: what each source says to them, the mix, and whose scores these are."""

    rows: np.ndarray
    served_by: str
    sources: dict[str, np.ndarray]
    mixed_BN: np.ndarray


def scored(bundle: Served, users: Users, live_1N: np.ndarray | None = None) -> Iterator[Scored]:
    """The scores of everything: the hybrid's for those who have a usable history, popularity's for the others."""
    known_B = users.batch.items_BL[:, -1] > 0
    for recommender, name, mask_B in ((bundle.hybrid, CHAMPION, known_B), (bundle.popularity, POPULARITY, ~known_B)):
        rows = np.flatnonzero(mask_B)
        if len(rows):
            part = Users(users.batch.select(rows), users.states_BD[rows])
            yield Scored(rows, name, *_scored(bundle, recommender, part, live_1N))


def encode(bundle: Served, asked: Sequence[Asked], kept: Kept | None = None) -> Users:
    """The users of the questions. What the network said of them is looked up in ``kept`` first, and kept there.

    A key is the user, the log position that was folded, which of the events the bundle knows the items of, what is said
    of those items that it did not learn, the statistics and the bucket of the time since the latest event: all that
    the network is given. Use one ``kept`` for a bundle and what it is extended to.
    """
    stats_BF = np.stack([UNKNOWN_USER_STATS if one.user_stats is None else one.user_stats for one in asked])
    now_B = np.array([one.request.now for one in asked], np.int64)
    batch = histories_from_states(bundle.catalogue, [one.state for one in asked], stats_BF, now_B)
    if not isinstance(bundle.hybrid, Mixture):
        return Users(batch, np.zeros((len(asked), 0), np.float32))
    if kept is None:
        return Users(batch, bundle.hybrid.states(batch))
    keys = _keys(asked, batch, bundle.catalogue, bundle.hybrid.learned)
    found = {place: state_D for place, key in enumerate(keys) if (state_D := kept.get(key)) is not None}
    missing = [place for place in range(len(asked)) if place not in found]
    if missing:
        part = batch if len(missing) == len(asked) else batch.select(np.array(missing))
        found.update(zip(missing, bundle.hybrid.states(part), strict=True))
        kept.update((keys[place], found[place]) for place in missing)
    return Users(batch, np.stack([found[place] for place in range(len(asked))]))


def _keys(asked: Sequence[Asked], batch: HistoryBatch, catalogue: Catalogue, learned: int | None) -> list[Hashable]:
    pauses = gap_buckets(batch.now_B - batch.times_BL[:, -1]).tolist()
    known = [hash(items_L[items_L > 0].tobytes()) for items_L in batch.items_BL]
    later = [() if learned is None else _described(catalogue, items_L, learned) for items_L in batch.items_BL]
    return [
        (one.state.user_id, one.state.position, items, said, pause, stats_F.tobytes())
        for one, items, said, pause, stats_F in zip(asked, known, later, pauses, batch.user_stats_BF, strict=True)
    ]


def _described(catalogue: Catalogue, items_L: np.ndarray, learned: int) -> tuple[Hashable, ...]:
    """What the network is told of the items that it did not learn: it may be another tomorrow."""
    places = (items_L[items_L > learned] - 1).tolist()
    return tuple((catalogue.genres[place], catalogue.years[place]) for place in places)


def _scored(
    bundle: Served, recommender: Recommender, users: Users, live_1N: np.ndarray | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the sources say, and all of it mixed."""
    if isinstance(recommender, Mixture):
        sources = recommender.sources(users.batch, users.states_BD, live_1N)
        return sources, recommender.mix(sources, len(users.batch))
    scores_BN = recommender.scores(users.batch)
    weight = bundle.hybrid.live if isinstance(bundle.hybrid, Mixture) else 0.0
    if not weight or live_1N is None:
        return {recommender.name: scores_BN}, scores_BN
    return {recommender.name: scores_BN, LIVE: live_1N}, scores_BN + np.float32(weight) * live_1N


def _slates(
    bundle: Served, asked: Sequence[Asked], sources: Mapping[str, np.ndarray], mixed_BN: np.ndarray, served_by: str
) -> list[Recommendation]:
    policy, catalogue = bundle.policy, bundle.catalogue
    depths = [max(policy.depth, one.request.k) for one in asked]
    removed = [_removed(catalogue, one) for one in asked]
    found = gather(mixed_BN, sources, depths, removed, catalogue.new_places)
    seeds = [secrets.randbits(53) if one.request.seed is None else one.request.seed for one in asked]
    said = [_said(sources, policy.features, row) for row in range(len(asked))]
    lots = [_lot(bundle, *one) for one in zip(asked, found, mixed_BN, said, seeds, strict=True)]
    slates = []
    for row, drawn in enumerate(policy.draw_many(lots)):
        one, slate = asked[row], _Slate(policy.at_depth(depths[row]), found[row], lots[row], drawn)
        if one.rule is not None and len(drawn.places_K) < one.request.k:
            own = _said(sources, tuple(sources), row)
            slate = _deepened(bundle, one, slate, own, mixed_BN[row : row + 1], removed[row], seeds[row])
        slates.append(_recommendation(catalogue, slate, seeds[row], served_by, one))
    return slates


@dataclass(frozen=True)
class _Slate:
    """What was drawn, from what, by which policy."""

    policy: Policy
    found: Candidates
    lot: Lot
    drawn: Drawn


def _said(sources: Mapping[str, np.ndarray], names: Sequence[str], row: int) -> dict[str, np.ndarray]:
    """What those of the named sources that there are say to one user, (1, N) each."""
    named = {name: sources[name] for name in names if name in sources}
    return {name: said[row : row + 1] if len(said) > 1 else said for name, said in named.items()}


def _lot(
    bundle: Served, asked: Asked, found: Candidates, mixed_N: np.ndarray, said: Mapping[str, np.ndarray], seed: int
) -> Lot:
    return Lot(
        scores_C=mixed_N[found.places_C],
        k=asked.request.k,
        rng=np.random.default_rng(seed),
        allowed=None if asked.rule is None else asked.rule(found.places_C),
        keys_C=found.places_C,
        vectors_CD=bundle.likeness_ND[found.places_C] if bundle.policy.needs_vectors else None,
        features_CF=features_of(bundle.policy.features, said, found.places_C),
        explored=asked.explored,
    )


def features_of(names: Sequence[str], said: Mapping[str, np.ndarray], places_C: np.ndarray) -> np.ndarray | None:
    """What the named sources say of the candidates (C, F); one that is absent says 0. None where none is named."""
    if not names:
        return None
    silent_C = np.zeros(len(places_C), np.float32)
    return np.stack([said[name][0, places_C] if name in said else silent_C for name in names], axis=1)


def _deepened(
    bundle: Served,
    asked: Asked,
    slate: _Slate,
    sources: Mapping[str, np.ndarray],
    mixed_1N: np.ndarray,
    removed: np.ndarray,
    seed: int,
) -> _Slate:
    """The slate of a question alone, by deeper and deeper searches, until it is full or nothing that is left fits.

    Each is drawn anew under the same seed, and its policy names the depth. Under one cap on items of one value each
    the depth follows from the candidates alone, and the propensities are those of the whole answer; otherwise they
    are those of the draw at that depth, since whether it was needed depends on the draw before.
    """
    depth = max(bundle.policy.depth, asked.request.k)
    is_left_N = np.ones(len(bundle.catalogue), bool)
    is_left_N[removed[removed >= 0]] = False
    left = np.flatnonzero(is_left_N)
    allowed = None if asked.rule is None else asked.rule(left)
    while len(slate.drawn.places_K) < asked.request.k and depth < len(left) and _fits(allowed, left, slate):
        depth = min(DEEPER * depth, len(left))
        policy = bundle.policy.at_depth(depth)
        (found,) = gather(mixed_1N, sources, [depth], [removed], bundle.catalogue.new_places)
        lot = _lot(bundle, asked, found, mixed_1N[0], sources, seed)
        slate = _Slate(policy, found, lot, policy.draw_many([lot])[0])
    return slate


def _fits(allowed: Allowed | None, left: np.ndarray, slate: _Slate) -> bool:
    """Whether any item that is left (places, ascending) may stand below those of the slate by the rule over them."""
    if allowed is None:
        return True
    above = np.searchsorted(left, slate.found.places_C[slate.drawn.places_K])
    open_C = allowed(above.tolist()).copy()
    open_C[above] = False
    return bool(open_C.any())


def _removed(catalogue: Catalogue, asked: Asked) -> np.ndarray:
    seen = catalogue.places([*asked.state.seen, *asked.request.exclude])
    return np.concatenate([seen, asked.removed])


def _recommendation(catalogue: Catalogue, slate: _Slate, seed: int, served_by: str, asked: Asked) -> Recommendation:
    found, drawn = slate.found, slate.drawn
    ids_C, scores_C = [catalogue.item_ids[place] for place in found.places_C.tolist()], slate.lot.scores_C.tolist()
    chosen = zip(drawn.places_K.tolist(), drawn.propensities_K.tolist(), strict=True)
    return Recommendation(
        shown=[Shown(ids_C[place], scores_C[place], propensity) for place, propensity in chosen],
        candidates=list(map(Candidate, ids_C, scores_C, found.sources_C)),
        policy={**slate.policy.describe(), **drawn.notes, "seed": seed},
        served_by=served_by,
        context=asked.request.context,
    )


def histories_from_states(
    catalogue: Catalogue, states: Sequence[UserState], user_stats_BF: np.ndarray, now: int | np.ndarray
) -> HistoryBatch:
    """The states' histories as arrays, the same that ``models.learning.dataset.histories`` gives for these events.

    Events that were taken back and items that the catalogue lacks are left out; item statistics are the
    catalogue's. The batch is as long as its longest history, at least 1. ``now`` is one time for all, or one each.
    """
    events = [[one for one in state.recent if not one.retracted] for state in states]
    places = [catalogue.places([one.item_id for one in row]) for row in events]
    kept = [
        [(int(place) + 1, one) for place, one in zip(found, row, strict=True) if place >= 0][-HISTORY_LIMIT:]
        for found, row in zip(places, events, strict=True)
    ]
    length = max(1, *map(len, kept)) if kept else 1
    known_BL = np.arange(length) >= length - np.array([len(row) for row in kept])[:, None]
    flat = list(chain.from_iterable(kept))

    def filled(values: list[Any], padding: float, dtype: type) -> np.ndarray:
        found_BL: np.ndarray = np.full(known_BL.shape, padding, dtype)
        found_BL[known_BL] = values
        return found_BL

    items_BL = filled([item for item, _ in flat], 0, np.int64)
    stats_BLF = np.full((*items_BL.shape, len(ITEM_STATS)), np.nan, np.float32)
    stats_BLF[known_BL] = catalogue.stats_NF[items_BL[known_BL] - 1]
    return HistoryBatch(
        items_BL=items_BL,
        kinds_BL=filled([KIND_INDEX[one.kind] for _, one in flat], 0, np.int64),
        rewards_BL=filled([reward(one.kind, one.value) for _, one in flat], 0.5, np.float32),
        times_BL=filled([one.time for _, one in flat], 0, np.int64),
        item_stats_BLF=stats_BLF,
        user_stats_BF=np.asarray(user_stats_BF, np.float32),
        now_B=np.full(len(states), now, np.int64),
    )
