"""Ingest and validation of a million and of ten million events: rows a second, and whether memory stays flat."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from attune.settings import Settings
from benchmarks import child_process
from benchmarks.datasets import fill_log
from benchmarks.record import Figure, at_most, just
from infra.local_stack import Stack

SIZES = (1_000_000, 10_000_000)
GROWTH = 1.3
"""Memory counts as flat if ten times the events take no more than this many times the memory."""


def measure(seed: int, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """The figures of each size, and the growth of memory from the smallest to the largest."""
    figures, peaks = [], []
    with tempfile.TemporaryDirectory(prefix="attune-volume-") as folder, Stack(Settings(var=Path(folder))) as stack:
        stack.start("prefect")
        stack.wait()
        for size in sizes:
            rows, peak = _one(Path(folder) / str(size), size, seed)
            peaks.append(peak)
            named = f"{size // 1_000_000}M"
            figures += [just(f"ingest and validate, {name}, {named} events", value) for name, value in rows.items()]
            figures.append(just(f"peak memory of ingest and validate at {named} events, MiB", peak / 2**20))
    figures.append(at_most("peak memory, largest against smallest, times", peaks[-1] / peaks[0], GROWTH))
    return figures


def _one(var: Path, size: int, seed: int) -> tuple[dict[str, float], int]:
    fill_log(Settings(var=var), size, seed)
    ingested, first = child_process.run(timed_ingest, var)
    validated, second = child_process.run(timed_validate, var)
    if ingested["rows"] < size or not validated["ok"]:
        raise AssertionError(f"{size} events gave {ingested['rows']} rows in the lake, verdict {validated['ok']}")
    seconds = ingested["seconds"] + validated["seconds"]
    rates = {"ingest alone": ingested["seconds"], "validate alone": validated["seconds"], "both": seconds}
    return {f"rows/s {name}": size / spent for name, spent in rates.items()}, max(first, second)


def timed_ingest(var: Path) -> dict[str, Any]:
    """The flow on the installation in ``var``, and its seconds."""
    from flows.ingest import ingest

    os.environ["ATTUNE_VAR"] = str(var)
    started = time.monotonic()
    return {**ingest(), "seconds": time.monotonic() - started}


def timed_validate(var: Path) -> dict[str, Any]:
    """The flow on the installation in ``var``, and its seconds."""
    from flows.validate import validate

    os.environ["ATTUNE_VAR"] = str(var)
    started = time.monotonic()
    return {**validate(), "seconds": time.monotonic() - started}
