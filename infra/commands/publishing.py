"""`attune bench --mlflow`: a benchmark's record and its pictures as a run in MLflow."""

from pathlib import Path
from typing import Any

from attune.settings import Settings
from infra.commands import running
from infra.commands.output import Progress, note
from models.registry import Registry


def publish(found: dict[str, Any], since: float, quiet: bool) -> None:
    """Log a record, and the pictures that the benchmark drew ``since`` (seconds since 1970), where MLflow is.

    Raises ModelError when MLflow takes none; the record's file is there all the same.
    """
    settings = Settings()
    pictures = drawn(settings, found["bench"], since)
    with running.registry(settings, Progress(quiet=quiet)) as told:
        run_id = Registry(told.mlflow_url).record_bench(found, pictures)
    note(f"run {run_id} of MLflow's experiment attune-bench has the record and {len(pictures)} pictures")


def drawn(settings: Settings, bench: str, since: float) -> list[Path]:
    """The pictures of that benchmark that are not older."""
    found = (settings.var / "bench").glob(f"{bench}-*.png")
    return sorted(path for path in found if path.stat().st_mtime >= since)
