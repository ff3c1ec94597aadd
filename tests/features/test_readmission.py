"""Rows of the quarantine come into the log once their fault is mended, once, and are open no longer."""

from typing import Any

import pytest

from attune.clock import SECOND, Clock
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.events import Feedback, Interaction, Item
from attune.row_rules import Rejection
from features.importer import readmit

ROW: dict[str, Any] = {"user_id": "u", "item_id": "i", "kind": "clik", "event_timestamp": 5 * SECOND, "event_id": "e1"}


def keep(log: EventLog, type_name: str, *rows: Any, source: str = "a.csv") -> list[int]:
    before = len(log.quarantined_rows(0, 1_000))
    log.quarantine(type_name, source, [Rejection(number, row, "x", "x: no") for number, row in enumerate(rows)])
    return [row.id for row in log.quarantined_rows(0, 1_000)[before:]]


def test_rows_that_the_rules_admit_by_now_come_in_once(log: EventLog, clock: Clock) -> None:
    keep(log, "interaction", ROW | {"kind": "click"}, ROW)
    keep(log, "interaction", ROW | {"kind": "like", "event_id": None}, {"line": "torn"}, source="b.csv")
    tally = readmit(log, clock, "b")
    assert (tally.rows_in, tally.accepted, tally.quarantined, log.quarantined()) == (2, 1, 1, 3)
    tally = readmit(log, clock)
    assert (tally.rows_in, tally.accepted, tally.quarantined, log.quarantined()) == (3, 1, 2, 2)
    assert [reason.split(":")[0] for reason in tally.reasons] == ["kind", "event_timestamp"]
    assert [logged.event.kind for logged in log.read(0, 10)] == ["like", "click"]
    again = readmit(log, clock)
    assert (again.accepted, again.repeated, again.quarantined) == (0, 0, 2)
    assert [(one.source, one.events) for one in log.imports.latest(9)] == [("quarantine", 1), ("quarantine b", 1)]


def test_edited_rows_take_the_place_of_those_kept(log: EventLog, clock: Clock) -> None:
    first, second, third = keep(log, "interaction", ROW, ROW | {"event_id": "e2"}, {"line": "u;i"})
    edited = {first: ROW | {"kind": "click", "event_timestamp": "2001-09-09T01:46:40Z"}, second: ROW, 99: ROW,
              third: {"user_id": "u", "item_id": "j", "kind": "view", "event_timestamp": 1}}  # fmt: skip
    tally = readmit(log, clock, edited=edited)
    assert (tally.rows_in, tally.accepted, tally.quarantined, log.quarantined()) == (3, 2, 1, 1)
    events = [logged.event for logged in log.read(0, 10)]
    assert events[0] == Interaction(
        event_id="e1", event_timestamp=10**9 * SECOND, user_id="u", item_id="i", kind="click"
    )
    tally = readmit(log, clock, edited={first: ROW | {"kind": "like"}, second: ROW | {"kind": "like"}})
    assert (tally.rows_in, tally.quarantined, log.quarantined()) == (1, 1, 1), "its id stands with other content"
    tally = readmit(log, clock, edited={second: ROW | {"kind": "like", "event_id": "e2"}})
    assert (tally.accepted, log.quarantined(), log.head()) == (1, 0, 3)


def test_rows_of_http_may_lack_a_time_and_have_another_type(log: EventLog, clock: Clock) -> None:
    row = {"user_id": "u", "item_id": "i", "kind": "click"}
    keep(log, "interaction", row, source="http:/v1/events#1")
    keep(
        log,
        "feedback",
        row | {"slate_id": "s", "event_timestamp": "2001-09-09T03:46:40+02:00"},
        source="http:/v1/feedback#2",
    )
    keep(log, "item", {"item_id": "i", "attributes": {"year": 5}, "event_id": "put"}, source="http:/v1/items#3")
    assert readmit(log, clock).accepted == 3
    events = [logged.event for logged in log.read(0, 10)]
    assert [type(event) for event in events] == [Interaction, Feedback, Item]
    assert [event.event_timestamp for event in events] == [clock(), 10**9 * SECOND, clock()]


def test_killed_between_log_and_quarantine_it_counts_once(
    log: EventLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(log, "interaction", ROW | {"kind": "click", "event_id": None})

    def killed(ids: list[int]) -> None:
        raise EventLogError("killed")

    with monkeypatch.context() as context:
        context.setattr(log, "settle_quarantined", killed)
        with pytest.raises(EventLogError, match="killed"):
            readmit(log, clock)
    tally = readmit(log, clock)
    assert (tally.accepted, tally.repeated, log.quarantined(), log.head()) == (0, 1, 0, 1)
    assert [(one.events, one.state) for one in log.imports.latest(9)] == [(1, "done")]


def test_a_mended_row_stays_settled_when_its_file_is_imported_again(log: EventLog, clock: Clock) -> None:
    keep(log, "interaction", ROW | {"kind": "click"})
    readmit(log, clock)
    assert (keep(log, "interaction", ROW | {"kind": "click"}), log.quarantined()) == ([], 0)
