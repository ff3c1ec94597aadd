"""What can be read beside slates: an item's neighbours, what is popular, what is known of a user."""

from collections import Counter

import numpy as np

from attune.clock import Clock, to_iso
from attune.user_state import Recent, empty
from models.ranking.retrieval import top_k, without
from models.recommender import CHAMPION, UNKNOWN_USER_STATS, histories_from_states
from serving.bounded_executor import Lane
from serving.catalogue_snapshot import Choice, Shelf, Shop, ShopKeeper
from serving.champion import Champion, ChampionWatch
from serving.error_responses import Refused
from serving.schemas import (
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
from serving.state import StateReader

LOG = "log"
STATE_SECONDS = 1.0


class Reading:
    """Answers what is asked about items and users; ``reads`` is the lane of what takes a while.

    Items that are out of stock or retired are left out of what is shown. They may still be asked for: the neighbours of
    an item that is sold out are what its page needs.
    """

    def __init__(
        self,
        watch: ChampionWatch,
        states: StateReader,
        reads: Lane,
        clock: Clock,
        keeper: ShopKeeper,
    ) -> None:
        self._watch = watch
        self._states = states
        self._reads = reads
        self._clock = clock
        self._keeper = keeper

    async def similar(self, asked: SimilarRequest) -> SimilarAnswer:
        """The nearest items; raises Refused: 404 for an unknown item, 503 without a champion."""
        champion = self._watch.champion
        if champion is None:
            raise Refused(503, "no champion answers, and nothing else knows which items are alike; promote a model")
        return await self._reads.run(self._nearest, champion, asked)

    def _nearest(self, champion: Champion, asked: SimilarRequest) -> SimilarAnswer:
        shop = self._keeper.offer(Choice(champion.shelf, {})).shop
        catalogue, likeness_ND = shop.served.catalogue, shop.served.likeness_ND
        place = catalogue.index.get(asked.item_id)
        if place is None:
            message = f"item_id: version {champion.version} does not know {asked.item_id!r}; ask for an item it learned"
            raise Refused(404, message, "item_id")
        similarity_N = likeness_ND @ likeness_ND[place]
        ids = [catalogue.item_ids[one] for one in _best(similarity_N, asked.k, np.append(shop.hidden, place))]
        return SimilarAnswer(
            item_id=asked.item_id,
            title=shop.title(asked.item_id),
            model_version=champion.version,
            items=[
                SimilarItem(item_id=one, title=shop.title(one), similarity=float(similarity_N[catalogue.index[one]]))
                for one in ids
            ],
        )

    async def popular(self, asked: PopularRequest) -> PopularAnswer:
        """What is popular by the champion, else by the log's counts; raises Refused (503) while neither is there."""
        champion, counted = self._watch.champion, self._watch.popular
        shelf = champion.shelf if champion else counted.shelf if counted else None
        if shelf is None:
            raise Refused(503, "neither a model nor the popularity fallback is loaded yet; ask again in a moment")
        return await self._reads.run(self._most_popular, champion, shelf, asked.k)

    def _most_popular(self, champion: Champion | None, shelf: Shelf, k: int) -> PopularAnswer:
        shop = self._keeper.offer(Choice(shelf, {})).shop
        catalogue = shop.served.catalogue
        nobody = histories_from_states(catalogue, [empty("")], UNKNOWN_USER_STATS[None], self._clock())
        scores_N = shop.served.popularity.scores(nobody)[0]
        items = [
            PopularItem(
                item_id=catalogue.item_ids[one],
                title=shop.title(catalogue.item_ids[one]),
                score=float(scores_N[one]),
            )
            for one in _best(scores_N, k, shop.hidden)
        ]
        version = champion.version if champion else None
        return PopularAnswer(counted_by=CHAMPION if champion else LOG, model_version=version, items=items)

    async def state(self, asked: StateRequest) -> StateAnswer:
        """What is known of the user as of now."""
        known = await self._states.read(asked.user_id, STATE_SECONDS)
        state, champion = known.state, self._watch.champion
        counts: Counter[str] = Counter()
        for (_, kind), number in state.counts.items():
            counts[kind] += number
        latest = state.recent[len(state.recent) - min(asked.limit, len(state.recent)) :]
        return StateAnswer(
            user_id=state.user_id,
            position=state.position,
            events=state.events,
            first_event_at=None if state.first_time is None else to_iso(state.first_time),
            last_event_at=None if state.last_time is None else to_iso(state.last_time),
            recent=[_recent(one, champion.shelf.shop if champion else None) for one in reversed(latest)],
            seen=len(state.seen),
            counts=dict(counts.most_common()),
            attributes=state.attributes,
            snapshot_position=known.snapshot_position,
            snapshot_from=known.snapshot_from,
            tail=known.tail,
            degraded=known.degraded,
        )


def _best(scores_N: np.ndarray, k: int, removed: np.ndarray) -> list[int]:
    return top_k(without(scores_N, removed), k).tolist()


def _recent(event: Recent, shop: Shop | None) -> RecentEvent:
    return RecentEvent(
        event_id=event.event_id,
        item_id=event.item_id,
        title=shop.title(event.item_id) if shop and event.item_id in shop.served.catalogue.index else None,
        kind=event.kind,
        value=event.value,
        event_timestamp=to_iso(event.time),
        position=event.position,
        retracted=event.retracted,
    )
