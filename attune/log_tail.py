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
    tail = event_log.tail(*_asked(state), page)
    if _is_astray(state, tail):
        return replace(current(event_log, empty(state.user_id), page), astray=True)
    folded, state = len(tail) - _is_begun(state), fold(state, tail)
    while len(tail) >= page:
        tail = event_log.tail(state.user_id, state.position, page)
        folded, state = folded + len(tail), fold(state, tail)
    return Current(state, folded, False)


def currents(event_log: EventLog, states: Sequence[UserState], page: int = PAGE) -> list[Current | None]:
    """``current`` of each, by one statement; None for one that takes longer, to be asked for alone.

    That is one with a page to fold or more, or a state of another log. Raises EventLogError.
    """
    asked = [_asked(state) for state in states]
    limit = page + len(states)
    tails = event_log.tails(asked, limit)
    if sum(map(len, tails)) >= limit:
        tails = [event_log.tail(*one, page) for one in asked]
    return [_soon(state, tail, page) for state, tail in zip(states, tails, strict=True)]


def _soon(state: UserState, tail: Sequence[Logged], page: int) -> Current | None:
    if len(tail) >= page or _is_astray(state, tail):
        return None
    return Current(fold(state, tail), len(tail) - _is_begun(state), False)


def _asked(state: UserState) -> tuple[str, int]:
    """Whose tail, and after which position: the event at the state's own one leads it."""
    return state.user_id, state.position - _is_begun(state)


def _is_astray(state: UserState, tail: Sequence[Logged]) -> bool:
    return _is_begun(state) and (not tail or tail[0].position != state.position)


def _is_begun(state: UserState) -> bool:
    return state.position > 0
