"""Slow and broken parts, made so by real means: what cannot be kept is not acknowledged, and slates go on.

A recommendation costs at most its budget whatever hangs below it, and everything recovers by itself.
"""

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import psutil
import psycopg
import pytest
from sqlalchemy import event

from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from serving import app, state

ANSWER_SECONDS = 1.0
SPARE_SECONDS = 0.5
"""What a busy machine may add to a budget before a test fails."""

LOCK_SECONDS = 0.5
ITEMS = [f"i{number}" for number in range(20)]
PAGE_BYTES = 4_096


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"answer_seconds": ANSWER_SECONDS})


@pytest.fixture
def started(endpoint_process) -> Callable:
    """An endpoint process over a log that knows the items."""

    def start(**fields):
        process = endpoint_process(lock_seconds=LOCK_SECONDS, answer_seconds=ANSWER_SECONDS, **fields)
        with closing(EventLog(process.settings.log_url)) as log:
            log.append(
                [
                    Interaction(event_id=item, event_timestamp=1, user_id="somebody", item_id=item, kind="click")
                    for item in ITEMS
                ]
            )
        process.start()
        return process

    return start


class Reacting:
    """One user who reacts while something is broken, and repeats later what was not acknowledged."""

    def __init__(self, process, user_id: str) -> None:
        self.process, self.user_id = process, user_id
        self.sender = process.sender()
        self.slate = self.sender.recommend(user_id).answer
        self.acknowledged: list[str] = []
        self.refused: list[dict] = []

    def react(self, event_id: str) -> int:
        """One reaction; the status of the answer."""
        row = {"slate_id": self.slate["slate_id"], "user_id": self.user_id, "kind": "view", "event_id": event_id}
        return self._send({**row, "item_id": self.slate["items"][0]["item_id"]})

    def repeat(self) -> None:
        """Send again what was refused: now it is taken, if it was not already."""
        again, self.refused = self.refused, []
        assert [self._send(row) for row in again] == [200] * len(again)

    def _send(self, row: dict) -> int:
        told = self.sender.post("/v1/feedback", row)
        if told.status == 200:
            self.acknowledged.append(row["event_id"])
        else:
            assert told.status == 503, told
            assert int(told.headers["retry-after"]) >= 1
            assert told.answer["error"]["message"]
            self.refused.append(row)
        return told.status

    def kept(self) -> list[str]:
        """What the log holds of the user, sorted."""
        with closing(EventLog(self.process.settings.log_url)) as log:
            return sorted(one.event.event_id for one in log.tail(self.user_id, 0))


def answers(process, user_id: str, times: int) -> list:
    """So many slates, asked for one after another; each within its budget and with items."""
    sender = process.sender()
    found = [sender.recommend(f"{user_id}-{number}") for number in range(times)]
    sender.close()
    assert [one.status for one in found] == [200] * times
    assert all(one.answer["items"] for one in found)
    slowest = max(one.seconds for one in found)
    assert slowest < ANSWER_SECONDS + SPARE_SECONDS, f"one took {slowest:.2f} s"
    return found


HOLDER = """
import sys
import pysqlite3.dbapi2 as sqlite
connection = sqlite.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(process) -> Iterator[None]:
    """Another process holds the log's write lock."""
    path = process.settings.var / "log" / "events.db"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


def test_a_log_that_another_process_holds_refuses_feedback_and_slates_go_on(started, eventually) -> None:
    process = started()
    user = Reacting(process, "u")
    assert user.react("before") == 200
    with held(process):
        with ThreadPoolExecutor(1) as pool:
            refused = pool.submit(user.react, "during")
            slates = answers(process, "v", 20)
            assert refused.result(30) == 503
        assert max(one.seconds for one in slates) < ANSWER_SECONDS / 2, "a reader waits for no writer"
        assert {tuple(one.answer["degraded"]) for one in slates} == {("features",)}
    user.repeat()
    assert user.react("after") == 200
    assert user.kept() == ["after", "before", "during"]
    with closing(EventLog(process.settings.log_url)) as log:
        eventually(lambda: all(log.slate(one.answer["slate_id"]) for one in slates))


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """The PostgreSQL server with all its processes stands still."""
    with psycopg.connect(url) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        postmaster = backend.parent()
    assert postmaster is not None
    standing = [postmaster, *postmaster.children()]
    for one in standing:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in standing:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)


def test_a_postgresql_that_stands_still_costs_the_budget_and_loses_nothing(
    started, postgres_database, eventually
) -> None:
    url = postgres_database("standing_still")
    process = started(database_url=url)
    user = Reacting(process, "u")
    assert [user.react(f"before-{number}") for number in range(3)] == [200] * 3
    with stopped(url), ThreadPoolExecutor(12) as pool:
        reactions = [pool.submit(Reacting.react, user, "during")]
        slates = [
            one for asked in [pool.submit(answers, process, f"v{n}", 4) for n in range(8)] for one in asked.result()
        ]
        assert [one.result(30) for one in reactions] == [503]
        assert all("event_log" in one.answer["degraded"] for one in slates)
    eventually(lambda: "event_log" not in process.sender().recommend("u").answer["degraded"])
    user.repeat()
    assert user.react("after") == 200
    assert user.kept() == ["after", "before-0", "before-1", "before-2", "during"]
    with closing(EventLog(url)) as log:
        eventually(lambda: all(log.slate(one.answer["slate_id"]) for one in slates))


