"""Time in microseconds since the epoch, UTC; callers pass a ``Clock``, so that replay and tests say what "now" is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns now, in microseconds since 1970-01-01 UTC."""

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SHUFFLED, ORDER_ONLY = 5 * 365 * DAY, 10 * 365 * DAY
"""Times from 0 to before ``ORDER_ONLY`` are none: they say at most which event came first. Rows that a file has in the
order of time lie before ``SHUFFLED``; those from there on are in no order (``features.sources.row_order``)."""

ORDER_ONLY_WORDS = "order only"


def system_clock() -> int:
    """Now, from the operating system, in microseconds."""
    return time.time_ns() // 1_000


def to_datetime(micros: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime, exact to the microsecond."""
    return datetime.fromtimestamp(micros // SECOND, UTC).replace(microsecond=micros % SECOND)


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds since the epoch; a naive one is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = int(aware.replace(microsecond=0).timestamp())
    return seconds * SECOND + aware.microsecond


def to_iso(micros: int) -> str:
    """Microseconds since the epoch as ISO 8601 with a zone, the form that the HTTP API speaks."""
    return to_datetime(micros).isoformat()


def shown_time(micros: int) -> str:
    """As ``to_iso``, for people; 'order only' where the time says at most which event came first."""
    return ORDER_ONLY_WORDS if 0 <= micros < ORDER_ONLY else to_iso(micros)
