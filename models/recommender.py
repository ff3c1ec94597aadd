"""The pipeline: a user's state and a bundle in, a slate out. Pure: replay, gates and serving all run this."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np

from attune.columns import ITEM_STATS, USER_STATS
from attune.events import Candidate, Shown
from attune.kinds import reward
from attune.user_state import UserState
from models.catalogue import Catalogue
from models.contract import Recommender
from models.history import HISTORY_LIMIT, KIND_INDEX, HistoryBatch
from models.ranking.policy import Allowed, PlackettLuce
from models.ranking.retrieval import top_k

CHAMPION = "champion"
POPULARITY = "popularity"

UNKNOWN_USER_STATS = np.full(len(USER_STATS), np.nan, np.float32)


class Served(Protocol):
    """What the pipeline needs of a bundle (``models.bundle.Bundle`` has it)."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def hybrid(self) -> Recommender: ...
    @property
    def popularity(self) -> Recommender: ...
    @property
    def policy(self) -> PlackettLuce: ...


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
class Recommendation:
    """The slate, and what it was drawn from; these fields go into the logged slate as they are."""

    shown: list[Shown]
    candidates: list[Candidate]
    policy: dict[str, Any]
    served_by: str
    context: dict[str, Any]


def recommend(
    bundle: Served,
    state: UserState,
    user_stats: np.ndarray | None,
    request: Request,
    allowed: Allowed | None = None,
) -> Recommendation:
    """A slate for one user: score everything, remove what was seen or excluded, draw by the policy.

    A user without any usable history is served by the bundle's popularity, and ``served_by`` says so.
    ``user_stats`` has shape (F,), NaN or None where unknown. As many items come back as are asked for, unless
    fewer are left. ``allowed`` is a rule over the candidates, see ``models.ranking.policy``.
    """
    stats_1F = (UNKNOWN_USER_STATS if user_stats is None else user_stats)[None, :]
    batch = histories_from_states(bundle.catalogue, [state], stats_1F, request.now)
    known = bool((batch.items_BL > 0).any())
    scores_N = (bundle.hybrid if known else bundle.popularity).scores(batch)[0]
    removed = bundle.catalogue.places([*state.seen, *request.exclude])
    places_C = top_k(scores_N, max(bundle.policy.depth, request.k), removed)
    scores_C = scores_N[places_C]
    seed = secrets.randbits(53) if request.seed is None else request.seed
    drawn = bundle.policy.draw(scores_C, request.k, np.random.default_rng(seed), allowed, keys_C=places_C)
    ids_C = [bundle.catalogue.item_ids[place] for place in places_C]
    chosen = zip(drawn.places_K.tolist(), drawn.propensities_K.tolist(), strict=True)
    return Recommendation(
        shown=[Shown(ids_C[place], float(scores_C[place]), propensity) for place, propensity in chosen],
        candidates=[Candidate(*pair) for pair in zip(ids_C, scores_C.tolist(), strict=True)],
        policy={**bundle.policy.describe(), "seed": seed},
        served_by=CHAMPION if known else POPULARITY,
        context=request.context,
    )


def histories_from_states(
    catalogue: Catalogue, states: Sequence[UserState], user_stats_BF: np.ndarray, now: int
) -> HistoryBatch:
    """The states' histories as arrays, the same that ``models.learning.dataset.histories`` gives for these events.

    Events that were taken back and items that the catalogue lacks are left out; item statistics are the
    catalogue's. The batch is as long as its longest history, at least 1.
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
