"""One writer for many: durable before it is told, everybody's own failure, nothing that was offered is forgotten."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_all

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attune.errors import DataContractError, EventLogError, LogBusy
from attune.event_log import AppendResult, EventLog
from attune.events import Interaction, Slate
from attune.group_commit import GATHER_SECONDS, GROUP_EVENTS, GroupCommit

Rows = list[dict]


def click(event_id: str, item_id: str = "tea", time: int = 5) -> Interaction:
    return Interaction(event_id=event_id, event_timestamp=time, user_id="ada", item_id=item_id, kind="click")


def slate(number: int, context: dict | None = None) -> Slate:
    return Slate(
        event_id=f"s{number}",
        event_timestamp=number,
        user_id="u",
        model_version="1",
        served_by="champion",
        policy={},
        shown=[],
        candidates=[],
        context=context or {},
        state_position=0,
    )


class Gate:
    """The event log behind a gate: waits while closed, fails where told to, and counts its transactions."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.open = threading.Event()
        self.open.set()
        self.failures: list[Exception] = []
        self.refused: set[str] = set()
        self.groups: list[int] = []

    def append_rows(self, groups: list[Rows]) -> list[AppendResult]:
        self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.refused & {row["event_id"] for rows in groups for row in rows}:
            raise DataContractError("the database refuses it")
        self.groups.append(sum(map(len, groups)))
        return self.log.append_rows(groups)


@pytest.fixture
def gate(log: EventLog) -> Gate:
    return Gate(log)


@pytest.fixture
def noted() -> Counter[str]:
    return Counter()


@pytest.fixture
def commit(gate: Gate, noted: Counter[str]) -> Iterator[GroupCommit]:
    """Not started yet."""
    made = GroupCommit(gate, lambda status, events: noted.update({status: events}), offered=150)  # type: ignore[arg-type]
    yield made
    gate.open.set()
    made.close(1.0)


def names(log: EventLog) -> list[str]:
    return [one.event.event_id for one in log.read(0, 10_000)]


def test_who_waits_is_told_what_became_of_its_own(log: EventLog, commit: GroupCommit, gate: Gate) -> None:
    log.append([click("old"), click("taken")])
    answers = [
        commit.submit([click("a"), click("old")]),
        commit.submit([click("b"), click("a"), click("taken", "milk")]),
        commit.submit([]),
        commit.submit([click("a", "milk")]),
    ]
    commit.start()
    assert [one.result(10) for one in answers] == [
        AppendResult([3, 1], 1, 1, []),
        AppendResult([4, 3, 0], 1, 1, [2]),
        AppendResult([], 0, 0, []),
        AppendResult([0], 0, 0, [0]),
    ]
    assert gate.groups == [6], "one transaction for all"


def test_it_is_in_the_log_when_it_is_told(log: EventLog, commit: GroupCommit) -> None:
    commit.start()

    def one(number: int) -> bool:
        position = commit.submit([click(f"e{number}")]).result(10).positions[0]
        return log.read(position - 1, 1)[0].event.event_id == f"e{number}"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(300)))
    assert len(set(names(log))) == 300


def test_while_the_disk_is_busy_the_next_group_gathers(commit: GroupCommit, gate: Gate) -> None:
    gate.open.clear()
    commit.start()
    first = commit.submit([click("a")])
    time.sleep(0.05)
    rest = [commit.submit([click(f"e{number}")]) for number in range(100)]
    gate.open.set()
    wait_all([first, *rest], 10)
    assert gate.groups == [1, 100]


def test_a_group_is_bounded_and_a_large_caller_is_not_cut(commit: GroupCommit, gate: Gate) -> None:
    large = [click(f"large{number}") for number in range(GROUP_EVENTS + 1)]
    answers = [commit.submit([click("a")]), commit.submit(large), commit.submit([click("b")])]
    commit.start()
    wait_all(answers, 30)
    assert gate.groups == [1, GROUP_EVENTS + 1, 1]


def test_nobody_can_call_it_off(log: EventLog, commit: GroupCommit) -> None:
    answer = commit.submit([click("a")])
    assert not answer.cancel()
    commit.start()
    assert answer.result(10).positions == [1]


def test_a_failure_of_the_log_is_told_to_all_of_the_group_and_the_next_goes_on(
    log: EventLog, commit: GroupCommit, gate: Gate
) -> None:
    gate.failures = [LogBusy("another writer holds the lock"), RuntimeError("a fault of ours")]
    told = []
    commit.start()
    for name in "ab":
        with pytest.raises((LogBusy, RuntimeError)) as caught:
            commit.submit([click(name)]).result(10)
        told.append(type(caught.value))
    assert told == [LogBusy, RuntimeError]
    assert commit.submit([click("a")]).result(10).accepted == 1
    assert names(log) == ["a"]


