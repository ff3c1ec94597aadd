"""What the log says at this moment, of users and of items: asked once for all the requests that wait."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from attune.errors import EventLogError, UnreadableEvent
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
    """The state as of now, None where the log cannot be read; what there is to choose from, where that was asked.

    ``is_long`` says that the log can be read, and that this state takes so long to fold that it is asked for alone.
    """

    current: Current | None
    offer: Offer | None
    is_long: bool = False


class Lookout:
    """Looks into the log for many requests at once: one statement for users, one for items."""

    def __init__(self, event_log: EventLog, keeper: ShopKeeper) -> None:
        self._log = event_log
        self._keeper = keeper

    def look(self, looks: Sequence[Look]) -> list[Sight]:
        """What each sees; nothing that was acknowledged before the call is missing. Blocks.

        Raises UnreadableEvent where a user among several has an event that this version cannot read: alone, the others
        see all of theirs.
        """
        choices = [one.choice for one in looks if one.choice is not None]
        try:
            states, is_read = currents(self._log, [one.state for one in looks]), True
        except UnreadableEvent:
            if len(looks) > 1:
                raise
            states, is_read = [None], False
        except EventLogError as error:
            log.warning("the event log cannot be read; snapshots answer alone: %s", error)
            states, is_read = [None] * len(looks), False
        offers = iter(self._keeper.offers(choices) if is_read else map(Offer.without_log, choices))
        return [
            Sight(state, next(offers) if one.choice is not None else None, is_long=is_read and state is None)
            for one, state in zip(looks, states, strict=True)
        ]
