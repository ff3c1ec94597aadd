"""Every setting stands in docs/reference/settings.md with its default, what it takes, and its description."""

from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from attune.settings import PREFIX, Settings

PLAIN = {Path: "a folder", str: "text", bool: "`true` or `false`", int: "a whole number", float: "a number"}
BOUNDS = {"ge": "at least {:g}", "gt": "above {:g}", "le": "at most {:g}"}
PORT, PORT_BOUNDS = "a port", ("at least 0", "at most 65535")
"""The page says once what a port is."""


def rows() -> list[str]:
    """The rows that the page must have."""
    found = []
    for name, field in Settings.model_fields.items():
        cells = [f"`{PREFIX}{name.upper()}`", default(field.default), taken(field), field.description or ""]
        found.append(f"| {' | '.join(cells)} |")
    return found


def default(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def taken(field: Any) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{one}`" for one in get_args(kind))
    kinds = [one for one in get_args(kind) or (kind,) if one is not NoneType]
    words = PLAIN.get(kinds[0], "text, a secret")
    bounds = [
        text.format(getattr(one, bound))
        for one in field.metadata
        for bound, text in BOUNDS.items()
        if getattr(one, bound, None) is not None
    ]
    return PORT if kinds[0] is int and tuple(bounds) == PORT_BOUNDS else ", ".join([words, *bounds])


def test_every_setting_is_documented(page) -> None:
    page("reference/settings.md").section("All settings").holds(rows())


def test_what_a_port_is_is_documented(page) -> None:
    assert "A port is a number from 0 to 65535" in "\n".join(page("reference/settings.md").lines)


def test_every_field_has_a_description() -> None:
    bare = [name for name, field in Settings.model_fields.items() if not field.description]
    assert not bare
