"""Where the platform of this ``var`` answers, for commands that run in another shell than the one that started it."""

import contextlib
import json
import os
from pathlib import Path

import psutil

from attune.errors import ConfigError
from attune.settings import Settings
from infra.network import free_port, is_free
from infra.platform.parts import Part, Port, parts
from infra.platform.supervisor import Supervisor

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


# Fixed ports: free ones for tests, and who holds one that is taken.


CHOSEN = ("prefect_port", "mlflow_port", "serving_port", "worker_port")


def choose(settings: Settings) -> Settings:
    """The settings with a free port in place of each 0."""
    return settings.model_copy(update={name: free_port() for name in CHOSEN if getattr(settings, name) == 0})


def demand_free(settings: Settings) -> None:
    """Raises ConfigError that names every port that is taken, by whom, and the setting that moves it."""
    taken = [
        _complaint(part, part.port)
        for part in parts(settings)
        if part.port and not is_free(part.port.host, part.port.number)
    ]
    if taken:
        raise ConfigError("; ".join(taken))


def holder(port: int) -> str:
    """Who listens on the port, as far as this user may know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())[:80]
                return f"process {connection.pid} ({command})"
    return "a process of somebody else"


def _complaint(part: Part, port: Port) -> str:
    return (
        f"port {port.number} on {port.host}, which {part.name} needs, is taken by {holder(port.number)}: "
        f"stop that or set {port.setting}"
    )
