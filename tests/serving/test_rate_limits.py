"""Token buckets: never more than the limit in any stretch of time, never less than it, in bounded memory."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.authentication import EventLimit, RateLimit, TokenBuckets
from serving.error_responses import Refused

RATES = st.floats(0.01, 10_000.0)
BURSTS = st.integers(1, 1_000)


class Hands:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(RATES, st.integers(1, 30), st.lists(st.floats(0.0, 2.0), min_size=1, max_size=120))
def test_no_stretch_of_time_sees_more_than_burst_and_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """``gaps`` are in units of what a token takes, so that both sides of the limit are tried."""
    clock = Hands()
    buckets, limit = TokenBuckets(clock=clock), RateLimit(rate, burst)
    taken = []
    for gap in gaps:
        clock.now += gap / rate
        if not buckets.take("k", limit):
            taken.append(clock.now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-3


@given(RATES, BURSTS)
def test_a_full_bucket_gives_its_burst_and_says_when_there_is_more(rate: float, burst: int) -> None:
    clock = Hands()
    buckets, limit = TokenBuckets(clock=clock), RateLimit(rate, burst)
    assert not any(buckets.take("k", limit) for _ in range(burst))
    wait = buckets.take("k", limit)
    assert 0 < wait <= 1 / rate + 1e-6
    clock.now += wait / 2
    assert 0 < buckets.take("k", limit) < wait
    clock.now += wait
    assert buckets.take("k", limit) == 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 1.0)), max_size=60))
def test_names_do_not_meet(visits: list[tuple[str, float]]) -> None:
    """Each is treated as if the others were not there."""
    moments = list(zip((name for name, _ in visits), accumulate(gap for _, gap in visits), strict=True))
    limit = RateLimit(2.0, 3)

    def outcome(among: set[str]) -> list[bool]:
        clock = Hands()
        buckets = TokenBuckets(clock=clock)
        found = []
        for name, moment in moments:
            if name in among:
                clock.now = 1_000.0 + moment
                waits = buckets.take(name, limit)
                found += [waits == 0.0] if name == "a" else []
        return found

    assert outcome({"a"}) == outcome({"a", "b", "c"})


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 10))
def test_memory_is_bounded(names: list[int], capacity: int) -> None:
    buckets = TokenBuckets(capacity, Hands())
    for name in names:
        buckets.take(str(name), RateLimit(1.0, 2))
        assert len(buckets) <= capacity


def test_the_one_who_keeps_asking_is_not_forgotten() -> None:
    buckets = TokenBuckets(2, Hands())
    limit = RateLimit(1.0, 2)
    assert [buckets.take(name, limit) for name in ("a", "b", "a", "c")] == [0.0] * 4
    assert buckets.take("a", limit) > 0


def test_without_a_rate_nothing_is_counted() -> None:
    buckets = TokenBuckets(clock=Hands())
    assert not any(buckets.take("k", RateLimit(0.0, 1)) for _ in range(1_000))
    assert len(buckets) == 0


@pytest.mark.parametrize(("rate", "burst", "expected"), [(50.0, None, 50), (0.5, None, 1), (2.5, 0, 3), (50.0, 7, 7)])
def test_a_burst_that_nobody_named_is_a_seconds_worth(rate: float, burst: int | None, expected: int) -> None:
    assert RateLimit.of(rate, burst).burst == expected


def test_waits_shrink_with_time() -> None:
    clock = Hands()
    buckets = TokenBuckets(clock=clock)
    buckets.take("k", RateLimit(0.1, 1))
    waits = []
    for _ in range(5):
        waits.append(buckets.take("k", RateLimit(0.1, 1)))
        clock.now += 1
    assert all(abs(before - after - 1) < 1e-6 for before, after in pairwise(waits))


def test_a_sender_has_so_many_events_a_minute() -> None:
    clock = Hands()
    limit = EventLimit(6_000, TokenBuckets(clock=clock))
    for _ in range(6):
        limit.take(1_000)
    with pytest.raises(Refused, match="may send 6,000 events a minute: ask again in 10 s") as refused:
        limit.take(1_000)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "10"})
    clock.now += 10.0
    limit.take(1_000)
    for _ in range(100):
        EventLimit().take(1_000)
