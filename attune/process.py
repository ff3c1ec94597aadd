"""What every process of attune sets up: its log records, its stop on signals, its heartbeat (a file it touches)."""

import logging
import signal
import threading
import time
from pathlib import Path

from attune.settings import Settings

FRESH_SECONDS = 60.0
"""A process whose heartbeat is older is taken for stuck."""


def set_up_logging(level: int = logging.INFO, file: Path | None = None) -> None:
    """Send log records and warnings to ``file``, or to standard error when none is given."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    logging.captureWarnings(True)
    logging.basicConfig(level=level, filename=file, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))  # it reports every request


def stop_on_signals() -> threading.Event:
    """An event that TERM and INT set, to end a follower after the step at hand; call it in the main thread."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop


def write_heartbeat(settings: Settings, name: str) -> None:
    """Say that the process of that name is alive at this moment."""
    path = _heartbeat_file(settings, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def heartbeat_age(settings: Settings, name: str) -> float:
    """Seconds since the last heartbeat; infinite when there was none."""
    try:
        return max(0.0, time.time() - _heartbeat_file(settings, name).stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _heartbeat_file(settings: Settings, name: str) -> Path:
    return settings.platform_folder / f"{name}.heartbeat"
