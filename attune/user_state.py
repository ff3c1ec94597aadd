"""One user's state, a pure fold of the log's events: the same code batch and online.

The state is a function of the *set* of the user's events with positions up to ``state.position``: they are taken one
by one in the order of positions, however they were batched, and in whatever order a batch lists them. Every part of it
is bounded:

- ``recent``: a window of ``RECENT_LIMIT`` events in the order of (event_timestamp, position). A late event takes its
  place by its own time. A ``retract`` marks the event that it names, if that one was logged before it and lies in the
  window; the marked event keeps place, kind, value and time. A ``retract`` takes no place of its own. Where there are
  too many, the earliest that was taken back leaves, and if none was, the earliest.
- ``seen``: the items that the user had to do with (by a kind that marks seen), ``SEEN_LIMIT`` at most: the one whose
  last such event has the smallest position leaves. A ``retract`` frees the item of the event that it marks, unless
  another event in the window stands for it. An event that has left the window is not known any more: once the window
  is full, a ``retract`` of one that it lacks frees the item that the ``retract`` itself names, by the same rule.
- ``counts``: events by (day, kind) of the ``DAYS_LIMIT`` latest days on which the user did anything, take-backs too.
- ``attributes``: those of the latest ``User`` event by position.

What the events of one user are: interactions, feedback and ``User`` events; slates and other users' are passed over.

``current`` brings a state that was folded earlier up to what the log holds. One question to the log gives both the
tail and the proof that the state was folded from this log: the user's event at the state's own position must be there.
A state of another log (restored from a backup, say) is thrown away.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from attune.clock import DAY
from attune.event_types import RETRACT, SEEN_KINDS
from attune.events import Behaviour, LoggedEvent, User

if TYPE_CHECKING:
    from attune.event_log import EventLog

RECENT_LIMIT = 200
SEEN_LIMIT = 20_000
DAYS_LIMIT = 64

PAGE = 1_000
"""Events folded at a time."""

Placed = tuple[int, Behaviour]
"""An event with its position."""


class Recent(NamedTuple):
    """One event of the window; ``time`` is its event_timestamp in microseconds, ``retracted`` a tombstone's mark."""

    event_id: str
    item_id: str
    kind: str
    value: float | None
    time: int
    position: int
    retracted: bool


@dataclass(frozen=True)
class UserState:
    """What is known of one user from the events up to ``position`` (the last one's; 0: none yet).

    ``recent`` ascends by (time, position), ``seen`` by the item's last position. ``counts`` maps (days since
    1970-01-01 UTC, kind) to a number. ``events`` counts interactions and feedback, take-backs among them;
    ``first_time`` and ``last_time`` are the earliest and latest event_timestamp of those that are no take-backs.
    """

    user_id: str
    position: int = 0
    recent: tuple[Recent, ...] = ()
    seen: tuple[str, ...] = ()
    counts: dict[tuple[int, str], int] = field(default_factory=dict)
    events: int = 0
    first_time: int | None = None
    last_time: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much a state holds. A state is only ever folded under the limits that it was begun with."""

    recent: int = RECENT_LIMIT
    seen: int = SEEN_LIMIT
    days: int = DAYS_LIMIT


LIMITS = Limits()

BY_TIME = itemgetter(Recent._fields.index("time"), Recent._fields.index("position"))


def fold(state: UserState, logged: Iterable[LoggedEvent], limits: Limits = LIMITS) -> UserState:
    """The state with the user's events among ``logged`` taken in; neither argument is changed.

    Events at or below ``state.position`` are known already and passed over, so a batch may overlap with what was
    folded before; it must not leave out an event of the user between two that it holds.
    """
    news: dict[int, Behaviour | User] = {
        entry.position: entry.event
        for entry in logged
        if entry.position > state.position
        and isinstance(entry.event, Behaviour | User)
        and entry.event.user_id == state.user_id
    }
    if not news:
        return state
    in_order = [(position, news[position]) for position in sorted(news)]
    behaviour: list[Placed] = [(position, event) for position, event in in_order if isinstance(event, Behaviour)]
    attributes = [event.attributes for _, event in in_order if isinstance(event, User)]
    times = [event.event_timestamp for _, event in behaviour if event.kind != RETRACT]
    known_times = [time for time in (state.first_time, state.last_time) if time is not None]
    recent, seen = _recent_and_seen(state, behaviour, limits)
    return UserState(
        user_id=state.user_id,
        position=in_order[-1][0],
        recent=recent,
        seen=seen,
        counts=_counts(state.counts, behaviour, limits.days),
        events=state.events + len(behaviour),
        first_time=min((*times, *known_times), default=None),
        last_time=max((*times, *known_times), default=None),
        attributes=attributes[-1] if attributes else state.attributes,
    )


def _recent_and_seen(
    state: UserState, behaviour: list[Placed], limits: Limits
) -> tuple[tuple[Recent, ...], tuple[str, ...]]:
    window, known = list(state.recent), state.seen
    seen: dict[str, None] | None = None  # made when it is needed: it may be long
    marked = sum(entry.retracted for entry in window)
    for position, event in behaviour:
        if event.kind == RETRACT:
            place = next((place for place, entry in enumerate(window) if entry.event_id == event.retracts), None)
            item_id = event.item_id
            if place is None:
                if len(window) < limits.recent:
                    continue
            else:
                entry = window[place]
                if entry.retracted:
                    continue
                window[place], item_id, marked = entry._replace(retracted=True), entry.item_id, marked + 1
                if entry.kind not in SEEN_KINDS:
                    continue
            if not any(one.item_id == item_id and one.kind in SEEN_KINDS and not one.retracted for one in window):
                seen = dict.fromkeys(known) if seen is None else seen
                seen.pop(item_id, None)
            continue
        entry = Recent(event.event_id, event.item_id, event.kind, event.value, event.event_timestamp, position, False)
        insort(window, entry, key=BY_TIME)
        if len(window) > limits.recent:
            left = window.pop(next(place for place, entry in enumerate(window) if entry.retracted) if marked else 0)
            marked -= left.retracted
        if event.kind in SEEN_KINDS:
            seen = dict.fromkeys(known) if seen is None else seen
            seen.pop(event.item_id, None)
            seen[event.item_id] = None
            if len(seen) > limits.seen:
                del seen[next(iter(seen))]
    return tuple(window), known if seen is None else tuple(seen)


def _counts(before: dict[tuple[int, str], int], behaviour: list[Placed], limit: int) -> dict[tuple[int, str], int]:
    counts = dict(before)
    for _, event in behaviour:
        bucket = (event.event_timestamp // DAY, event.kind)
        counts[bucket] = counts.get(bucket, 0) + 1
    days = sorted({day for day, _ in counts})
    if len(days) > limit:
        oldest = days[-limit]
        counts = {bucket: number for bucket, number in counts.items() if bucket[0] >= oldest}
    return counts


@dataclass(frozen=True, slots=True)
class Current:
    """The ``state`` as of now; how many events were ``folded`` for it; ``astray``: the one given was of another log."""

    state: UserState
    folded: int
    astray: bool


def current(event_log: "EventLog", state: UserState, page: int = PAGE) -> Current:
    """The user's state with everything in it that was logged before this call. Raises EventLogError."""
    tail = event_log.tail(*_tail_start(state), page)
    if _is_astray(state, tail):
        return replace(current(event_log, UserState(state.user_id), page), astray=True)
    folded, state = len(tail) - _is_begun(state), fold(state, tail)
    while len(tail) >= page:
        tail = event_log.tail(state.user_id, state.position, page)
        folded, state = folded + len(tail), fold(state, tail)
    return Current(state, folded, False)


def currents(event_log: "EventLog", states: Sequence[UserState], page: int = PAGE) -> list[Current | None]:
    """``current`` of each, by one statement; None for a state of another log or with a page to fold or more."""
    starts, limit = [_tail_start(state) for state in states], page + len(states)
    tails = event_log.tails(starts, limit)
    if sum(map(len, tails)) >= limit:
        tails = [event_log.tail(*start, page) for start in starts]
    return [
        None
        if len(tail) >= page or _is_astray(state, tail)
        else Current(fold(state, tail), len(tail) - _is_begun(state), False)
        for state, tail in zip(states, tails, strict=True)
    ]


def _tail_start(state: UserState) -> tuple[str, int]:
    """Whose tail, and after which position: the event at the state's own one leads it."""
    return state.user_id, state.position - _is_begun(state)


def _is_astray(state: UserState, tail: Sequence[LoggedEvent]) -> bool:
    return _is_begun(state) and (not tail or tail[0].position != state.position)


def _is_begun(state: UserState) -> bool:
    return state.position > 0
