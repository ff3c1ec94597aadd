"""Reads the pages of the documentation, so that tests can hold them against the code."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEADING = re.compile(r"^(#+) (.*?)\s*$")


@dataclass(frozen=True)
class Page:
    """A page in Markdown; a section goes on until the next heading that is not below it."""

    name: str
    lines: tuple[str, ...]

    def section(self, title: str) -> "Page":
        """What stands under a heading, its sub-sections included; fails naming the page when it has no such heading."""
        taken: list[str] = []
        level = 0
        for line in self.lines:
            found = HEADING.match(line)
            if level and found and len(found[1]) <= level:
                break
            if level:
                taken.append(line)
            elif found and found[2] == title:
                level = len(found[1])
        assert level, f"docs/{self.name} has no heading {title!r}: document it there"
        return Page(f"{self.name}, {title}", tuple(taken))

    def headings(self, level: int) -> list[str]:
        """The headings of that level."""
        found = [HEADING.match(line) for line in self.lines]
        return [one[2] for one in found if one and len(one[1]) == level]

    def rows(self) -> dict[str, str]:
        """The rows of its tables by their first cell, code marks taken off."""
        found = [line for line in self.lines if line.startswith("| `")]
        return {line.split("|")[1].strip().strip("`"): line for line in found}

    def holds(self, wanted: Iterable[str]) -> None:
        """Fail with the rows that are missing, differ, or say something that the code does not know."""
        rows = self.rows()
        expected = {row.split("|")[1].strip().strip("`"): row for row in wanted}
        wrong = [row for name, row in expected.items() if rows.get(name) != row]
        assert not wrong, f"docs/{self.name} lacks these rows, word by word:\n" + "\n".join(wrong)
        unknown = sorted(set(rows) - set(expected))
        assert not unknown, f"docs/{self.name} describes what the code does not have: {', '.join(unknown)}"


@pytest.fixture
def page() -> Callable[[str], Page]:
    def read(name: str) -> Page:
        return Page(name, tuple((DOCS / name).read_text().splitlines()))

    return read
