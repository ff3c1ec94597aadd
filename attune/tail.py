"""Users' states brought up to what the log holds at this moment: states folded earlier, plus their tails.

One question to the log gives both the tails and the proof that each state was folded from this log: the user's event
at the state's own position must be there. A state of another log (restored from a backup, say) is thrown away. A long
tail is folded page by page: it costs time, and neither memory nor truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from attune.event_log import EventLog
from attune.events import Logged
from attune.user_state import UserState, empty, fold

PAGE = 1_000
"""Events folded at a time."""


@dataclass(frozen=True, slots=True)
class Current:
    """The state as of now, how many events were folded for it, whether the state given was of another log."""

    state: UserState
    folded: int
    astray: bool


def current(event_log: EventLog, state: UserState, page: int = PAGE) -> Current:
    """The user's state with everything in it that was logged before this call. Raises EventLogError."""
    return currents(event_log, [state], page)[0]


def currents(event_log: EventLog, states: Sequence[UserState], page: int = PAGE) -> list[Current]:
    """``current`` of each, by one statement unless there is more than a page to fold."""
    asked = [(state.user_id, state.position - _is_begun(state)) for state in states]
    limit = page + len(states)
    tails = event_log.tails(asked, limit)
    if sum(map(len, tails)) >= limit:
        tails = [event_log.tail(*one, page) for one in asked]
    return [_current(event_log, *one, page) for one in zip(states, tails, strict=True)]


def _current(event_log: EventLog, state: UserState, tail: Sequence[Logged], page: int) -> Current:
    """From the first page of the tail; the event at the state's own position leads it."""
    known = _is_begun(state)
    if known and (not tail or tail[0].position != state.position):
        return replace(current(event_log, empty(state.user_id), page), astray=True)
    folded, state = len(tail) - known, fold(state, tail)
    while len(tail) >= page:
        tail = event_log.tail(state.user_id, state.position, page)
        folded, state = folded + len(tail), fold(state, tail)
    return Current(state, folded, False)


def _is_begun(state: UserState) -> bool:
    return state.position > 0
