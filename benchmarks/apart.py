"""The parts of a benchmark, each in a process of its own: libraries keep what they read at their first import."""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attune.errors import AttuneError, ConfigError
from benchmarks.record import Figure


def measure(bench: str, parts: Sequence[str], seed: int, only: str | None) -> list[Figure]:
    """Every part in turn (a module of ``benchmarks`` each), or one alone. Raises ConfigError for an unknown part."""
    if only is None:
        return [figure for part in parts for figure in _apart(bench, part, seed)]
    if only not in parts:
        raise ConfigError(f"there is no part {only!r}: choose one of {', '.join(parts)}")
    found: list[Figure] = importlib.import_module(f"benchmarks.{only}").measure(seed)
    return found


def _apart(bench: str, part: str, seed: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [str(Path(sys.executable).with_name("attune")), "bench", bench, "--only", part, "--out", str(out)]
        if subprocess.run([*command, "--seed", str(seed)], check=False).returncode:
            raise AttuneError(f"the part {part} could not be measured; its messages are above")
        return [Figure(**figure) for figure in json.loads(out.read_text())["figures"]]
