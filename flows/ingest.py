"""Copies the log's new events into the lake."""

from dataclasses import asdict
from typing import Any

from attune.settings import Settings
from flows import resources
from flows.steps import flow, show_figures, step


@step
def move_to_lake(settings: Settings) -> dict[str, Any]:
    """Copy what lies after the lake's watermark; copying again adds nothing."""
    with resources.event_log(settings) as log:
        moved = asdict(resources.lake(settings).ingest(log))
    show_figures("ingest", moved, "What came to the lake")
    return moved


@flow(name="ingest")
def ingest() -> dict[str, Any]:
    """Bring the lake up to the log's head. Returns the positions and rows that were moved."""
    return move_to_lake(Settings())
