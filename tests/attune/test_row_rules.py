"""The row rules: each one, and that any row at all is admitted or rejected, never anything else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.clock import DAY, HOUR, MINUTE
from attune.errors import DataContractError
from attune.event_types import KINDS
from attune.events import AnyEvent, Feedback, Interaction, Item, User, to_logged, to_row
from attune.row_rules import FUTURE_LIMIT, Row, admit, admit_all, one_spelling, row_as_json, typed

NOW = 1_700_000_000_000_000
GOOD = {"event_id": "e1", "event_timestamp": NOW, "user_id": "ada", "item_id": "tea", "kind": "rating", "value": 4}
TYPES = ("interaction", "feedback", "item", "user")


def short(value: object) -> str:
    """A test's name for a value, however large or odd."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "huge"
    return ascii(value)[:30]


def clock() -> int:
    return NOW


def row(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def refused(type_name: str, bad: Row) -> DataContractError:
    with pytest.raises(DataContractError) as raised:
        admit(type_name, bad, clock)
    return raised.value


def test_what_a_good_row_becomes() -> None:
    assert admit("interaction", GOOD, clock) == Interaction(
        event_id="e1", event_timestamp=NOW, user_id="ada", item_id="tea", kind="rating", value=4.0
    )
    assert admit("feedback", row(slate_id="s"), clock) == Feedback(
        event_id="e1", event_timestamp=NOW, user_id="ada", item_id="tea", kind="rating", value=4.0, slate_id="s"
    )
    assert admit("item", row(attributes={"title": "Tea"}), clock) == Item(
        event_id="e1", event_timestamp=NOW, item_id="tea", attributes={"title": "Tea"}
    )
    assert admit("user", row(attributes=None), clock) == User(
        event_id="e1", event_timestamp=NOW, user_id="ada", attributes={}
    )


def test_a_row_without_an_id_gets_one_of_its_own() -> None:
    bare = {name: value for name, value in GOOD.items() if name != "event_id"}
    first, second = (admit("interaction", bare, clock) for _ in range(2))
    assert len(first.event_id) == 32
    assert first.event_id != second.event_id


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "slate_id"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "absent"),
        (7, "7 is not text"),
        (float("nan"), "nan is not text"),
        (True, "True is not text"),
        (b"ada", "b'ada' is not text"),
        (["ada"], "is not text"),
        (10**5_000, "a int is not text"),
        ("x" * 257, "257 characters; at most 256"),
        ("a\x00b", "unprintable"),
        ("a\nb", "unprintable"),
        ("\ud800", "unprintable"),
        (" ada", "blanks around it"),
        ("ada\u00a0", "unprintable characters or blanks"),
    ],
    ids=short,
)
def test_ids(field: str, value: object, reason: str) -> None:
    error = refused("feedback", row(slate_id="s") | {field: value})
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert reason in str(error)


@pytest.mark.parametrize("field", ["user_id", "item_id", "slate_id"])
def test_absent_ids(field: str) -> None:
    for absent in (row(slate_id="s") | {field: None}, {k: v for k, v in row(slate_id="s").items() if k != field}):
        error = refused("feedback", absent)
        assert (error.field, "absent" in str(error)) == (field, True)


@pytest.mark.parametrize("good", ["a b", "茶", "x" * 256, "💛", "O'Neill; DROP TABLE events", '"', "nan"], ids=short)
def test_ids_that_are_fine(good: str) -> None:
    assert admit("interaction", row(user_id=good), clock).user_id == good  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "absent"),
        ("2024-01-01", "is not a time"),
        (1.5e15, "is not a time"),
        (True, "is not a time"),
        (NOW + FUTURE_LIMIT + 1, "lies in the future"),
        (NOW * 1_000, "lies in the future"),
        (10**5_000, "lies in the future"),
        (-(10**5_000), "lies too far in the past"),
        (-201 * 365 * DAY, "lies too far in the past"),
    ],
    ids=short,
)
def test_times(value: object, reason: str) -> None:
    error = refused("interaction", row(event_timestamp=value))
    assert error.field == "event_timestamp"
    assert reason in str(error)


@pytest.mark.parametrize("good", [0, -HOUR, NOW, NOW + 5 * MINUTE, -200 * 365 * DAY])
def test_times_that_are_fine(good: int) -> None:
    assert admit("interaction", row(event_timestamp=good), clock).event_timestamp == good


@pytest.mark.parametrize(
    "value", [None, "", "likes", "LIKE", 3, ["like"], "like" * 10_000_000, 10**5_000, "\ud800"], ids=short
)
def test_unknown_kinds(value: object) -> None:
    error = refused("interaction", row(kind=value))
    assert error.field == "kind"
    assert "known are impression, view," in str(error)
    assert len(str(error)) < 600


