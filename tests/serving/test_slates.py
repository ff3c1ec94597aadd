"""Slate ids that nobody else can make; slates that reach the log off the answer's path, or say that they did not."""

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.door import ID_LIMIT
from attune.errors import DataContractError, LogBusy
from attune.event_log import Appended, EventLog
from attune.events import AnyEvent, Candidate, Shown, Slate
from serving.metrics import Metrics
from serving.slates import Signer, SlateWriter

SIGNER = Signer(b"key")


def slate(number: int, context: dict | None = None) -> Slate:
    return Slate(
        event_id=f"s{number}",
        event_timestamp=number,
        user_id="u",
        model_version="1",
        served_by="champion",
        policy={},
        shown=[Shown("i", 1.0, 0.5)],
        candidates=[Candidate("i", 1.0)],
        context=context or {},
        state_position=0,
    )


@given(st.text(), st.text())
def test_an_id_verifies_for_its_user_alone(user_id: str, other: str) -> None:
    slate_id = SIGNER.new_id(user_id)
    SIGNER.verify(slate_id, user_id)
    if other != user_id:
        with pytest.raises(DataContractError):
            SIGNER.verify(slate_id, other)


def test_ids_are_url_safe_short_and_new() -> None:
    ids = {SIGNER.new_id("u") for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(slate_id) <= ID_LIMIT and slate_id.replace(".", "").replace("-", "").replace("_", "").isalnum()
               for slate_id in ids)  # fmt: skip


@pytest.mark.parametrize("mangle", [
    lambda i: "", lambda i: ".", lambda i: "invented", lambda i: i.partition(".")[0], lambda i: i + "x",
    lambda i: i[:-1], lambda i: "A" + i, lambda i: i.partition(".")[2], lambda i: i.replace(".", ".."), lambda i: "é.é",
])  # fmt: skip
def test_an_altered_id_is_refused_by_name(mangle) -> None:
    with pytest.raises(DataContractError) as caught:
        SIGNER.verify(mangle(SIGNER.new_id("u")), "u")
    assert caught.value.field == "slate_id"


def test_another_key_signs_otherwise() -> None:
    with pytest.raises(DataContractError):
        Signer(b"other").verify(SIGNER.new_id("u"), "u")


class Gate:
    """The event log behind a gate: refuses while closed."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.open = threading.Event()
        self.groups: list[int] = []

    def append(self, events: Sequence[AnyEvent]) -> Appended:
        if not self.open.is_set():
            raise LogBusy("closed for the test")
        self.groups.append(len(events))
        return self.log.append(events)


@pytest.fixture
def gate(event_log: EventLog) -> Gate:
    return Gate(event_log)


def count(metrics: Metrics, status: str) -> float:
    return metrics.registry.get_sample_value("attune_slates_total", {"status": status}) or 0.0


def test_slates_are_written_in_groups(gate: Gate) -> None:
    metrics = Metrics()
    writer = SlateWriter(gate, metrics)
    gate.open.set()
    assert all(writer.put(slate(number)) for number in range(200))
    writer.start()
    writer.close()
    assert gate.log.counts() == {"slate": 200}
    assert len(gate.groups) <= 5
    assert count(metrics, "written") == 200


def test_a_single_slate_does_not_wait_for_others(gate: Gate) -> None:
    writer = SlateWriter(gate, Metrics())
    gate.open.set()
    writer.start()
    writer.put(slate(1))
    until = time.monotonic() + 2.0
    while gate.log.slate("s1") is None and time.monotonic() < until:
        time.sleep(0.005)
    assert gate.log.slate("s1") is not None
    writer.close()


def test_a_full_queue_refuses_and_a_log_that_comes_back_gets_all_that_was_taken(gate: Gate) -> None:
    metrics = Metrics()
    writer = SlateWriter(gate, metrics, capacity=5)
    taken = [number for number in range(10) if writer.put(slate(number))]
    assert taken == [0, 1, 2, 3, 4]
    assert count(metrics, "refused") == 5
    writer.start()
    time.sleep(0.25)
    assert gate.log.counts() == {}
    assert count(metrics, "retried") > 0
    gate.open.set()
    writer.close()
    assert [one.event.event_id for one in gate.log.read(0, 100)] == ["s0", "s1", "s2", "s3", "s4"]


def test_what_cannot_be_written_before_the_end_is_counted(gate: Gate) -> None:
    metrics = Metrics()
    writer = SlateWriter(gate, metrics)
    for number in range(3):
        writer.put(slate(number))
    writer.start()
    writer.close(seconds=0.3)
    assert count(metrics, "lost") == 3


def test_one_slate_that_cannot_be_stored_costs_no_other(gate: Gate) -> None:
    metrics = Metrics()
    writer = SlateWriter(gate, metrics)
    gate.open.set()
    writer.put(slate(1))
    writer.put(slate(2, {"odd": {1, object()}}))
    writer.put(slate(3))
    writer.start()
    writer.close()
    assert [one.event.event_id for one in gate.log.read(0, 100)] == ["s1", "s3"]
    assert (count(metrics, "written"), count(metrics, "lost")) == (2, 1)
