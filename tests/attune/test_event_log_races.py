"""Writers against writers, readers and SIGKILL: positions become visible in order, batches whole or not at all."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from attune.errors import LogBusy
from attune.event_log import AppendResult, EventLog
from attune.events import Interaction


def click(event_id: str, user_id: str = "ada", item_id: str = "tea") -> Interaction:
    return Interaction(event_id=event_id, event_timestamp=5, user_id=user_id, item_id=item_id, kind="click")


class PausedWriter:
    """A writer of its own connections that stands still between its last statement and its COMMIT."""

    def __init__(self, url: str) -> None:
        self.log = EventLog(url)
        self.standing = threading.Event()
        self.go_on = threading.Event()
        event.listen(self.log._database.engine, "commit", self._stand)

    def _stand(self, connection: object) -> None:
        self.standing.set()
        assert self.go_on.wait(60)


def test_one_writer_paused_before_its_commit(url: str) -> None:
    paused, reader = PausedWriter(url), EventLog(url)
    hasty, patient = EventLog(url, lock_seconds=0.4), EventLog(url, lock_seconds=30)
    with ThreadPoolExecutor() as pool:
        first: Future[AppendResult] = pool.submit(paused.log.append, [click("a1"), click("a2"), click("a3")])
        assert paused.standing.wait(30)

        start = time.monotonic()
        with pytest.raises(LogBusy, match=r"another writer held the lock for 0\.4 s; nothing was written"):
            hasty.append([click("b")])
        assert 0.3 < time.monotonic() - start < 10
        second = pool.submit(patient.append, [click("c")])
        time.sleep(0.3)
        assert not second.done()
        assert (reader.head(), reader.read(0, 10), reader.find("a1")) == (0, [], None)

        paused.go_on.set()
        assert first.result(30).positions == [1, 2, 3]
        assert second.result(30).positions == [4]
    assert [one.event.event_id for one in reader.read(0, 10)] == ["a1", "a2", "a3", "c"]
    assert hasty.append([click("b")]).positions == [5]
    for log in (paused.log, reader, hasty, patient):
        log.close()


def test_threads_of_one_log_wait_for_each_other_or_are_told(url: str) -> None:
    paused = PausedWriter(url)
    paused.log._database.lock_seconds = 0.4
    with ThreadPoolExecutor() as pool:
        first = pool.submit(paused.log.append, [click("a")])
        assert paused.standing.wait(30)
        with pytest.raises(LogBusy):
            paused.log.append([click("b")])
        assert paused.log.head() == 0
        paused.go_on.set()
        assert first.result(30).positions == [1]
    paused.log.close()


def test_two_writers_with_one_id_between_them(url: str) -> None:
    paused, other = PausedWriter(url), EventLog(url, lock_seconds=30)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(paused.log.append, [click("same"), click("taken")])
        assert paused.standing.wait(30)
        second = pool.submit(other.append, [click("same"), click("taken", item_id="milk"), click("new")])
        paused.go_on.set()
        assert first.result(30).positions == [1, 2]
        told = second.result(30)
    assert (told.positions, told.repeated, told.conflicts) == ([1, 0, 3], 1, [1])
    paused.log.close()
    other.close()


def test_a_reader_sees_every_position_once_and_in_order(url: str) -> None:
    writers, batches = 6, 12
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def write(name: int) -> None:
        log, dice = EventLog(url, lock_seconds=60), random.Random(name)
        for number in range(batches):
            log.append([click(f"{name}-{number}-{one}") for one in range(dice.randint(1, 7))])
        log.close()

    def follow() -> None:
        log, after = EventLog(url), 0
        while True:
            last_round = done.is_set()
            batch = log.read(after, 5)
            seen.extend((one.position, one.event.event_id) for one in batch)
            after = batch[-1].position if batch else after
            if last_round and not batch:
                return log.close()

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    done.set()
    follower.join(60)
    log = EventLog(url)
    logged = log.read(0, 10_000)
    log.close()
    assert seen == [(one.position, one.event.event_id) for one in logged]
    assert [position for position, _ in seen] == list(range(1, len(seen) + 1))
    assert len({event_id.rsplit("-", 1)[0] for _, event_id in seen}) == writers * batches


WRITER = """
import sys
from sqlalchemy import event
from attune.event_log import EventLog
from attune.events import Interaction