class HangingStore:
    """A feature store that answers until it hangs."""

    def __init__(self, store) -> None:
        self._store = store
        self.hangs = threading.Event()
        self.goes_on = threading.Event()
        self.asked = 0

    def online_many(self, user_ids: Sequence[str]):
        self.asked += 1
        if self.hangs.is_set():
            self.goes_on.wait(60)
        return self._store.online_many(user_ids)


def test_a_feature_store_that_hangs_costs_a_quarter_of_the_budget_once(
    settings, feature_store, run_endpoint, clicks, eventually
) -> None:
    store = HangingStore(feature_store)
    with run_endpoint(settings, lambda: store) as ready:
        ready.log.append(clicks("somebody", ITEMS))

        def asked(user_id: str) -> tuple[float, list[str]]:
            begun = time.monotonic()
            degraded = ready.recommend(user_id)["degraded"]
            return time.monotonic() - begun, degraded

        assert asked("before")[1] == []
        store.hangs.set()
        before = store.asked
        first, degraded = asked("first")
        assert degraded == ["features"]
        assert first < ANSWER_SECONDS / 2
        others = [asked(f"other-{number}") for number in range(20)]
        assert {tuple(degraded) for _, degraded in others} == {("features",)}
        assert sorted(seconds for seconds, _ in others)[10] < 0.1, "nobody waits for it any more"
        assert store.asked == before + 1
        store.hangs.clear()
        store.goes_on.set()
        eventually(lambda: not ready.components.features.is_stuck)
        assert asked("after")[1] == [], "it answers again from the moment that the read ends"


class SlowToOpen:
    """A feature store whose first read takes longer than anybody waits; it may fail."""

    def __init__(self, store, fails: threading.Event) -> None:
        self._store = store
        self._fails = fails
        self._opened = False

    def online_many(self, user_ids: Sequence[str]):
        if not self._opened:
            time.sleep(ANSWER_SECONDS / 2)
            self._opened = True
        if self._fails.is_set():
            raise OSError("the disk is gone")
        return self._store.online_many(user_ids)


def test_a_feature_store_that_opens_slowly_is_opened_once(
    settings, feature_store, run_endpoint, clicks, monkeypatch, eventually
) -> None:
    monkeypatch.setattr(state, "REOPEN_SECONDS", 0.0)
    fails, opened = threading.Event(), []

    def open_store() -> SlowToOpen:
        opened.append(SlowToOpen(feature_store, fails))
        return opened[-1]

    with run_endpoint(settings, open_store) as ready:
        ready.log.append(clicks("somebody", ITEMS))
        assert ready.recommend("before")["degraded"] == []
        fails.set()
        assert ready.recommend("during")["degraded"] == ["features"]
        fails.clear()
        assert ready.recommend("opens it")["degraded"] == ["features"]
        eventually(lambda: not ready.components.features.is_stuck)
        assert ready.recommend("after")["degraded"] == []
        assert len(opened) == 2


def test_an_endpoint_is_ready_though_its_feature_store_hangs(
    settings, feature_store, run_endpoint, clicks, monkeypatch
) -> None:
    store = HangingStore(feature_store)
    with run_endpoint(settings, lambda: store) as ready:
        ready.log.append(clicks("somebody", ITEMS))
        monkeypatch.setattr(app, "READ_SECONDS", 0.2)
        store.hangs.set()
        assert ready.client.get("/readyz").status_code == 200
        assert ready.recommend("somebody")["degraded"] == ["features"]
        store.goes_on.set()


@contextmanager
def no_room(process) -> Iterator[None]:
    """The system lets the endpoint write no file beyond its first page, as a full disk would."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (PAGE_BYTES, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_for_the_log_nothing_is_acknowledged_until_there_is(started, eventually) -> None:
    process = started()
    user = Reacting(process, "u")
    assert user.react("before") == 200
    with no_room(process):
        assert [user.react(f"during-{number}") for number in range(3)] == [503] * 3
        slates = answers(process, "v", 5)
        assert user.kept() == ["before"]
    user.repeat()
    assert user.react("after") == 200
    assert user.kept() == ["after", "before", "during-0", "during-1", "during-2"]
    with closing(EventLog(process.settings.log_url)) as log:
        eventually(lambda: all(log.slate(one.answer["slate_id"]) for one in slates))


def test_a_full_database_is_said_and_acknowledges_nothing(bare, clicks) -> None:
    """SQLite itself is told to grow no further, which is the error of a full disk."""
    bare.log.append(clicks("somebody", ITEMS))
    engine = bare.log._database.engine

    def limit(connection, _) -> None:
        connection.execute("PRAGMA max_page_count=20")

    event.listen(engine, "connect", limit)
    engine.dispose()
    rows = [{"user_id": "u", "item_id": f"i{n}", "kind": "view", "event_id": f"full-{n}"} for n in range(1_000)]
    for _ in range(2):
        reply = bare.client.post("/v1/events", json={"events": rows})
        assert reply.status_code == 503
        assert "is full; nothing was written" in reply.json()["error"]["message"]
    assert bare.log.tail("u", 0) == []
    assert bare.recommend("v")["degraded"] == []
    event.remove(engine, "connect", limit)
    engine.dispose()
    assert bare.client.post("/v1/events", json={"events": rows}).json()["accepted"] == 1_000
    assert len(bare.log.tail("u", 0)) == 1_000
