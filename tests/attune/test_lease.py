"""A short lease lasts as long as the work under it, and hardly longer than a holder that was killed."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attune.clock import SECOND, system_clock
from attune.errors import LogBusy, PromotionConflict
from attune.event_log import prepare
from attune.promotions import Lease, Promotions, renew_until

ROOT = Path(__file__).parents[2]
START = 1_700_000_000_000_000

HOLDER = """
import sys, time
from attune.promotions import Promotions
with Promotions(sys.argv[1]).hold_lease("default", "doomed", float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


class Waiting:
    """Stands for the waits between renewals: each moves the clock on, until ``turns`` are over."""

    def __init__(self, turns: int) -> None:
        self.now, self.turns = START, turns

    def clock(self) -> int:
        return self.now

    def __call__(self, seconds: float) -> bool:
        self.now += round(seconds * SECOND)
        self.turns -= 1
        return self.turns < 0


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'log' / 'events.db'}"
    prepare(url)
    return url


@pytest.fixture
def promotions(sqlite_url: str) -> Iterator[Promotions]:
    table = Promotions(sqlite_url)
    yield table
    table.close()


def test_a_renewed_lease_outlasts_its_length(sqlite_url: str) -> None:
    waiting = Waiting(turns=20)
    table = Promotions(sqlite_url, waiting.clock)
    lease = table.lease("default", "flow", 30)
    renew_until(waiting, table, lease, 30)
    assert waiting.now > lease.expires_at + 100 * SECOND
    assert table.append(lease, "1", "promote", "", "flow").at == waiting.now
    table.close()


def test_a_lost_lease_is_not_renewed_any_more(sqlite_url: str) -> None:
    waiting = Waiting(turns=20)
    table = Promotions(sqlite_url, waiting.clock)
    lease = table.lease("default", "sleeper", 30)
    waiting.now = lease.expires_at
    other = table.lease("default", "other", 30)
    renew_until(waiting, table, lease, 30)
    assert waiting.turns == 19, "it gave up at the first refusal"
    assert table.append(other, "2", "promote", "", "other").fence == 2
    table.close()


def test_a_busy_database_costs_one_renewal(promotions: Promotions, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = []

    def busy_at_first(lease: Lease, seconds: float) -> Lease:
        renewals.append(seconds)
        if len(renewals) == 1:
            raise LogBusy("another writer holds it")
        return lease

    monkeypatch.setattr(promotions, "renew", busy_at_first)
    renew_until(Waiting(turns=3), promotions, promotions.lease("default", "flow", 30), 30)
    assert renewals == [30, 30, 30]


def test_a_block_longer_than_the_lease_keeps_it_and_gives_it_back(promotions: Promotions) -> None:
    with promotions.hold_lease("default", "flow", 0.6) as lease:
        time.sleep(1.5)
        assert system_clock() > lease.expires_at
        with pytest.raises(PromotionConflict, match="flow holds"):
            promotions.lease("default", "other", 1)
        assert promotions.append(lease, "1", "promote", "", "flow").version == "1"
    assert promotions.lease("default", "other", 1).fence == 2


def test_a_block_that_raises_gives_its_lease_back(promotions: Promotions) -> None:
    with pytest.raises(KeyError), promotions.hold_lease("default", "flow", 600):
        raise KeyError
    assert promotions.lease("default", "other", 1).fence == 2


def test_a_killed_holder_blocks_for_one_short_lease(promotions: Promotions, sqlite_url: str) -> None:
    seconds = 3.0
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, sqlite_url, str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    time.sleep(seconds * 1.2)
    with pytest.raises(PromotionConflict, match="doomed holds"):
        promotions.lease("default", "heir", 1)
    holder.kill()
    holder.communicate()
    killed = time.monotonic()
    while True:
        try:
            lease = promotions.lease("default", "heir", 10)
            break
        except PromotionConflict:
            assert time.monotonic() - killed < seconds + 5, "the dead still hold it"
            time.sleep(0.05)
    assert promotions.append(lease, "1", "promote", "", "heir").fence == 2