def test_the_nearest_kind_is_named() -> None:
    assert "did you mean 'like'?" in str(refused("interaction", row(kind="likes")))
    assert "did you mean 'favourite'?" in str(refused("interaction", row(kind="favorite")))


@pytest.mark.parametrize(
    "value", [0.4, 5.1, -1, "4", True, float("nan"), float("inf"), 10**400, 10**5_000, b"4"], ids=short
)
def test_values_of_ratings(value: object) -> None:
    assert refused("interaction", row(value=value)).field == "value"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("watch", 1, 1.01), ("survey", 0, -0.01), ("dwell", 10**9, -1), ("rating", 0.5, None), ("watch", 0.5, None)],
)
def test_each_kinds_range(kind: str, good: float, bad: float | None) -> None:
    assert admit("interaction", row(kind=kind, value=good), clock).value == good  # type: ignore[union-attr]
    assert refused("interaction", row(kind=kind, value=bad)).field == "value"


def test_a_value_that_no_kind_needs_must_be_finite_all_the_same() -> None:
    assert admit("interaction", row(kind="click", value=None), clock).value is None  # type: ignore[union-attr]
    assert admit("interaction", row(kind="click", value=-3), clock).value == -3.0  # type: ignore[union-attr]
    assert refused("interaction", row(kind="click", value=10**400)).field == "value"


def test_take_backs() -> None:
    taken = admit("interaction", row(kind="retract", value=None, retracts="e0"), clock)
    assert (taken.kind, taken.retracts) == ("retract", "e0")  # type: ignore[union-attr]
    assert refused("interaction", row(kind="retract", value=None)).field == "retracts"
    assert refused("interaction", row(retracts="e0")).field == "retracts"


@pytest.mark.parametrize(
    "bad",
    [
        "title",
        ["title"],
        {1: "x"},
        {"a": {"b": 1}},
        {"a": [[1]]},
        {"a": (1,)},
        {"a": object()},
        {"a": b"x"},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": 2**63},
        {"a": 10**5_000},
        {"a": "\ud800"},
        {"a": ["\x00"]},
        {"\udfff": 1},
        {"a\x00": 1},
        {str(number): 1 for number in range(201)},
    ],
    ids=range(17),
)
def test_attributes(bad: object) -> None:
    for type_name in ("item", "user"):
        error = refused(type_name, row(attributes=bad))
        assert (error.field, str(error).startswith("attributes: ")) == ("attributes", True)


def test_attributes_that_are_fine() -> None:
    good = {
        "title": "Tee ☕\n",
        "count": -(2**63),
        "score": 0.5,
        "old": True,
        "none": None,
        "tags": ["a", 1, None],
        "": [],
    }
    assert admit("item", row(attributes=good), clock).attributes == good  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("available", "false"), ("retired", 1), ("title", 1984), ("year", "1984"), ("year", 2**60), ("genres", "a|b")],
)
def test_known_attributes_have_their_type(name: str, bad: object) -> None:
    assert refused("item", row(attributes={name: bad})).field == f"attributes.{name}"
    assert admit("user", row(attributes={name: bad}), clock).attributes == {name: bad}  # type: ignore[union-attr]
    assert admit("item", row(attributes={name: bad, "a": 1}), clock, given={"a": 1})


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("price", ["20", None, "3.5", "-1", "1e3"], [20, None, 3.5, -1, 1000.0]),
        ("price", ["20", "free"], ["20", "free"]),
        ("price", ["20", "NULL", "nan"], [20, None, None]),
        ("brand", ["NULL", "x"], ["NULL", "x"]),
        ("brand", ["NA"], ["NA"]),
        ("code", ["007", "12"], ["007", "12"]),
        ("code", [str(2**63), "1"], [str(2**63), "1"]),
        ("code", [str(2**62 + 1)], [2**62 + 1]),
        ("sale", ["true", "False", None], [True, False, None]),
        ("sale", ["1", "0"], [1, 0]),
        ("available", ["1", "0", "yes"], [True, False, True]),
        ("available", ["false", "soon", "N", "null", None], [False, "soon", False, None, None]),
        ("title", ["1984", "2001"], ["1984", "2001"]),
        ("brand_id", ["1", "2"], ["1", "2"]),
        ("valid", ["true", None], [True, None]),
        ("nothing", [None, None], [None, None]),
    ],
)
def test_texts_of_a_file_are_typed_by_whole_columns(name: str, cells: list, expected: list) -> None:
    values = typed(name, cells)
    assert (values, [type(value) for value in values]) == (expected, [type(value) for value in expected])


