"""Many requests for slates in one call: each is answered as if it had come alone, and one that is wrong costs no other.

Of one call so many are at work at a time as are ranked together twice over: the next group gathers while one is
ranked, and other callers' requests find their place between them.
"""

import asyncio
import logging

import msgspec

from attune.errors import AttuneError, DataContractError
from serving.errors import UNEXPECTED, fault
from serving.recommending import Recommending
from serving.schemas import BatchAnswer, BatchEntry, BatchRequest, RecommendRequest, check_context, decode

log = logging.getLogger(__name__)

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
