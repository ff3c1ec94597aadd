"""What can be read beside slates: an item's neighbours, what is popular, what is known of a user."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from attune.clock import Clock, shown_time
from attune.schemas import (
    PopularAnswer,
    PopularItem,
    PopularRequest,
    RecentEvent,
    SimilarAnswer,
    SimilarItem,
    SimilarRequest,
    StateAnswer,
    StateRequest,
)
from attune.user_state import UserState
from models.ranking.retrieval import top_k, without
from models.recommender import CHAMPION, UNKNOWN_USER_STATS, histories_from_states
from serving.catalogue_snapshot import CatalogueReader, ItemFilter, LiveModel
from serving.champion import ChampionWatcher
from serving.error_responses import Refused
from serving.micro_batcher import BoundedExecutor
from serving.ranking import Champion
from serving.state import StateReader

LOG = "log"


@dataclass(frozen=True)
class LookupService:
    """Answers what is asked about items and users; what takes a while runs on the executor ``reads``.

    Items that are out of stock or retired are never among the answers. They may still be asked for: the page of an item
    that is sold out needs its neighbours. A state is read within ``seconds``.
    """

    watcher: ChampionWatcher
    states: StateReader
    reads: BoundedExecutor
    clock: Clock
    catalogue: CatalogueReader
    seconds: float

    async def similar(self, address: SimilarRequest) -> SimilarAnswer:
        """The nearest items; raises Refused: 404 for an unknown item, 503 without a champion."""
        champion = self.watcher.champion
        if champion is None:
            raise Refused(503, "no champion answers, and nothing else knows which items are alike; promote a model")
        return await self.reads.run(self._nearest, champion, address.item_id, address.k)

    def _nearest(self, champion: Champion, item_id: str, k: int) -> SimilarAnswer:
        snapshot = self.catalogue.pools([ItemFilter(champion.live, {})])[0].snapshot
        catalogue, likeness_ND = snapshot.model.catalogue, snapshot.model.likeness_ND
        place = catalogue.index.get(item_id)
        if place is None:
            message = f"item_id: version {champion.version} does not know {item_id!r}; ask for an item it learned"
            raise Refused(404, message, "item_id")
        similarity_N = likeness_ND @ likeness_ND[place]
        nearest = top_k(without(similarity_N, np.append(snapshot.hidden, place)), k).tolist()
        items = [
            SimilarItem(item_id=near, title=snapshot.title(near), similarity=float(similarity_N[catalogue.index[near]]))
            for near in map(catalogue.item_ids.__getitem__, nearest)
        ]
        return SimilarAnswer(
            item_id=item_id, title=snapshot.title(item_id), model_version=champion.version, items=items
        )

    async def popular(self, address: PopularRequest) -> PopularAnswer:
        """What is popular by the champion, else by the log's counts; raises Refused (503) while neither is there."""
        champion, popular = self.watcher.champion, self.watcher.popular
        live = champion.live if champion else popular.live if popular else None
        if live is None:
            raise Refused(503, "neither a model nor the popularity fallback is loaded yet; ask again in a moment")
        return await self.reads.run(self._most_popular, champion, live, address.k)

    def _most_popular(self, champion: Champion | None, live: LiveModel, k: int) -> PopularAnswer:
        snapshot = self.catalogue.pools([ItemFilter(live, {})])[0].snapshot
        catalogue = snapshot.model.catalogue
        nobody = histories_from_states(catalogue, [UserState("")], UNKNOWN_USER_STATS[None], self.clock())
        scores_N = snapshot.model.popularity.scores(nobody)[0]
        places = top_k(without(scores_N, snapshot.hidden), k).tolist()
        items = [
            PopularItem(item_id=item_id, title=snapshot.title(item_id), score=float(scores_N[catalogue.index[item_id]]))
            for item_id in map(catalogue.item_ids.__getitem__, places)
        ]
        version = champion.version if champion else None
        return PopularAnswer(counted_by=CHAMPION if champion else LOG, model_version=version, items=items)

    async def state(self, address: StateRequest) -> StateAnswer:
        user = await self.states.read(address.user_id, self.seconds)
        state, champion = user.state, self.watcher.champion
        snapshot = champion.live.snapshot if champion else None
        counts: Counter[str] = Counter()
        for (_, kind), number in state.counts.items():
            counts[kind] += number
        latest = state.recent[len(state.recent) - min(address.limit, len(state.recent)) :]
        recent = [
            RecentEvent(
                event_id=event.event_id,
                item_id=event.item_id,
                title=(
                    snapshot.title(event.item_id)
                    if snapshot and event.item_id in snapshot.model.catalogue.index
                    else None
                ),
                kind=event.kind,
                value=event.value,
                event_timestamp=shown_time(event.time),
                position=event.position,
                retracted=event.retracted,
            )
            for event in reversed(latest)
        ]
        return StateAnswer(
            user_id=state.user_id,
            position=state.position,
            events=state.events,
            first_event_at=None if state.first_time is None else shown_time(state.first_time),
            last_event_at=None if state.last_time is None else shown_time(state.last_time),
            recent=recent,
            seen=len(state.seen),
            counts=dict(counts.most_common()),
            attributes=state.attributes,
            snapshot_position=user.snapshot_position,
            snapshot_from=user.snapshot_from,
            tail=user.tail,
            degraded=user.degraded,
        )
