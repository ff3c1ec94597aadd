"""The kinds, their rewards, and the fields of every fact stand in docs/reference/events.md."""

import math
import re

import msgspec
import pytest

from attune import events
from attune.event_types import KINDS, Kind, reward

STRUCTS = [
    one
    for one in vars(events).values()
    if isinstance(one, type) and issubclass(one, msgspec.Struct) and one.__module__ == events.__name__
]


def kind_row(kind: Kind) -> str:
    """The row that the page must have."""
    constant = {kind.reward(value) for value in (None, kind.low, kind.high) if value is None or math.isfinite(value)}
    worth = f"{constant.pop():g}" if len(constant) == 1 and not kind.needs_value else "by its value"
    bounds = f"{kind.low:g} to {kind.high:g}" if math.isfinite(kind.high) else f"{kind.low:g} and more"
    value = bounds if kind.needs_value else "none needed"
    return f"| `{kind.name}` | {kind.meaning} | {value} | {worth} | {'yes' if kind.marks_seen else 'no'} |"


def base(struct: type[msgspec.Struct]) -> type[msgspec.Struct] | None:
    """The fact whose fields a fact has too."""
    return struct.__base__ if struct.__base__ in STRUCTS else None


def own_fields(struct: type[msgspec.Struct]) -> set[str]:
    """The fields that its base does not have: each is described once."""
    above = base(struct)
    return set(struct.__struct_fields__) - set(above.__struct_fields__ if above else ())


def test_every_kind_is_documented(page) -> None:
    page("reference/events.md").section("Kinds and rewards").section("Kinds").holds(map(kind_row, KINDS.values()))


def test_examples_of_rewards_are_right(page) -> None:
    lines = page("reference/events.md").section("What a value is worth").lines
    found = [re.fullmatch(r"\| `(\w+)` of (\S+) \| (\S+) \|", line) for line in lines]
    examples = [one for one in found if one]
    for one in examples:
        assert reward(one[1], float(one[2])) == pytest.approx(float(one[3])), one[0]
    valued = {name for name, kind in KINDS.items() if kind.needs_value}
    assert {one[1] for one in examples} == valued


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda one: one.__name__)
def test_every_field_is_documented(page, struct: type[msgspec.Struct]) -> None:
    section = page("reference/events.md").section("Facts").section(struct.__name__)
    documented = set(section.rows())
    assert own_fields(struct) - documented == set(), f"docs/{section.name} does not describe them"
    assert documented - own_fields(struct) == set(), f"docs/{section.name} describes what {struct} does not add"
    above = base(struct)
    links = re.findall(r"^(?:An )?\[(\w+)\]\(#\w+\)", "\n".join(section.lines), re.MULTILINE)
    assert links == ([above.__name__] if above else []), f"docs/{section.name} does not begin with what it is"


def test_every_struct_has_a_section(page) -> None:
    described = set(page("reference/events.md").section("Facts").headings(3))
    assert described == {one.__name__ for one in STRUCTS}
