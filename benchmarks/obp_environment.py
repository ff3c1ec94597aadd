"""An environment of its own for the package obp, whose dependencies do not fit ours.

``OBP_PYTHON`` names an interpreter that has obp already; else one is made in a temporary folder, which takes some
minutes. ``OBP_REQUIREMENT`` says what pip installs there in place of ``obp==0.4.1``: the path of a wheel, say.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attune.errors import ConfigError

OBP = "obp==0.4.1"
NEEDS = (
    "numpy==1.23.5",  # the last with np.int
    "pandas==1.5.3",  # the last whose drop() takes an axis by place
    "scikit-learn==1.1.3",
    "scipy==1.9.3",
    "matplotlib==3.6.3",
    "seaborn==0.12.2",
    "mypy-extensions>=0.4.3",
    "pyyaml>=6",
    "tqdm>=4.41",
    "torch==2.13.0",
)
SCRIPT = Path(__file__).with_name("obp_side.py")


@contextmanager
def obp_python() -> Iterator[Path]:
    """The interpreter to run obp with; what was made for it is gone afterwards.

    Raises ConfigError when it cannot be made.
    """
    named = os.environ.get("OBP_PYTHON")
    if named:
        yield Path(named)
        return
    with TemporaryDirectory(prefix="attune-obp-") as folder:
        yield _made(Path(folder))


def ask(python: Path, *arguments: str | Path) -> None:
    """Run our script under obp's interpreter. Raises ConfigError with its last words when it fails.

    Isolated: beside the script lie modules of ours named as some that it imports.
    """
    _run([python, "-I", SCRIPT, *arguments], "obp did not answer")


def _made(folder: Path) -> Path:
    _run([sys.executable, "-m", "venv", folder], "no environment for obp could be made")
    python = folder / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    _run([*install, *NEEDS], "what obp needs could not be installed")
    _run([*install, "--no-deps", os.environ.get("OBP_REQUIREMENT", OBP)], "obp could not be installed")
    return python


def _run(command: list[str | Path], wrong: str) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ConfigError(f"{wrong}: {said}\nname an interpreter that has obp 0.4.1: OBP_PYTHON=.../bin/python")
