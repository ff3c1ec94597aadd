"""Every command of `attune` stands in docs/reference/commands.md, with all it takes, as its help says it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from infra.cli import app

BOLD = re.compile(r"\[/?bold\]")


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    if hasattr(group, "commands"):
        for name, below in group.commands.items():
            yield from commands(below, f"{path} {name}")
    elif not group.hidden:
        yield path, group


def told(text: str | None) -> str:
    """Help as the page has it: on one line, bold as code."""
    return " ".join(BOLD.sub("`", text or "").split()).replace("|", "\\|")


def rows(command: Any) -> list[str]:
    """The rows that the command's section must have."""
    found = []
    for one in command.params:
        if one.param_type_name == "option":
            name = ", ".join([*one.opts, *one.secondary_opts])
            needed = "needed" if one.required else _default(one)
        else:
            name, needed = one.name.upper(), "needed" if one.required else "-"
        found.append(f"| `{name}` | {needed} | {told(getattr(one, 'help', ''))} |")
    return found


def _default(option: Any) -> str:
    return "-" if option.is_flag or option.default in (None, "") else f"`{option.default}`"


def purpose(command: Any) -> str:
    """The first paragraph of its help."""
    return told((command.help or "").split("\n\n")[0])


COMMANDS = dict(commands(typer.main.get_command(app), "attune"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(page, name: str) -> None:
    section = page("reference/commands.md").section(f"`{name}`")
    text = " ".join("\n".join(section.lines).split())
    assert purpose(COMMANDS[name]) in text, f"docs/{section.name} does not say: {purpose(COMMANDS[name])}"
    section.holds(rows(COMMANDS[name]))


def test_nothing_else_is_documented(page) -> None:
    known = {f"`{name}`" for name in COMMANDS}
    assert {title for title in page("reference/commands.md").headings(3) if title.startswith("`attune")} == known
