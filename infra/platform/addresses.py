"""Where the platform of this ``var`` answers, for commands that run in another shell than the one that started it."""

import json
import os
from pathlib import Path

from attune.settings import Settings
from infra.platform.supervision import Supervisor

KEPT = ("prefect_url", "mlflow_url", "serving_host", "serving_port", "prefect_port", "mlflow_port", "worker_port")
"""What another shell may not have been told."""


def remember(settings: Settings) -> None:
    """Keep the addresses of a platform that starts."""
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(json.dumps({name: getattr(settings, name) for name in KEPT}, indent=1) + "\n")
    draft.replace(path)


def running(settings: Settings) -> Settings | None:
    """The settings with the addresses of the platform that runs on their ``var``; None when none does."""
    try:
        kept = json.loads(_file(settings).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not Supervisor(settings).runs():
        return None
    return settings.model_copy(update={name: kept[name] for name in KEPT if name in kept})


def _file(settings: Settings) -> Path:
    return settings.platform_folder / "addresses.json"