def test_what_the_database_refuses_fails_nobody_else(log: EventLog, commit: GroupCommit, gate: Gate, noted) -> None:
    gate.refused = {"bad", "s2"}
    answers = [commit.submit([click(name)]) for name in ("a", "bad", "b")]
    assert all(commit.offer(slate(number)) for number in (1, 2, 3))
    commit.start()
    assert [one.exception(10) is None for one in answers] == [True, False, True]
    commit.close()
    assert names(log) == ["a", "b", "s1", "s3"]
    assert (noted["written"], noted["lost"]) == (2, 1)


def test_an_event_that_cannot_be_stored_is_refused_to_its_caller_at_once(commit: GroupCommit) -> None:
    with pytest.raises(DataContractError):
        commit.submit([click("a\ud800")])


def test_too_many_that_wait_are_refused(gate: Gate) -> None:
    commit = GroupCommit(gate, waiting=3)  # type: ignore[arg-type]
    answer = commit.submit([click(name) for name in "abcde"])  # alone it may be as large as it likes
    with pytest.raises(LogBusy, match="5 events wait"):
        commit.submit([click("f")])
    commit.start()
    assert answer.result(10).accepted == 5
    commit.close()
    with pytest.raises(LogBusy, match="closed"):
        commit.submit([click("f")])


def test_offers_are_written_in_groups(log: EventLog, commit: GroupCommit, gate: Gate, noted: Counter[str]) -> None:
    taken = sum(commit.offer(slate(number)) for number in range(200))
    assert taken == 150, "beyond the bound they are refused"
    commit.start()
    commit.close()
    assert log.counts() == {"slate": 150}
    assert len(gate.groups) == 2
    assert noted["written"] == 150
    assert not commit.offer(slate(999))


def test_a_single_offer_does_not_wait_for_others(log: EventLog, commit: GroupCommit) -> None:
    commit.start()
    commit.offer(slate(1))
    until = time.monotonic() + 100 * GATHER_SECONDS
    while log.slate("s1") is None and time.monotonic() < until:
        time.sleep(0.005)
    assert log.slate("s1") is not None


def test_offers_travel_with_those_who_wait(log: EventLog, commit: GroupCommit, gate: Gate) -> None:
    commit.offer(slate(1))
    answer = commit.submit([click("a")])
    commit.start()
    answer.result(10)
    assert gate.groups == [2]


def test_a_log_that_comes_back_gets_what_was_offered_in_its_order(
    log: EventLog, commit: GroupCommit, gate: Gate, noted: Counter[str]
) -> None:
    gate.failures = [EventLogError("the disk is full")] * 3
    for number in range(5):
        commit.offer(slate(number))
    commit.start()
    time.sleep(0.15)
    assert noted["retried"] > 0
    commit.close()
    assert names(log) == ["s0", "s1", "s2", "s3", "s4"]


def test_what_cannot_be_written_before_the_end_is_counted(commit: GroupCommit, gate: Gate, noted: Counter[str]) -> None:
    gate.failures = [EventLogError("the disk is full")] * 1_000
    for number in range(3):
        commit.offer(slate(number))
    commit.start()
    commit.close(seconds=0.3)
    assert noted["lost"] == 3


def test_one_offer_that_cannot_be_stored_costs_no_other(
    log: EventLog, commit: GroupCommit, noted: Counter[str]
) -> None:
    for number, context in ((1, None), (2, {"odd": {1, object()}}), (3, None)):
        commit.offer(slate(number, context))
    commit.start()
    commit.close()
    assert names(log) == ["s1", "s3"]
    assert (noted["written"], noted["lost"]) == (2, 1)


Call = tuple[list[tuple[str, str]], bool]
CALLS = st.lists(
    st.tuples(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy")), max_size=4), st.booleans()),
    max_size=12,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_everything_acknowledged_is_there_once_and_nothing_else(
    fresh_log: Callable[[], EventLog], calls: list[Call]
) -> None:
    """Callers at once, some of whose transactions fail: an answer is what the log holds, a failure leaves nothing."""
    log = fresh_log()
    gate = Gate(log)
    commit = GroupCommit(gate)  # type: ignore[arg-type]
    gate.failures = [LogBusy("busy") for _, fails in calls if fails]
    commit.start()
    answers = [commit.submit([click(name, item) for name, item in events]) for events, _ in calls]
    wait_all(answers, 10)
    commit.close()
    held = {one.position: one.event for one in log.read(0, 1_000)}
    told: set[str] = set()
    accepted = 0
    for (events, _), answer in zip(calls, answers, strict=True):
        if answer.exception():
            continue
        appended = answer.result()
        accepted += appended.accepted
        for (name, item), position in zip(events, appended.positions, strict=True):
            assert not position or held[position] == click(name, item)
            told.update([name] if position else [])
    assert sorted(told) == sorted(event.event_id for event in held.values())
    assert accepted == len(held)
