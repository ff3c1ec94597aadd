"""Where the platform of this ``var`` answers, for commands of another shell; its ports, and who holds a taken one."""

import contextlib
import json
import socket
from collections.abc import Iterable

import psutil

from attune.errors import ConfigError
from attune.files import write_whole
from attune.settings import Settings
from infra.platform.parts import HOST, Part
from infra.platform.supervisor import Supervisor

PORTS = ("prefect_port", "mlflow_port", "serving_port", "worker_port")
KEPT = ("prefect_url", "mlflow_url", "serving_host", *PORTS)  # the settings that another shell may not have
FILE = "addresses.json"


def write(settings: Settings) -> None:
    """Keep the addresses of a platform that starts."""
    path = settings.platform_folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({name: getattr(settings, name) for name in KEPT}, indent=1) + "\n")


def running(settings: Settings) -> Settings | None:
    """The settings with the addresses of the platform that runs on their ``var``; None when none does."""
    try:
        kept = json.loads((settings.platform_folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not Supervisor(settings).runs():
        return None
    return settings.model_copy(update={name: kept[name] for name in KEPT if name in kept})


def choose_ports(settings: Settings) -> Settings:
    """The settings with a free port in place of each 0."""
    return settings.model_copy(update={name: free_port() for name in PORTS if getattr(settings, name) == 0})


def demand_free(parts: Iterable[Part]) -> None:
    """Raises ConfigError that names every port of these parts that is taken, by whom, and the setting that moves it."""
    taken = [
        f"port {part.port.number} on {part.port.host}, which {part.name} needs, is taken by {holder(part.port.number)}:"
        f" stop that or set {part.port.setting}"
        for part in parts
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


def is_free(host: str, port: int) -> bool:
    with socket.socket() as listener, contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return True
    return False


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
