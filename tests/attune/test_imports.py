"""What an import brought is known exactly, whoever else wrote meanwhile, and is closed by its withdrawal."""

import pytest

from attune.errors import DataContractError, EventLogError
from attune.event_log import EventLog
from attune.events import AnyEvent, Interaction, Item, User
from attune.imports import DONE, RUNNING, WITHDRAWING, WITHDRAWN
from attune.row_rules import Rejection


def acts(*names: str) -> list[AnyEvent]:
    return [Interaction(event_id=name, event_timestamp=1, user_id="u", item_id="i", kind="view") for name in names]


def test_an_import_owns_its_runs_of_positions(log: EventLog) -> None:
    first, second = log.imports.begin("a", {"kind": "view"}), log.imports.begin("b", {})
    log.append(acts("1", "2"), first)
    log.append(acts("3"), first)
    log.append(acts("live"))
    log.append(acts("2", "4"), first)
    log.append(acts("5", "6"), second)
    log.append(acts("5", "6"), first)
    runs = log.imports.runs()
    assert (runs.of(first), runs.of(second)) == ([(1, 3), (5, 5)], [(6, 7)])
    assert [runs.owner(position) for position in range(9)] == [
        *(None, first, first, first, None, first, second, second, None)
    ]
    assert [(one.import_id, one.source, one.events, one.state) for one in log.imports.latest(9)] == [
        (second, "b", 2, RUNNING), (first, "a", 4, RUNNING)]  # fmt: skip


def test_an_import_that_did_not_end_goes_on(log: EventLog) -> None:
    first = log.imports.begin("a", {"scale": "1,10"})
    assert log.imports.begin("a", {"scale": "1,10"}) == first
    assert log.imports.begin("a", {}) != first
    log.imports.end(first, {"accepted": 1})
    assert log.imports.begin("a", {"scale": "1,10"}) != first
    ended = log.imports.find(first)
    assert (ended.state, ended.counts, ended.options) == (DONE, {"accepted": 1}, {"scale": "1,10"})
    with pytest.raises(DataContractError, match="there is no import 99"):
        log.imports.find(99)


def test_nothing_is_added_to_an_import_that_is_withdrawn(log: EventLog) -> None:
    number = log.imports.begin("a", {})
    log.append(acts("1"), number)
    assert log.imports.begin_withdrawal(number)
    assert log.imports.begin_withdrawal(number), "killed halfway, it is begun again"
    assert (log.imports.find(number).state, log.imports.runs().gone) == (WITHDRAWING, {number})
    with pytest.raises(EventLogError, match="withdrawn meanwhile"):
        log.append(acts("2"), number)
    log.imports.end(number, {})
    log.imports.end_withdrawal(number, {"taken_back": 1})
    assert not log.imports.begin_withdrawal(number)
    assert (log.imports.find(number).state, log.imports.find(number).counts) == (WITHDRAWN, {"taken_back": 1})
    assert log.head() == 1


def test_the_last_import_of_a_source_that_stands(log: EventLog) -> None:
    assert log.imports.last_of("a") is None
    first, second = log.imports.begin("a", {"scale": "1,10"}), log.imports.begin("a", {})
    assert log.imports.last_of("a").import_id == second  # type: ignore[union-attr]
    log.imports.begin_withdrawal(second)
    assert log.imports.last_of("a").import_id == first  # type: ignore[union-attr]


def test_an_order_is_in_doubt_until_an_import_of_its_source_vouches_for_it(log: EventLog) -> None:
    other = log.imports.begin("b", {"order": "row"})
    for source, options in (("a", {"order": "row"}), ("c", {"order": "none"}), ("d", {})):
        log.imports.begin(source, options)
    assert log.imports.orders_in_doubt() == ["a", "b"]
    log.imports.begin("a", {"order": "row", "order_is_real": True})
    assert log.imports.begin_withdrawal(other)
    assert log.imports.orders_in_doubt() == []


def test_quarantined_rows_close_with_their_import_and_open_with_the_next(log: EventLog) -> None:
    bad = [Rejection(0, {"user_id": ""}, "user_id", "user_id: absent")]
    first = log.imports.begin("a", {})
    assert (log.quarantine("interaction", "a", bad, first), log.quarantined()) == (1, 1)
    log.imports.begin_withdrawal(first)
    log.imports.end_withdrawal(first, {})
    assert log.quarantined() == 0
    assert (log.quarantine("interaction", "a", bad, log.imports.begin("a", {})), log.quarantined()) == (0, 1)


def test_open_rows_are_found_by_their_source_and_settled(log: EventLog) -> None:
    for source in ("a_b.csv", "axb.csv"):
        log.quarantine("interaction", source, [Rejection(7, {"kind": "clik"}, "kind", "kind: no")])
    (row,) = log.quarantined_rows(0, 9, "a_b")
    assert (row.source, row.type, row.field, row.reason, row.row) == (
        "a_b.csv", "interaction", "kind", "kind: no", {"kind": "clik"})  # fmt: skip
    log.settle_quarantined([row.id])
    assert (log.quarantined(), [one.source for one in log.quarantined_rows(0, 9)]) == (1, ["axb.csv"])


def test_versions_of_items_and_users(log: EventLog) -> None:
    log.append([
        Item(event_id="1", event_timestamp=0, item_id="i", attributes={"title": "A"}),
        User(event_id="2", event_timestamp=0, user_id="u", attributes={"age": 1}), *acts("3"),
        Item(event_id="4", event_timestamp=0, item_id="i", attributes={"title": "B"}),
        Item(event_id="5", event_timestamp=0, item_id="j", attributes={}),
    ])  # fmt: skip
    items = log.versions("item", ["i", "unknown"])
    assert [(place, event.attributes["title"]) for place, event in items["i"]] == [(1, "A"), (4, "B")]
    assert list(items) == ["i"]
    assert [place for place, _ in log.versions("user", ["u"])["u"]] == [2]
