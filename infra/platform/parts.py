"""The processes of the platform: what each is, how it is started, where it answers and how one sees that it is well."""

import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from attune import process
from attune.errors import AttuneError
from attune.settings import Settings
from infra.network import answers

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A fixed port and the setting that moves it."""

    number: int
    setting: str
    host: str = HOST


@dataclass(frozen=True)
class Part:
    """One process.

    ``address`` is where people find it; ``ready`` and ``alive`` are asked over HTTP, a part without them has a pulse.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    port: Port | None = None
    address: str = ""
    ready: str = ""
    alive: str = ""

    def is_well(self, settings: Settings) -> bool:
        """Whether it is alive; a part that only reports a pulse is well while that is fresh."""
        return answers(self.alive) if self.alive else process.age(settings, self.name) < process.FRESH_SECONDS

    def is_ready(self, settings: Settings, since: float) -> bool:
        """Whether it does its work; a part with a pulse only if that beat in the last ``since`` seconds."""
        return answers(self.ready) if self.ready else process.age(settings, self.name) < since


def parts(settings: Settings) -> list[Part]:
    """The platform's processes in the order of their needs; what the settings place elsewhere is not among them."""
    found = [] if elsewhere(settings.prefect_url, settings.prefect_port) else [_prefect(settings)]
    found += [] if elsewhere(settings.mlflow_url, settings.mlflow_port) else [_mlflow(settings)]
    keeper = Part("keeper", "keeps the users' states online", _python("features.state_keeper"))
    watcher = Part("watcher", "tells Prefect of new events", _python("flows.watcher"))
    return [*found, keeper, _endpoint(settings), _worker(settings), watcher]


def elsewhere(url: str, port: int) -> bool:
    """Whether a URL that the settings give names another server than the platform's own."""
    named = httpx.URL(url)
    return bool(url) and (named.host, named.port) not in ((HOST, port), ("localhost", port))


def with_addresses(settings: Settings) -> Settings:
    """The settings with the addresses at which the platform's own servers listen."""
    own = {
        "prefect_url": settings.prefect_url or f"http://{HOST}:{settings.prefect_port}/api",
        "mlflow_url": settings.mlflow_url or f"http://{HOST}:{settings.mlflow_port}",
    }
    return settings.model_copy(update=own)


def part_named(settings: Settings, name: str) -> Part:
    """The part of that name. Raises AttuneError with the names that there are."""
    found = {part.name: part for part in parts(settings)}
    if name not in found:
        raise AttuneError(f"there is no part {name!r}: choose one of {', '.join(found)}")
    return found[name]


def log_of(settings: Settings, name: str) -> Path:
    """The file that holds what a part prints."""
    return settings.logs_folder / f"{name}.log"


def _prefect(settings: Settings) -> Part:
    port = settings.prefect_port
    url = f"http://{HOST}:{port}"
    command = _python("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return Part(
        "prefect",
        "schedules the flows and shows their runs",
        command,
        Port(port, "ATTUNE_PREFECT_PORT"),
        url,
        f"{url}/api/health",
        f"{url}/api/health",
    )


def _mlflow(settings: Settings) -> Part:
    port = settings.mlflow_port
    url = f"http://{HOST}:{port}"
    return Part(
        "mlflow",
        "the registry of models",
        _python("mlflow_server.server"),
        Port(port, "ATTUNE_MLFLOW_PORT"),
        url,
        f"{url}/health",
        f"{url}/health",
    )


def _endpoint(settings: Settings) -> Part:
    host, port = settings.serving_host, settings.serving_port
    url = f"http://{host}:{port}"
    return Part(
        "endpoint",
        "answers recommendations and takes feedback",
        _python("serving.app"),
        Port(port, "ATTUNE_SERVING_PORT", host),
        url,
        f"{url}/readyz",
        f"{url}/healthz",
    )


def _worker(settings: Settings) -> Part:
    url = f"http://{HOST}:{settings.worker_port}/health"
    return Part(
        "worker",
        "runs the flows",
        _python("flows.worker"),
        Port(settings.worker_port, "ATTUNE_WORKER_PORT"),
        "",
        url,
        url,
    )


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
