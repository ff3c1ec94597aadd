"""Logging, set up once per process by its entry point."""

import logging
from pathlib import Path


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
