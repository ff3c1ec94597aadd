"""What a demo found out, as one JSON file that is rewritten after every stage."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table


@dataclass
class Stage:
    """One stage: what it measured and how long it took; ``ok`` is False until it ended well."""

    name: str
    seconds: float = 0.0
    ok: bool = False
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """The whole run; see the README for the fields."""

    ok: bool = False
    stages: list[Stage] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, Any] = field(default_factory=dict)
    feedback: dict[str, Any] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    @contextmanager
    def stage(self, name: str, file: Path) -> Iterator[Stage]:
        """Time a stage and write the report when it ends, well or not."""
        stage = Stage(name)
        self.stages.append(stage)
        start = time.monotonic()
        try:
            yield stage
            stage.ok = True
        finally:
            stage.seconds = round(time.monotonic() - start, 2)
            self.write(file)

    def write(self, file: Path) -> None:
        """Replace the file; it is always whole."""
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self), indent=1, default=str))
        draft.replace(file)


# What a person sees while the demo runs, and the summary at its end.


class Screen:
    """Prints each stage as it ends, with its figures; a spinner while it runs, where there is a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @contextmanager
    def during(self, title: str) -> Iterator[None]:
        """A spinner with the stage's title."""
        with self.console.status(f"[bold]{title}[/]"):
            yield

    def ended(self, stage: Stage) -> None:
        """One line for the stage, one for each figure that is a number or a word."""
        mark = "[green]✓[/]" if stage.ok else "[red]✗[/]"
        self.console.print(f"{mark} [bold]{stage.name}[/] [dim]{stage.seconds:.1f} s[/]")
        if stage.figures:
            self.console.print("    " + "  ".join(f"[dim]{name}[/] {readable(v)}" for name, v in stage.figures.items()))

    def slates(self, feedback: Mapping[str, Any]) -> None:
        """The two slates side by side."""
        table = Table(
            title=f"user {feedback['user_id']}: {feedback['effect_ms']:.0f} ms from reacting to the new slate"
        )
        table.add_column("before")
        table.add_column("reaction")
        table.add_column("after, same seed")
        for old, new in zip(feedback["before"], feedback["after"], strict=False):
            table.add_row(old["title"], feedback["reactions"].get(old["item_id"], ""), new["title"])
        self.console.print(table)

    def models(self, model: Mapping[str, Any]) -> None:
        """Every recommender's figures on the events that its version was judged on."""
        table = Table("version", "recommender", "HR@10", "NDCG@10", "MRR", "coverage@10")
        for which in ("first", "second"):
            found = model.get(which)
            if found:
                rows = {"hybrid": found["metrics"], **model["baselines"][which]}
                for name, slices in rows.items():
                    figures = (f"{slices['all'][key]:.4f}" for key in ("hr@10", "ndcg@10", "mrr", "coverage@10"))
                    table.add_row(str(found["version"]), name, *figures)
                table.add_section()
        self.console.print(table)

    def summary(self, report: Report, folder: Path, moved: Path | None) -> None:
        """Where to look next."""
        lines = [f"report      {folder / 'report.json'}", f"server logs {folder / 'logs'}"]
        lines.append(f"data docs   {folder / 'data_docs' / 'index.html'}")
        lines.append("next        attune import tabular --help   (your own data)")
        if moved:
            lines.append(f"the run before lies in {moved}")
        seconds = sum(stage.seconds for stage in report.stages)
        title = f"the loop closed in {seconds:.0f} s" if report.ok else f"the demo ended early: {report.error}"
        self.console.print(Panel("\n".join(lines), title=title, border_style="green" if report.ok else "red"))


def readable(value: object) -> str:
    """A figure for people."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@contextmanager
def staged(name: str, report: Report, screen: Screen, folder: Path) -> Iterator[Stage]:
    """Time a stage, keep it in the report under ``folder``, and show it when it ended, well or not."""
    try:
        with screen.during(name), report.stage(name, folder / "report.json") as stage:
            yield stage
    finally:
        screen.ended(report.stages[-1])
