"""One recommendation: capture the model, read the state, run the pipeline, queue the slate, answer."""

import asyncio
import logging
import secrets
import time
from typing import Any

import msgspec

from attune.clock import Clock
from attune.errors import AttuneError, DataContractError
from attune.events import CANDIDATES_LOGGED, Shown, Slate
from attune.group_commit import GroupCommit
from models.recommender import Recommendation, Request
from serving.bounded_executor import Overloaded
from serving.catalogue_snapshot import Choice, Offer, Shop
from serving.champion import Champion, ChampionWatch
from serving.error_responses import UNEXPECTED, fault
from serving.exploration_budget import Budgets
from serving.fallback import Popular
from serving.metrics import Metrics
from serving.micro_batcher import Batcher
from serving.ranking import Question, by_counts
from serving.schemas import (
    BatchAnswer,
    BatchEntry,
    BatchRequest,
    RecommendAnswer,
    RecommendRequest,
    ShownItem,
    check_context,
    decode,
)
from serving.slates import RecentSlates, Signer
from serving.state import Known, StateReader
from serving.warm_up import Rehearsal

log = logging.getLogger(__name__)


class Recommending:
    """Answers requests for slates, each within ``seconds``."""

    def __init__(
        self,
        watch: ChampionWatch,
        states: StateReader,
        model: Batcher[Question, Recommendation],
        signer: Signer,
        recent: RecentSlates,
        commit: GroupCommit,
        metrics: Metrics,
        clock: Clock,
        seconds: float,
        rehearsal: Rehearsal,
        budgets: Budgets,
    ) -> None:
        self._watch = watch
        self._states = states
        self._nothing = Popular([])
        self._model = model
        self._signer = signer
        self._recent = recent
        self._commit = commit
        self._metrics = metrics
        self._clock = clock
        self._seconds = seconds
        self._rehearsal = rehearsal
        self._budgets = budgets

    async def answer(self, asked: RecommendRequest) -> RecommendAnswer:
        """The slate for one request."""
        champion, popular = self._watch.champion, self._watch.popular
        started = time.perf_counter()
        shelf = champion.shelf if champion else (popular or self._nothing).shelf
        known, offer = await self._states.read_and_offer(asked.user_id, Choice(shelf, asked.where), self._seconds / 2)
        read = time.perf_counter()
        seed = secrets.randbits(53) if asked.seed is None else asked.seed
        request = Request(k=asked.k, exclude=tuple(asked.exclude), seed=seed, now=self._clock(), context=asked.context)
        policy, left = champion.bundle.policy if champion else None, self._seconds - (read - started)
        async with self._budgets.turn(asked.user_id, policy, asked.k, left / 2) as turn:
            question = Question(champion, offer, known, request, asked.at_most, turn.before)
            result = await self._ranked(question, started)
            ranked = time.perf_counter()
            answer = self._logged(asked, request, known, offer, champion, result)
            turn.slate_id = answer.slate_id or f"not logged {request.now}"
            turn.explored = result.policy.get("explored", 0)
        self._metrics.stages.labels("state").observe(read - started)
        self._metrics.stages.labels("model").observe(ranked - read)
        self._metrics.stages.labels("slate").observe(time.perf_counter() - ranked)
        self._metrics.served.labels(answer.served_by).inc()
        self._metrics.effect.shown(answer.user_id, answer.state_position)
        self._rehearsal.remember(known, request, asked.where, asked.at_most)
        return answer

    async def _ranked(self, question: Question, started: float) -> Recommendation:
        """The model's slate, or popularity's when the model does not answer in time."""
        left = self._seconds - (time.perf_counter() - started)
        try:
            return await self._model.ask(question, max(left, 0.0))
        except Overloaded as error:
            log.warning("popularity answers: %s", error)
            question.known.degraded.append("model")
            self._metrics.fallbacks.labels("model").inc()
            return await asyncio.to_thread(by_counts, question)

    def _logged(
        self,
        asked: RecommendRequest,
        request: Request,
        known: Known,
        offer: Offer,
        champion: Champion | None,
        result: Recommendation,
    ) -> RecommendAnswer:
        """Queue the slate for the log and say what was queued."""
        version = champion.version if champion else None
        context = {"request": asked.context, "k": asked.k, "exclude": asked.exclude, "degraded": known.degraded}
        slate = Slate(
            event_id=self._signer.new_id(asked.user_id),
            event_timestamp=request.now,
            user_id=asked.user_id,
            model_version=version or "",
            served_by=result.served_by,
            policy=result.policy,
            shown=list(result.shown),
            candidates=list(result.candidates[:CANDIDATES_LOGGED]),
            context=context | _conditions(asked),
            state_position=known.state.position,
        )
        kept = self._commit.offer(slate)
        if kept:
            self._recent.keep(slate)
        else:
            self._metrics.count_slates("refused", 1)
        return RecommendAnswer(
            slate_id=slate.event_id if kept else None,
            user_id=asked.user_id,
            items=_items(slate.shown, offer.shop),
            model_version=version,
            served_by=result.served_by,
            state_position=known.state.position,
            policy=result.policy,
            degraded=known.degraded,
        )


def _conditions(asked: RecommendRequest) -> dict[str, Any]:
    """What was asked of the items, as the slate records it; nothing where nothing was."""
    return {name: said for name, said in (("where", asked.where), ("at_most", asked.at_most)) if said}


def _items(shown: list[Shown], shop: Shop) -> list[ShownItem]:
    return [
        ShownItem(
            item_id=item.item_id,
            title=shop.title(item.item_id),
            position=position,
            score=item.score,
            propensity=item.propensity,
        )
        for position, item in enumerate(shown, start=1)
    ]


# Many requests for slates in one call: each is answered as if it had come alone, and one that is wrong costs no other.
#
# Of one call so many are at work at a time as are ranked together twice over: the next group gathers while one is
# ranked, and other callers' requests find their place between them.


AT_WORK = 32

_REQUEST = msgspec.json.Decoder(RecommendRequest)


async def answer_together(recommending: Recommending, batch: BatchRequest) -> BatchAnswer:
    """The answers in the order of the requests."""
    turn = asyncio.Semaphore(AT_WORK)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(recommending, raw, turn)) for raw in batch.requests]
    return BatchAnswer(answers=[task.result() for task in tasks])


async def _one(recommending: Recommending, raw: msgspec.Raw, turn: asyncio.Semaphore) -> BatchEntry:
    try:
        asked = decode(raw, _REQUEST)
        check_context(asked.context)
        async with turn:
            return BatchEntry(slate=await recommending.answer(asked), error=None)
    except DataContractError as error:
        return BatchEntry(slate=None, error=fault(str(error), error.field))
    except AttuneError as error:
        return BatchEntry(slate=None, error=fault(str(error)))
    except Exception:
        log.exception("one request of a batch failed")
        return BatchEntry(slate=None, error=fault(UNEXPECTED))
