"""What is left of a user's budget for exploration: the slates in the log, and those of this process on their way there.

The log has the slates of all processes, a moment after they were answered (``attune.group_commit.GATHER_SECONDS`` and a
commit). This process remembers its own slates of the last minute, and a request that is being answered reserves as much
as it may come to: so one process never exceeds a budget. Several processes that answer one user within the moment that
logging takes may each spend what was left. A budget that cannot be counted is taken for spent.
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
from serving.micro_batcher import MicroBatcher

log = logging.getLogger(__name__)

LOG_AGE = MINUTE
"""No answer of the log is older: for so long a slate is remembered although the log was seen to have it."""

Since = tuple[str, int]
"""A user, and the time (microseconds) after which the slates count."""


@dataclass
class Reservation:
    """One request's share of its user's budget.

    ``before`` is how many positions explored already; whoever answers fills in ``slate_id`` and ``explored``.
    """

    before: int = 0
    slate_id: str = ""
    explored: int = 0


class ExplorationBudgets:
    """Counts for the event loop's thread alone; ``explored`` asks the log for many users at once."""

    def __init__(self, explored: MicroBatcher[Since, Mapping[str, int]], clock: Clock, capacity: int = 20_000) -> None:
        self._explored = explored
        self._clock = clock
        self._own: LRUCache[str, dict[str, tuple[int, int]]] = LRUCache(capacity)
        """By user, of this process's slates: when they were answered, and how many positions explored."""
        self._reserved: Counter[str] = Counter()

    @asynccontextmanager
    async def reserve(self, user_id: str, policy: Policy | None, k: int, seconds: float) -> AsyncIterator[Reservation]:
        """A request's reservation while it is answered. A policy without a budget costs no look into the log."""
        budget = policy.budget if policy else None
        if policy is None or not budget:
            yield Reservation()
            return
        reservation = Reservation(await self._spent(user_id, budget, round(policy.days * DAY), seconds))
        reserved = min(k, max(budget - reservation.before, 0))
        self._reserved[user_id] += reserved
        try:
            yield reservation
        finally:
            self._reserved[user_id] -= reserved
            if not self._reserved[user_id]:
                del self._reserved[user_id]
            if reservation.explored:
                slate = {reservation.slate_id: (self._clock(), reservation.explored)}
                self._own[user_id] = self._own.get(user_id, {}) | slate

    async def _spent(self, user_id: str, budget: int, period: int, seconds: float) -> int:
        since = self._clock() - period
        try:
            logged = await self._explored.submit((user_id, since), seconds)
        except AttuneError as error:
            log.warning("the exploration of %r cannot be counted, the best is shown: %s", user_id, error)
            return budget
        own, now = self._own.pop(user_id, {}), self._clock()
        own = {
            slate_id: (at, explored)
            for slate_id, (at, explored) in own.items()
            if at > since and (slate_id not in logged or at > now - LOG_AGE)
        }
        if own:
            self._own[user_id] = own
        unlogged = sum(explored for slate_id, (_, explored) in own.items() if slate_id not in logged)
        return sum(logged.values()) + unlogged + self._reserved[user_id]
