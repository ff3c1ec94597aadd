"""A benchmark's record, one JSON file: figures with their limits, and what is needed to measure them again."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("torch", "prefect", "mlflow-skinny", "feast", "great-expectations", "sqlalchemy", "pysqlite3")


@dataclass(frozen=True)
class Figure:
    """One measured figure; ``holds`` says whether it keeps its limit, None where there is none."""

    name: str
    value: float
    limit: float | None = None
    holds: bool | None = None
    note: str = ""


def at_most(name: str, value: float, limit: float, note: str = "") -> Figure:
    """A figure that may not exceed its limit."""
    return Figure(name, round(value, 4), limit, value <= limit, note)


def at_least(name: str, value: float, limit: float, note: str = "") -> Figure:
    """A figure that may not fall below its limit."""
    return Figure(name, round(value, 4), limit, value >= limit, note)


def just(name: str, value: float, note: str = "") -> Figure:
    """A figure that is stated, with no limit."""
    return Figure(name, round(value, 4), note=note)


def write(path: Path, bench: str, command: str, seed: int | None, figures: list[Figure]) -> dict[str, Any]:
    """Write the record and return it."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    record = {
        "bench": bench,
        "command": command,
        "commit": commit,
        "machine": machine,
        "versions": {name: version(name) for name in VERSIONS},
        "seed": seed,
        "figures": [asdict(figure) for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return record
