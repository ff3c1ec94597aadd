"""A process without a port says that it is alive by touching a file now and then."""

import time
from pathlib import Path

from attune.settings import Settings

FRESH_SECONDS = 60.0
"""A process that has not touched its file for so long is taken for stuck."""


def file_of(settings: Settings, name: str) -> Path:
    """The file that the process of that name touches."""
    return settings.platform_folder / f"{name}.pulse"


def beat(settings: Settings, name: str) -> None:
    """Say that the process is alive at this moment."""
    path = file_of(settings, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def age(settings: Settings, name: str) -> float:
    """Seconds since the last sign of life; infinite when there was none."""
    try:
        return max(0.0, time.time() - file_of(settings, name).stat().st_mtime)
    except FileNotFoundError:
        return float("inf")