def test_a_reason_quotes_numbers_without_their_library() -> None:
    assert str(refused("interaction", row(kind="rating", value=np.float64(7)))).startswith("value: 7.0 is outside")


def test_numpys_scalars_become_plain_ones() -> None:
    item = admit("item", row(item_id=np.str_("tea"), attributes={"a": np.float64(0.5), "b": [np.str_("x")]}), clock)
    assert isinstance(item, Item)
    assert [type(value) for value in (item.item_id, item.attributes["a"], item.attributes["b"][0])] == [str, float, str]
    assert to_row(item)["item_id"] == "tea"


def test_negative_zero_becomes_zero() -> None:
    positive, negative = (admit("interaction", row(kind="dwell", value=zero), clock) for zero in (0.0, -0.0))
    assert positive.digest() == negative.digest()


@pytest.mark.parametrize("bad", [None, 1, "row", [1, 2], b"x", {1, 2}])
def test_a_row_that_is_no_mapping(bad: Any) -> None:
    assert "is not a mapping" in str(refused("interaction", bad))


@pytest.mark.parametrize("type_name", ["slates", "", "Interaction", 10**5_000], ids=short)
def test_unknown_types(type_name: Any) -> None:
    assert refused(type_name, GOOD).field == "type"


def test_admitting_many_loses_none() -> None:
    rows = [row(event_id="a"), row(kind="likes"), row(event_id="b"), row(user_id="")]
    admitted, rejected = admit_all("interaction", rows, clock)
    assert [event.event_id for event in admitted] == ["a", "b"]
    assert [(bad.row_number, bad.row, bad.field) for bad in rejected] == [(1, rows[1], "kind"), (3, rows[3], "user_id")]
    assert "did you mean" in rejected[0].reason


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 10**400, NOW])
    | st.sampled_from([5_000]).map(lambda digits: 10**digits)  # Python itself refuses to print it
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["\ud800", "\x00", "ada", "tea", *KINDS])
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "event_id",
    "event_timestamp",
    "user_id",
    "item_id",
    "slate_id",
    "kind",
    "value",
    "retracts",
    "attributes",
    "other",
)


@st.composite
def rows(draw: st.DrawFn) -> Any:
    """A good row in which some fields hold anything; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    changes = draw(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3))
    return row(slate_id="s", kind=draw(st.sampled_from([*KINDS]))) | changes


def admitted_or_rejected(type_name: str, any_row: Any) -> AnyEvent | None:
    """Whatever the row: an event that the log can keep and give back, or a reason and a row for the quarantine."""
    try:
        event = admit(type_name, any_row, clock)
    except DataContractError as error:
        reason = str(error)
    else:
        return _kept(event)
    assert len(reason) < 1_000
    reason.encode()
    row_as_json(any_row).encode("ascii")
    return None


def _kept(event: AnyEvent) -> AnyEvent:
    kept = to_row(event)
    assert isinstance(event.digest(), bytes)
    assert to_logged(Columns(position=1, logged_at=2, **kept)).event == event
    return event


@pytest.mark.parametrize("field", ["user_id", "item_id"])
@pytest.mark.parametrize("name", ["12.0", "-3.0", "007.0", "Cafe\u0301", "\u212b"])
def test_an_id_has_one_spelling(field: str, name: str) -> None:
    with pytest.raises(DataContractError, match=f"{field}: .* is not how that id is written") as refused:
        admit("interaction", GOOD | {field: name}, clock)
    assert refused.value.field == field
    written = one_spelling(name)
    assert getattr(admit("interaction", GOOD | {field: written}, clock), field) == written
    stored = admit("interaction", GOOD | {field: name}, clock, is_stored=True)
    assert getattr(stored, field) == name, "an older log had it"


@pytest.mark.parametrize("name", ["12", "1.0.0", "1.10", "v1.0", "012", "Caf\u00e9", "1e3"])
def test_other_ids_stay_as_they_are(name: str) -> None:
    assert one_spelling(name) == name


class Columns:
    """A row of the table, as the database gives it."""

    def __init__(self, **columns: Any) -> None:
        vars(self).update(columns)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), rows())
def test_any_row_is_admitted_or_rejected(type_name: str, any_row: Any) -> None:
    admitted_or_rejected(type_name, any_row)


@pytest.mark.long
@pytest.mark.timeout(1_200)
@settings(max_examples=10_000, deadline=None)
@given(st.sampled_from(TYPES), rows())
def test_any_row_is_admitted_or_rejected_at_length(type_name: str, any_row: Any) -> None:
    admitted_or_rejected(type_name, any_row)
