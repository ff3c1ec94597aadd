"""Every command of `attune` stands in docs/reference/commands.md, with all it takes, as its help says it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from infra.cli import app

BOLD = re.compile(r"\[/?bold\]")
SHARED = "| `--json` | - | Print JSON. |"
"""The option that the page describes once, above the commands, naming those that do not take it."""
EXCEPT = re.compile(r"Every command takes `--json` except ([^.]+)\.")


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
    """The rows that the command's section must have, and the shared one if the command takes it."""
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
    section.holds(row for row in rows(COMMANDS[name]) if row != SHARED)


def test_json_is_documented_once_with_its_exceptions(page) -> None:
    above = "\n".join(page("reference/commands.md").lines).split("\n## ")[0]
    found = EXCEPT.search(" ".join(above.split()))
    assert found, "docs/reference/commands.md does not say which commands take no `--json`"
    without = {f"`{name}`" for name, command in COMMANDS.items() if SHARED not in rows(command)}
    assert set(re.findall(r"`[^`]+`", found[1])) == without


def test_nothing_else_is_documented(page) -> None:
    known = {f"`{name}`" for name in COMMANDS}
    assert {title for title in page("reference/commands.md").headings(3) if title.startswith("`attune")} == known
