"""What is left of a user's budget for exploration: the slates in the log, and those of this process on their way there.

The log has everybody's slates, of all processes, a moment (``attune.group_commit.GATHER_SECONDS`` and a commit) after
they were answered. What this process answered within the last minute it remembers itself, and what it is answering
counts for as much as it may come to: so one process never exceeds a budget. Several that answer one user within the
moment that logging takes may each spend what was left. A budget that cannot be counted is a budget that is spent.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachetools import LRUCache

from attune.clock import DAY, MINUTE, Clock
from attune.errors import AttuneError
from models.ranking.policy import Policy
from serving.micro_batcher import Batcher

log = logging.getLogger(__name__)

SEEN_LATER = MINUTE
"""How long a slate is remembered though the log was seen to have it: an answer of the log is never as old as this."""

Since = tuple[str, int]
"""A user, and the time (microseconds) after which the slates count."""


@dataclass
class Turn:
    """One request's share of its user's budget.

    ``before`` is how many positions explored already; ``slate_id`` and ``explored`` are filled in by whoever answers.
    """

    before: int = 0
    slate_id: str = ""
    explored: int = 0


class Budgets:
    """Counts for the event loop's thread alone; ``read`` asks the log for many users at once."""

    def __init__(self, read: Batcher[Since, Mapping[str, int]], clock: Clock, capacity: int = 20_000) -> None:
        self._read = read
        self._clock = clock
        self._own: LRUCache[str, dict[str, tuple[int, int]]] = LRUCache(capacity)
        """By user, of this process's slates: when they were answered, and how many positions explored."""
        self._promised: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, user_id: str, policy: Policy | None, k: int, seconds: float) -> AsyncIterator[Turn]:
        """A request's turn, for as long as it is answered. Without a budget to spend nobody is asked anything."""
        budget = policy.budget if policy else None
        if policy is None or not budget:
            yield Turn()
            return
        turn = Turn(await self._spent(user_id, budget, round(policy.days * DAY), seconds))
        promised = min(k, max(budget - turn.before, 0))
        self._promised[user_id] += promised
        try:
            yield turn
        finally:
            self._promised[user_id] -= promised
            if not self._promised[user_id]:
                del self._promised[user_id]
            if turn.explored:
                own = self._own.get(user_id, {})
                self._own[user_id] = {**own, turn.slate_id: (self._clock(), turn.explored)}

    async def _spent(self, user_id: str, budget: int, period: int, seconds: float) -> int:
        since = self._clock() - period
        try:
            logged = await self._read.ask((user_id, since), seconds)
        except AttuneError as error:
            log.warning("what %r was shown for exploration cannot be counted; the best is shown: %s", user_id, error)
            return budget
        known, now = self._own.get(user_id, {}), self._clock()
        own = {
            slate_id: (at, explored)
            for slate_id, (at, explored) in known.items()
            if at > since and (slate_id not in logged or at > now - SEEN_LATER)
        }
        if own:
            self._own[user_id] = own
        else:
            self._own.pop(user_id, None)
        unseen = sum(explored for slate_id, (_, explored) in own.items() if slate_id not in logged)
        return sum(logged.values()) + unseen + self._promised[user_id]
