"""Fixed ports: free ones for tests, and who holds one that is taken."""

import contextlib

import psutil

from attune.errors import ConfigError
from attune.settings import Settings
from infra.platform.parts import Part, Port, parts
from infra.probing import free_port, is_free

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
