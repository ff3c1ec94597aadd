"""Rows over HTTP: ISO times with a zone, no misspelt field lost, everything else by the row rules at the door."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import MINUTE, SECOND, to_iso
from attune.errors import DataContractError
from serving.ingestion import admit_row, admit_rows, parse_time, same_but_time

NOW = 1_700_000_000 * SECOND
ROW = {"user_id": "u", "item_id": "i", "kind": "like"}


def clock() -> int:
    return NOW


def test_without_a_time_it_happened_now() -> None:
    assert admit_row("interaction", ROW, clock).event_timestamp == NOW
    assert admit_row("interaction", {**ROW, "event_timestamp": None}, clock).event_timestamp == NOW


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20.000001+00:00", NOW + 1),
        ("2023-11-15T00:13:20+02:00", NOW),
        ("1969-12-31T23:59:59.5Z", -SECOND // 2),
    ],
)
def test_times_are_exact_to_the_microsecond(text: str, micros: int) -> None:
    assert parse_time(text) == micros


@given(st.integers(-(10**15), 4 * 10**15))
def test_times_come_back_as_they_went(micros: int) -> None:
    assert parse_time(to_iso(micros)) == micros


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("2023-11-14T22:13:20", "zone"),
        ("2023-11-14", "zone"),
        ("yesterday", "ISO 8601"),
        ("", "ISO 8601"),
        (1_700_000_000, "ISO 8601"),
        (True, "ISO 8601"),
        ("9999-12-31T23:59:59-14:00", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_a_time_that_is_none_is_refused_by_name(raw: object, words: str | None) -> None:
    with pytest.raises(DataContractError, match=words) as caught:
        admit_row("interaction", {**ROW, "event_timestamp": raw}, clock)
    assert caught.value.field == "event_timestamp"


def test_the_future_is_refused() -> None:
    with pytest.raises(DataContractError, match="future"):
        admit_row("interaction", {**ROW, "event_timestamp": to_iso(NOW + 6 * MINUTE)}, clock)


def test_a_misspelt_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataContractError, match="did you mean 'event_timestamp'") as caught:
        admit_row("interaction", {**ROW, "timestamp": "2023-11-14T22:13:20Z"}, clock)
    assert caught.value.field == "timestamp"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "lke"}, "kind"),
        ({"kind": None}, "kind"),
        ({"user_id": 5}, "user_id"),
        ({"item_id": None}, "item_id"),
        ({"kind": "rating"}, "value"),
        ({"kind": "rating", "value": 9}, "value"),
        ({"kind": "rating", "value": "5"}, "value"),
        ({"value": 10**400}, "value"),
        ({"kind": "retract"}, "retracts"),
        ({"retracts": "e"}, "retracts"),
        ({"event_id": ""}, "event_id"),
        ({"slate_id": "s"}, "slate_id"),
    ],
)
def test_the_field_at_fault_is_named(change: dict, field: str) -> None:
    with pytest.raises(DataContractError) as caught:
        admit_row("interaction", {**ROW, **change}, clock)
    assert caught.value.field == field


def test_feedback_needs_its_slate() -> None:
    with pytest.raises(DataContractError) as caught:
        admit_row("feedback", ROW, clock)
    assert caught.value.field == "slate_id"
    assert admit_row("feedback", {**ROW, "slate_id": "s"}, clock).slate_id == "s"


def test_one_bad_row_costs_no_other() -> None:
    admitted, rejected = admit_rows([ROW, {}, {**ROW, "item_id": "j"}], clock)
    assert [(place, event.item_id) for place, event in admitted] == [(0, "i"), (2, "j")]
    assert [(bad.row_number, bad.field) for bad in rejected] == [(1, "kind")]


def test_events_that_differ_in_time_alone() -> None:
    first = admit_row("interaction", {**ROW, "event_id": "e"}, clock)
    later = admit_row("interaction", {**ROW, "event_id": "e"}, lambda: NOW + 1)
    other = admit_row("interaction", {**ROW, "event_id": "e", "kind": "hide"}, clock)
    feedback = admit_row("feedback", {**ROW, "event_id": "e", "slate_id": "s"}, clock)
    assert same_but_time(first, later)
    assert not same_but_time(first, other)
    assert not same_but_time(first, feedback)
