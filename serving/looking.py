"""What the log says at this moment, of users and of items: asked once for all the requests that wait."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.tail import Current, currents
from attune.user_state import UserState
from serving.shop_keeper import Choice, Offer, ShopKeeper

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """A state as it was folded last, and what its user may choose from (None: nothing is to be chosen)."""

    state: UserState
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """The state as of now, None where the log cannot be read; what there is to choose from, where that was asked."""

    current: Current | None
    offer: Offer | None


class Lookout:
    """Looks into the log for many requests at once: one statement for users, one for items."""

    def __init__(self, event_log: EventLog, keeper: ShopKeeper) -> None:
        self._log = event_log
        self._keeper = keeper

    def look(self, looks: Sequence[Look]) -> list[Sight]:
        """What each sees; nothing that was acknowledged before the call is missing. Blocks."""
        states = self._currents([one.state for one in looks])
        choices = [one.choice for one in looks if one.choice is not None]
        offers = iter(self._keeper.offers(choices) if states else map(Offer.without_log, choices))
        return [
            Sight(current, next(offers) if one.choice is not None else None)
            for one, current in zip(looks, states or repeat(None, len(looks)), strict=True)
        ]

    def _currents(self, states: Sequence[UserState]) -> list[Current]:
        """None of them where the log cannot be read."""
        try:
            return currents(self._log, states)
        except EventLogError as error:
            log.warning("the event log cannot be read; snapshots answer alone: %s", error)
            return []
