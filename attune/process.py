"""Logging, set up once per process by its entry point."""

import logging
import signal
import threading
import time
from pathlib import Path

from attune.settings import Settings


def set_up(level: int = logging.INFO, file: Path | None = None) -> None:
    """Send log records and warnings to ``file``, or to standard error when none is given."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    logging.captureWarnings(True)
    logging.basicConfig(
        level=level,
        filename=file,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))  # it reports every request


# A process without a port says that it is alive by touching a file now and then.


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


# How a process that follows the log is told to end: TERM or INT, after the step at hand.


def stopped_by_signals() -> threading.Event:
    """An event that TERM and INT set; call it in the main thread."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop
