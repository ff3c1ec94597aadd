"""What a run shows on its page in Prefect: figures as a table, progress as a bar."""

from collections.abc import Callable, Mapping
from typing import Any

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact


def show_figures(key: str, values: Mapping[str, Any], description: str) -> None:
    """Names and values, one a row."""
    rows = [{"figure": name.replace("_", " "), "value": str(value)} for name, value in values.items()]
    create_table_artifact(key=key, table=rows, description=description)


def progress(key: str, description: str) -> Callable[[float], None]:
    """A bar, to be told the share (0 to 1) that is done."""
    bar: Any = create_progress_artifact(0.0, key=key, description=description)

    def told(share: float) -> None:
        update_progress_artifact(bar, 100.0 * share)

    return told
