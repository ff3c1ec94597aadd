"""The processes of the platform: what each is, how it is started, where it answers, whether it is alive and ready."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from attune import process
from attune.errors import AttuneError
from attune.settings import Settings

HOST = "127.0.0.1"
ANSWER_SECONDS = 4.0
API = {"prefect": "/api", "mlflow": ""}
"""The parts that may run elsewhere (the setting ``<name>_url``), and the path of their API at their own address."""


@dataclass(frozen=True)
class Port:
    """A fixed port and the setting that moves it."""

    number: int
    setting: str
    host: str = HOST

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.number}"


@dataclass(frozen=True)
class Part:
    """One process.

    ``address`` is where people find it; ``ready`` and ``alive`` (``ready`` where it is empty) are URLs that answer a
    GET with success. A part without them touches its heartbeat file.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    port: Port | None = None
    address: str = ""
    ready: str = ""
    alive: str = ""

    def is_alive(self, settings: Settings) -> bool:
        """Whether it answers; a part without a port, whether its heartbeat is recent."""
        if self.ready:
            return answers(self.alive or self.ready)
        return process.heartbeat_age(settings, self.name) < process.FRESH_SECONDS

    def is_ready(self, settings: Settings, seconds: float) -> bool:
        """Whether it does its work; a part without a port, whether it had a heartbeat in the last ``seconds``."""
        return answers(self.ready) if self.ready else process.heartbeat_age(settings, self.name) < seconds


def parts(settings: Settings) -> list[Part]:
    """The platform's processes in the order of their needs; without those that the settings place elsewhere."""
    prefect = Port(settings.prefect_port, "ATTUNE_PREFECT_PORT")
    mlflow = Port(settings.mlflow_port, "ATTUNE_MLFLOW_PORT")
    endpoint = Port(settings.serving_port, "ATTUNE_SERVING_PORT", settings.serving_host)
    worker = Port(settings.worker_port, "ATTUNE_WORKER_PORT")
    prefect_server = _python("prefect", "server", "start", "--host", HOST, "--port", str(prefect.number))
    every = [
        Part("prefect", "schedules the flows and shows their runs", prefect_server, prefect, prefect.url,
             f"{prefect.url}/api/health"),
        Part("mlflow", "the registry of models", _python("mlflow_server.server"), mlflow, mlflow.url,
             f"{mlflow.url}/health"),
        Part("keeper", "keeps the users' states online", _python("features.state_keeper")),
        Part("endpoint", "answers recommendations and takes feedback", _python("serving.app"), endpoint, endpoint.url,
             f"{endpoint.url}/readyz", f"{endpoint.url}/healthz"),
        Part("worker", "runs the flows", _python("flows.worker"), worker, "", f"{worker.url}/health"),
        Part("watcher", "tells Prefect of new events", _python("flows.watcher")),
    ]  # fmt: skip
    own_hosts = (HOST, "localhost")
    elsewhere = set()
    for name, port in (("prefect", prefect), ("mlflow", mlflow)):
        url = httpx.URL(getattr(settings, f"{name}_url"))
        if url.host and (url.host not in own_hosts or url.port != port.number):
            elsewhere.add(name)
    return [part for part in every if part.name not in elsewhere]


def part_named(settings: Settings, name: str) -> Part:
    """The part of that name. Raises AttuneError with the names that there are."""
    known = {part.name: part for part in parts(settings)}
    if name not in known:
        raise AttuneError(f"there is no part {name!r}: choose one of {', '.join(known)}")
    return known[name]


def with_addresses(settings: Settings, *names: str) -> Settings:
    """The settings with the addresses of the platform's own Prefect and MLflow where they name no others."""
    own = {f"{name}_url": f"http://{HOST}:{getattr(settings, f'{name}_port')}{API[name]}" for name in names or API}
    return settings.model_copy(update={name: getattr(settings, name) or url for name, url in own.items()})


def log_of(settings: Settings, name: str) -> Path:
    return settings.logs_folder / f"{name}.log"


@cache
def _client() -> httpx.Client:
    """One for all calls (each would read the certificates of a system again), with a new connection each."""
    return httpx.Client(timeout=ANSWER_SECONDS, limits=httpx.Limits(max_keepalive_connections=0))


def answers(url: str) -> bool:
    try:
        return _client().get(url).is_success
    except httpx.HTTPError:
        return False


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
