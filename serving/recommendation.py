"""One recommendation: capture the model, read the state, rank, queue the slate for the log, answer."""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field

import msgspec

from attune.clock import Clock
from attune.errors import AttuneError, DataContractError
from attune.events import CANDIDATES_LOGGED, Slate
from attune.group_commit import GroupCommit
from attune.schemas import BatchAnswer, BatchEntry, BatchRequest, RecommendAnswer, RecommendRequest, ShownItem, decode
from models.recommender import Recommendation, Request
from serving.catalogue_snapshot import ItemFilter
from serving.champion import ChampionWatcher, WarmUp
from serving.error_responses import UNEXPECTED, fault
from serving.exploration_budget import ExplorationBudgets
from serving.metrics import Metrics
from serving.micro_batcher import MicroBatcher, Overloaded
from serving.ranking import PopularityFallback, RankingQuery, rank_by_popularity
from serving.slates import RecentSlates, SlateSigner
from serving.state import StateReader

log = logging.getLogger(__name__)

CONCURRENT_REQUESTS = 32
"""Of one batch so many requests are worked on at a time, twice as many as are ranked together: the next micro-batch
gathers while one is ranked, and other callers' requests find their place between them."""

_REQUEST = msgspec.json.Decoder(RecommendRequest)


@dataclass(frozen=True)
class RecommendationService:
    """Answers requests for slates, each within ``seconds``."""

    watcher: ChampionWatcher
    states: StateReader
    ranking: MicroBatcher[RankingQuery, Recommendation]
    signer: SlateSigner
    recent: RecentSlates
    commit: GroupCommit
    metrics: Metrics
    clock: Clock
    seconds: float
    warm_up: WarmUp
    budgets: ExplorationBudgets
    empty: PopularityFallback = field(default_factory=lambda: PopularityFallback([]))

    async def recommend(self, body: RecommendRequest) -> RecommendAnswer:
        champion, popular = self.watcher.champion, self.watcher.popular
        started = time.perf_counter()
        live = champion.live if champion else (popular or self.empty).live
        user, pool = await self.states.read_with_pool(body.user_id, ItemFilter(live, body.where), self.seconds / 2)
        read = time.perf_counter()
        seed = secrets.randbits(53) if body.seed is None else body.seed
        request = Request(k=body.k, exclude=tuple(body.exclude), seed=seed, now=self.clock(), context=body.context)
        policy, left = champion.bundle.policy if champion else None, self.seconds - (read - started)
        async with self.budgets.reserve(body.user_id, policy, body.k, left / 2) as reservation:
            query = RankingQuery(champion, pool, user, request, body.at_most, reservation.before)
            result = await self._rank(query, started)
            ranked = time.perf_counter()
            answer = self._log_slate(body, query, result)
            reservation.slate_id = answer.slate_id or f"not logged {request.now}"
            reservation.explored = result.policy.get("explored", 0)
        self.metrics.stages.labels("state").observe(read - started)
        self.metrics.stages.labels("model").observe(ranked - read)
        self.metrics.stages.labels("slate").observe(time.perf_counter() - ranked)
        self.metrics.served.labels(answer.served_by).inc()
        self.metrics.effect.shown(answer.user_id, answer.state_position)
        self.warm_up.record(user, request, body.where, body.at_most)
        return answer

    async def recommend_batch(self, body: BatchRequest) -> BatchAnswer:
        """The answers, in order: each as if its request had come alone; one that is wrong costs no other."""
        semaphore = asyncio.Semaphore(CONCURRENT_REQUESTS)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._entry(raw, semaphore)) for raw in body.requests]
        return BatchAnswer(answers=[task.result() for task in tasks])

    async def _entry(self, raw: msgspec.Raw, semaphore: asyncio.Semaphore) -> BatchEntry:
        try:
            body = decode(raw, _REQUEST)
            async with semaphore:
                return BatchEntry(slate=await self.recommend(body), error=None)
        except DataContractError as error:
            return BatchEntry(slate=None, error=fault(str(error), error.field))
        except AttuneError as error:
            return BatchEntry(slate=None, error=fault(str(error)))
        except Exception:
            log.exception("one request of a batch failed")
            return BatchEntry(slate=None, error=fault(UNEXPECTED))

    async def _rank(self, query: RankingQuery, started: float) -> Recommendation:
        """The model's slate, or popularity's when the model does not answer in time."""
        left = self.seconds - (time.perf_counter() - started)
        try:
            return await self.ranking.submit(query, max(left, 0.0))
        except Overloaded as error:
            log.warning("popularity answers: %s", error)
            query.user.degraded.append("model")
            self.metrics.fallbacks.labels("model").inc()
            return await asyncio.to_thread(rank_by_popularity, query)

    def _log_slate(self, body: RecommendRequest, query: RankingQuery, result: Recommendation) -> RecommendAnswer:
        """Queue the slate for the log and answer what was queued."""
        version = query.champion.version if query.champion else None
        user, snapshot = query.user, query.pool.snapshot
        context = {"request": body.context, "k": body.k, "exclude": body.exclude, "degraded": user.degraded}
        if body.where:
            context["where"] = body.where
        if body.at_most:
            context["at_most"] = body.at_most
        slate = Slate(
            event_id=self.signer.new_id(body.user_id),
            event_timestamp=query.request.now,
            user_id=body.user_id,
            model_version=version or "",
            served_by=result.served_by,
            policy=result.policy,
            shown=list(result.shown),
            candidates=list(result.candidates[:CANDIDATES_LOGGED]),
            context=context,
            state_position=user.state.position,
        )
        is_queued = self.commit.offer(slate)
        if is_queued:
            self.recent.keep(slate)
        else:
            self.metrics.count_slates("refused", 1)
        items = [
            ShownItem(
                item_id=item.item_id,
                title=snapshot.title(item.item_id),
                position=position,
                score=item.score,
                propensity=item.propensity,
            )
            for position, item in enumerate(slate.shown, start=1)
        ]
        return RecommendAnswer(
            slate_id=slate.event_id if is_queued else None,
            user_id=body.user_id,
            items=items,
            model_version=version,
            served_by=result.served_by,
            state_position=user.state.position,
            policy=result.policy,
            degraded=user.degraded,
        )
