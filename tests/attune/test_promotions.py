"""The promotions table on SQLite and on PostgreSQL: leases, fences, what is champion."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event

from attune.clock import SECOND
from attune.errors import EventLogError, LogBusy, PromotionConflict
from attune.promotions import Lease, Promotion, Promotions

START = 1_700_000_000_000_000


class Hands:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def promotions(url: str, clock: Hands) -> Iterator[Promotions]:
    promotions = Promotions(url, clock)
    yield promotions
    promotions.close()


def promote(promotions: Promotions, version: str, endpoint: str = "default") -> Promotion:
    with promotions.lease(endpoint, "flow", 60) as lease:
        return promotions.append(lease, version, "promote", "all gates passed", "tester")


def test_nothing_promoted_yet(promotions: Promotions) -> None:
    assert promotions.champion("default") is None
    assert promotions.first("default") is None
    assert promotions.history("default", 10) == []


def test_every_endpoint_that_had_a_promotion_is_named(promotions: Promotions) -> None:
    assert promotions.endpoints() == []
    for endpoint in ("shop", "default", "shop"):
        promote(promotions, "1", endpoint)
    assert promotions.endpoints() == ["default", "shop"]


def test_the_champion_is_the_last_row(promotions: Promotions, clock: Hands) -> None:
    first = promote(promotions, "1")
    clock.forward(5)
    second = promote(promotions, "2")
    assert first == Promotion(1, "default", "1", None, "promote", "tester", "all gates passed", START)
    assert (second.fence, second.previous, second.at) == (2, "1", START + 5 * SECOND)
    assert promotions.champion("default") == second
    assert promotions.first("default") == first
    assert promotions.history("default", 10) == [second, first]
    assert promotions.history("default", 1) == [second]


def test_a_rollback_is_one_more_row(promotions: Promotions) -> None:
    promote(promotions, "1")
    promote(promotions, "2")
    with promotions.lease("default", "operator", 60) as lease:
        back = promotions.append(lease, "1", "rollback", "complaints", "ada")
    assert promotions.champion("default") == back
    assert (back.version, back.previous, back.action, back.fence) == ("1", "2", "rollback", 3)


def test_promoting_the_champion_again_changes_nothing(promotions: Promotions) -> None:
    promote(promotions, "1")
    standing = promote(promotions, "2")
    assert promote(promotions, "2") == standing
    assert promotions.champion("default") == standing
    assert (standing.previous, len(promotions.history("default", 10))) == ("1", 2)
    with promotions.lease("default", "operator", 60) as lease:
        back = promotions.append(lease, "1", "rollback", "complaints", "ada")
        assert promotions.append(lease, "1", "rollback", "asked twice", "ada") == back
    assert (back.version, back.previous) == ("1", "2")


def test_another_bundle_under_the_champions_number_is_another_champion(promotions: Promotions) -> None:
    with promotions.lease("default", "flow", 60) as lease:
        first = promotions.append(lease, "1", "promote", "", "flow", "a" * 64)
        assert promotions.append(lease, "1", "promote", "again", "flow", "a" * 64) == first
    with promotions.lease("default", "flow", 60) as lease:
        second = promotions.append(lease, "1", "promote", "the registry was lost", "flow", "b" * 64)
    assert promotions.champion("default") == second
    assert (first.bundle_name, second.bundle_name) == ("1-aaaaaaaaaaaa", "1-bbbbbbbbbbbb")


def test_endpoints_do_not_meet(promotions: Promotions) -> None:
    promote(promotions, "1", "films")
    with promotions.lease("films", "flow", 60):
        promote(promotions, "7", "news")
    assert [promotions.champion(name).version for name in ("films", "news")] == ["1", "7"]  # type: ignore[union-attr]


def test_a_held_lease_is_not_given_twice(promotions: Promotions, clock: Hands) -> None:
    with promotions.lease("default", "flow-1", 60):
        for holder in ("flow-2", "flow-1"):
            with pytest.raises(PromotionConflict, match="flow-1 holds the promotion lease until 2023"):
                promotions.lease("default", holder, 60)
        clock.forward(59.9)
        with pytest.raises(PromotionConflict):
            promotions.lease("default", "flow-2", 60)
    assert promotions.lease("default", "flow-2", 60).fence == 2


def test_fences_only_grow(promotions: Promotions, clock: Hands) -> None:
    fences = []
    for number in range(4):
        lease = promotions.lease("default", "flow", 1)
        fences.append(lease.fence)
        if number % 2:
            promotions.release(lease)
        else:
            clock.forward(1)
    assert fences == [1, 2, 3, 4]


def test_a_lease_that_ended_promotes_nothing(promotions: Promotions, clock: Hands) -> None:
    lease = promotions.lease("default", "flow", 10)
    clock.forward(10)
    with pytest.raises(PromotionConflict, match="lease 1 of flow has ended"):
        promotions.append(lease, "1", "promote", "", "flow")
    assert promotions.champion("default") is None


def test_a_lease_given_back_promotes_nothing(promotions: Promotions) -> None:
    with promotions.lease("default", "flow", 10) as lease:
        pass
    with pytest.raises(PromotionConflict, match="has ended"):
        promotions.append(lease, "1", "promote", "", "flow")


def test_a_lease_is_given_back_when_its_block_raises(promotions: Promotions) -> None:
    with pytest.raises(KeyError), promotions.lease("default", "flow", 1_000):
        raise KeyError
    assert promotions.lease("default", "flow", 1).fence == 2


def test_a_holder_that_slept_is_refused(promotions: Promotions, url: str, clock: Hands) -> None:
    """Its lease ran out and was taken, and its own clock stands still: the fence refuses it all the same."""
    sleeper = Promotions(url, lambda: START)
    lease = sleeper.lease("default", "sleeper", 10)
    clock.forward(10)
    other = promotions.lease("default", "other", 10)
    with pytest.raises(PromotionConflict, match=r"lease 1 of sleeper was lost, other \(lease 2\) took over"):
        sleeper.append(lease, "1", "promote", "", "sleeper")
    assert promotions.append(other, "2", "promote", "", "other").previous is None
    with pytest.raises(PromotionConflict):
        sleeper.append(lease, "1", "promote", "", "sleeper")
    with pytest.raises(PromotionConflict):
        sleeper.renew(lease, 10)
    sleeper.release(lease)
    with pytest.raises(PromotionConflict, match="other holds"):
        promotions.lease("default", "third", 10)
    assert [row.version for row in promotions.history("default", 10)] == ["2"]
    sleeper.close()


def test_one_lease_promotes_once(promotions: Promotions) -> None:
    with promotions.lease("default", "flow", 10) as lease:
        promotions.append(lease, "1", "promote", "", "flow")
        with pytest.raises(PromotionConflict, match="version 1 was promoted under lease 1 already"):
            promotions.append(lease, "2", "promote", "", "flow")
    assert len(promotions.history("default", 10)) == 1


def test_a_renewed_lease_lasts_longer(promotions: Promotions, clock: Hands) -> None:
    lease = promotions.lease("default", "flow", 10)
    clock.forward(9)
    renewed = promotions.renew(lease, 10)
    clock.forward(9)
    assert (renewed.fence, renewed.expires_at) == (lease.fence, START + 19 * SECOND)
    assert promotions.append(renewed, "1", "promote", "", "flow").fence == 1
    clock.forward(1)
    with pytest.raises(PromotionConflict, match="has ended"):
        promotions.renew(renewed, 10)


def test_a_lease_that_nobody_gave_is_refused(promotions: Promotions) -> None:
    forged = Lease("default", "me", 7, START + 10**12, promotions)
    with pytest.raises(PromotionConflict, match="nobody took over"):
        promotions.append(forged, "1", "promote", "", "me")


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_lease_needs_a_length(promotions: Promotions, seconds: float) -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        promotions.lease("default", "flow", seconds)


def test_an_action_needs_a_known_name(promotions: Promotions) -> None:
    with promotions.lease("default", "flow", 10) as lease, pytest.raises(ValueError, match="promote, rollback"):
        promotions.append(lease, "1", "demote", "", "flow")  # type: ignore[arg-type]


def test_of_many_at_once_one_gets_the_lease(url: str) -> None:
    """No row of the endpoint exists yet, and all ask at the same moment; over and over somebody wins, alone."""
    tables = [Promotions(url, lock_seconds=30) for _ in range(6)]
    ready = threading.Barrier(len(tables))

    def ask(promotions: Promotions) -> int | None:
        ready.wait(30)
        try:
            return promotions.lease("default", "flow", 600).fence
        except PromotionConflict:
            return None

    with ThreadPoolExecutor(len(tables)) as pool:
        assert sorted(pool.map(ask, tables), key=str) == [1, *[None] * 5]
    for table in tables:
        table.close()


def test_of_two_holders_before_their_commits_one_promotes(url: str, clock: Hands) -> None:
    """The first stands between its check and its COMMIT while its lease runs out: the second waits for it."""
    first, second = Promotions(url, clock), Promotions(url, clock, lock_seconds=30)
    lease = first.lease("default", "first", 10)
    standing, go_on = threading.Event(), threading.Event()

    def stand(connection: object) -> None:
        standing.set()
        assert go_on.wait(30)

    event.listen(first._database.engine, "commit", stand)
    with ThreadPoolExecutor() as pool:
        promoting = pool.submit(first.append, lease, "1", "promote", "", "first")
        assert standing.wait(30)
        clock.forward(10)
        taking = pool.submit(second.lease, "default", "second", 10)
        hasty = Promotions(url, clock, lock_seconds=0.3)
        with pytest.raises(LogBusy):
            hasty.lease("default", "hasty", 10)
        assert not taking.done()
        go_on.set()
        assert promoting.result(30).version == "1"
        later = second.append(taking.result(30), "2", "promote", "", "second")
    assert (later.previous, later.fence) == ("1", 2)
    for table in (first, second, hasty):
        table.close()


def test_a_lease_outlives_a_lost_database_quietly(
    promotions: Promotions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The promotion is written; that the lease could not be given back must not undo the flow that wrote it."""

    def fail(lease: Lease) -> None:
        raise EventLogError("gone")

    with promotions.lease("default", "flow", 10) as lease:
        promotions.append(lease, "1", "promote", "", "flow")
        monkeypatch.setattr(promotions, "release", fail)
    assert "was not given back" in caplog.text


def test_without_tables(bare_url: str) -> None:
    with pytest.raises(EventLogError, match="create"):
        Promotions(bare_url)
