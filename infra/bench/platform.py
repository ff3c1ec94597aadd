"""The platform's own figures: `attune bench platform`.

Each part has a process of its own: Prefect reads where its server is when it is imported, and each part starts one.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from attune.errors import AttuneError, ConfigError
from infra.bench.record import Figure

PARTS = ("reaction", "kills", "volume", "soak")


def measure(seed: int, only: str | None = None) -> list[Figure]:
    """Every part in turn, or one alone. Raises ConfigError for a part that there is not."""
    if only is None:
        return [figure for part in PARTS for figure in _apart(part, seed)]
    if only not in PARTS:
        raise ConfigError(f"there is no part {only!r}: choose one of {', '.join(PARTS)}")
    found: list[Figure] = importlib.import_module(f"infra.bench.{only}").measure(seed)
    return found


def _apart(part: str, seed: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [
            str(Path(sys.executable).with_name("attune")),
            "bench",
            "platform",
            "--only",
            part,
            "--out",
            str(out),
        ]
        if subprocess.run([*command, "--seed", str(seed)], check=False).returncode:
            raise AttuneError(f"the part {part} could not be measured; its messages are above")
        return [Figure(**figure) for figure in json.loads(out.read_text())["figures"]]
