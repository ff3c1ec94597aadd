"""A user's state brought up to what the log holds at this moment: a state folded earlier, plus its tail.

One question to the log gives both the tail and the proof that the state was folded from this log: the user's event at
the state's own position must be there. A state of another log (restored from a backup, say) is thrown away. A long
tail is folded page by page: it costs time, and neither memory nor truth.
"""

from dataclasses import dataclass

from attune.event_log import EventLog
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
    state, folded, astray = _caught_up(event_log, state, page)
    if not astray:
        return Current(state, folded, False)
    state, folded, _ = _caught_up(event_log, empty(state.user_id), page)
    return Current(state, folded, True)


def _caught_up(event_log: EventLog, state: UserState, page: int) -> tuple[UserState, int, bool]:
    known = state.position > 0
    events = event_log.tail(state.user_id, state.position - known, page + known)
    if known and (not events or events[0].position != state.position):
        return state, 0, True
    folded = len(events) - known
    state = fold(state, events)
    while len(events) >= page:
        events = event_log.tail(state.user_id, state.position, page)
        folded += len(events)
        state = fold(state, events)
    return state, folded, False
