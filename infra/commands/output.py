"""What commands print: a result on standard output, as tables or as one JSON object; the rest on standard error."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attune.clock import SECOND
from models.figures import for_json, short

SPEED_SECONDS = 3_600.0
"""How far back the pace is looked at from which a bar tells the time left: an epoch may take minutes."""

VERDICTS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def console() -> Console:
    """Where results for people go."""
    return Console(highlight=False)


def print_json(values: Mapping[str, Any]) -> None:
    """The one JSON object of a command; infinities and NaN become null."""
    sys.stdout.write(json.dumps(for_json(values), default=str, ensure_ascii=False) + "\n")


def note(text: str) -> None:
    """A remark beside the result, on standard error."""
    Console(stderr=True, highlight=False).print(Text(text, style="yellow"), soft_wrap=True)


def say_next(text: str) -> None:
    """What to do next, after a result for people; commands stand in backquotes, and stay whole to be copied."""
    parts = text.split("`")
    line = Text("next: ", style="dim")
    for place, part in enumerate(parts):
        line.append(part, style="bold" if place % 2 else "")
    console().print(line, soft_wrap=True)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    numbers: Sequence[int] = (),
    unbroken: Sequence[int] = (),
) -> None:
    """A table for people; cells are plain text (or Text).

    Those of the columns in ``numbers`` align to the right; these and those in ``unbroken`` keep to one line.
    """
    built = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for place, name in enumerate(head):
        number = place in numbers
        built.add_column(
            name, justify="right" if number else "left", overflow="fold", no_wrap=number or place in unbroken
        )
    for row in rows:
        built.add_row(*(cell if isinstance(cell, Text) else Text(readable(cell)) for cell in row))
    console().print(built)


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    built = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    built.add_column(style="dim")
    built.add_column(overflow="fold")
    for name, value in values.items():
        built.add_row(Text(name.replace("_", " ")), Text(readable(value)))
    console().print(built)


def readable(value: object) -> str:
    """A value as people read it: whole numbers in groups of three, others with four places, nothing for None."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {readable(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(readable, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else short(value)


def verdict(word: str) -> Text:
    """A gate's verdict in its colour; a dash where there was nothing to judge."""
    return Text("-" if word == "not_applicable" else word, style=VERDICTS.get(word, "dim"))


def ago(then: int, now: int) -> str:
    """How long ago something was (both in microseconds), in its largest unit."""
    return duration(max(now - then, 0) // SECOND)


def duration(seconds: float) -> str:
    """A length of time in its largest unit that it holds twice."""
    whole = int(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


class Stage:
    """A stage of a command, as the user sees it."""

    def __init__(self, bars: progress.Progress, name: str) -> None:
        self._bars, self._name = bars, name
        self._bar = bars.add_task(name, total=None)

    def say(self, text: str) -> None:
        """Show what is done."""
        self._bars.update(self._bar, description=f"{self._name}: {text}")
        if self._bars.disable:
            self._bars.console.print(Text(f"  {text}", style="dim"))

    def show(self, text: str, share: float) -> None:
        """Move the bar to a share from 0 to 1; with a smaller one than before another bar begins."""
        if self._bars.tasks[0].completed > share:
            self._bars.reset(self._bar)
        self._bars.update(self._bar, description=f"{self._name}: {text}", completed=share, total=1.0)

    def count(self, done: int, total: int) -> None:
        """Move the bar to so many rows of so many."""
        self.show(f"{done:,} of {total:,} rows", done / max(total, 1))


class Progress:
    """What a command does, on standard error: bars in a terminal, else lines, or none if ``quiet`` (for JSON)."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Show a stage until the block ends, then how long it took; gives the block what shows how far it is."""
        started = time.monotonic()
        bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            speed_estimate_period=SPEED_SECONDS,
            disable=not self._console.is_terminal,
        )
        with bars:
            yield Stage(bars, name)
        self._console.print(f"[green]✓[/] {escape(name)} [dim]{time.monotonic() - started:.1f} s[/]")