url, name, pause = sys.argv[1], sys.argv[2], sys.argv[3] == "pause"
log = EventLog(url, lock_seconds=60)
if pause:
    def stand(connection):
        print("standing", flush=True)
        sys.stdin.read()
    event.listen(log._database.engine, "commit", stand)
print("ready", flush=True)
number = 0
while True:
    batch = [
        Interaction(event_id=f"{name}-{number}-{one}", event_timestamp=1, user_id="u", item_id="i", kind="click")
        for one in range(200)
    ]
    log.append(batch)
    print(number, flush=True)
    number += 1
"""


def start_writer(url: str, name: str, way: str) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_a_writer_killed_before_its_commit_leaves_nothing(url: str) -> None:
    writer = start_writer(url, "dead", "pause")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "standing\n"
    log = EventLog(url, lock_seconds=30)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(log.append, [click("alive")])
        time.sleep(0.2)
        assert not waiting.done()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert waiting.result(30).positions == [1]
    assert [one.event.event_id for one in log.read(0, 1_000)] == ["alive"]
    log.close()


def kill_in_the_midst(url: str, times: int) -> None:
    """Kill a writer at a random moment, over and over: what it acknowledged is there, and batches are whole."""
    acknowledged: set[str] = set()
    for round_number in range(times):
        writer = start_writer(url, str(round_number), "run")
        time.sleep(random.Random(round_number).uniform(0.02, 0.4))
        writer.send_signal(signal.SIGKILL)
        told, _ = writer.communicate()
        acknowledged.update(f"{round_number}-{line}" for line in told.split("\n")[:-1])
    log = EventLog(url)
    ids = [one.event.event_id for one in log.read(0, 10**7)]
    written = [event_id.removesuffix("-0") for event_id in ids[::200]]
    assert ids == [f"{batch}-{one}" for batch in written for one in range(200)]
    assert acknowledged <= set(written)
    assert len(set(written) - acknowledged) <= times, "at most one batch a kill may be written and not acknowledged"
    assert log.head() == len(ids) > 0
    log.close()


def test_kill_9_tears_nothing(url: str) -> None:
    kill_in_the_midst(url, times=1)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_kill_9_tears_nothing_many_times(url: str) -> None:
    kill_in_the_midst(url, times=40)


IDS = st.sampled_from([f"e{number}" for number in range(12)])
BATCHES = st.lists(
    st.lists(st.builds(click, IDS, st.sampled_from(["ada", "bob"]), st.sampled_from(["tea", "milk"])), max_size=8),
    max_size=8,
)


def check_against_a_dictionary(log: EventLog, batches: list[list[Interaction]]) -> None:
    """The log is a dictionary from ids to (position, first content), whatever the batches were."""
    model: dict[str, tuple[int, Interaction]] = {}
    for batch in batches:
        expected = []
        for given_event in batch:
            position, content = model.setdefault(given_event.event_id, (len(model) + 1, given_event))
            expected.append(position if content == given_event else 0)
        before = log.head()
        appended = log.append(batch)
        assert appended.positions == expected
        assert appended.conflicts == [place for place, position in enumerate(expected) if position == 0]
        assert appended.accepted == len(model) - before
        assert appended.accepted + appended.repeated + len(appended.conflicts) == len(batch)
    logged = [(one.position, one.event) for one in log.read(0, 1_000)]
    assert logged == sorted(model.values())
    for user_id in ("ada", "bob"):
        mine = [position for position, content in logged if content.user_id == user_id]
        assert [one.position for one in log.tail(user_id, 0)] == mine


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_the_log_is_a_dictionary(fresh_log: Callable[[], EventLog], batches: list[list[Interaction]]) -> None:
    check_against_a_dictionary(fresh_log(), batches)


@pytest.mark.long
@pytest.mark.timeout(1_200)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_the_log_is_a_dictionary_at_length(fresh_log: Callable[[], EventLog], batches: list[list[Interaction]]) -> None:
    check_against_a_dictionary(fresh_log(), batches)
