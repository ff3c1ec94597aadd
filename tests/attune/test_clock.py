"""Microseconds and moments, there and back."""

import time
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from attune.clock import DAY, HOUR, MINUTE, SECOND, from_datetime, system_clock, to_datetime, to_iso

MOMENTS = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))


def test_units() -> None:
    assert (SECOND, MINUTE, HOUR, DAY) == (10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6)


def test_the_system_clock_tells_the_time() -> None:
    assert abs(system_clock() / SECOND - time.time()) < 5


@given(MOMENTS)
def test_there_and_back_to_the_microsecond(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert to_datetime(from_datetime(aware)) == aware
    assert from_datetime(moment) == from_datetime(aware)
    assert datetime.fromisoformat(to_iso(from_datetime(aware))) == aware


@given(st.integers(-5 * 10**15, 5 * 10**15))
def test_back_and_there(micros: int) -> None:
    assert from_datetime(to_datetime(micros)) == micros


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_zones_are_moments_not_names(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert from_datetime(aware.astimezone(timezone(timedelta(minutes=minutes)))) == from_datetime(aware)


def test_known_moments() -> None:
    assert to_iso(0) == "1970-01-01T00:00:00+00:00"
    assert to_iso(-1) == "1969-12-31T23:59:59.999999+00:00"
    assert from_datetime(datetime(2000, 1, 1, tzinfo=UTC)) == 946_684_800 * SECOND
