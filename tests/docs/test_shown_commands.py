"""Every `attune` command that a page shows is one that there is, with options that it takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli import app

BLOCK = re.compile(r"^```(?:console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(attune [a-z][^`\n]*)`")
SEPARATORS = {"|", "&&", "||", ";"}
PAGES = sorted(path for path in (Path(__file__).parents[2] / "docs").rglob("*.md"))


def shown(markdown: str) -> list[str]:
    """The command lines of a page, continued lines joined, and those within its text."""
    found = []
    for block in BLOCK.findall(markdown):
        joined = re.sub(r"\\\n(?:>\s*)?", " ", block)
        found += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    text = BLOCK.sub("", markdown)
    return found + INLINE.findall(text)


def calls(line: str) -> list[list[str]]:
    """The calls of `attune` in a command line, without what stands before and behind."""
    found: list[list[str]] = []
    within = False
    for word in shlex.split(line.replace("|", " | "), comments=True):
        if word in SEPARATORS or word.startswith(("<", ">")):
            within = False
        elif word == "attune":
            found.append([])
            within = True
        elif within:
            found[-1].append(word)
    return found


def fault(words: list[str]) -> str:
    """What is wrong with a call; empty when nothing is."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"there is no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    known = {"--help", "--install-completion", "--show-completion"}
    known |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
    return f"{command.name} takes no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_shown_commands_are_there(page: Path) -> None:
    found = {line: fault(words) for line in shown(page.read_text()) for words in calls(line)}
    assert {line: wrong for line, wrong in found.items() if wrong} == {}


def test_the_check_sees_what_it_looks_for() -> None:
    assert fault(["recommend", "257", "-k", "5", "--seed", "7"]) == ""
    assert fault(["recommend", "257", "--sed", "7"]) == "recommend takes no --sed"
    assert fault(["recomend"]) == "there is no command 'recomend'"
    assert calls('A=1 attune env && attune users | head # attune "none') == [["env"], ["users"]]
    assert shown("```console\n$ attune import tabular \\\n>   --kind like\nout\n```\n`attune up`") == [
        "attune import tabular  --kind like", "attune up",
    ]  # fmt: skip
