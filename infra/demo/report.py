"""What a demo found out, as one JSON file that is rewritten after every stage."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
