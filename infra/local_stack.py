"""The platform's servers on one machine, for as long as a command needs them.

``Stack`` starts what is asked for on free ports, points this process and its children at it, and stops it.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from attune import event_log
from attune.errors import AttuneError
from attune.settings import Settings
from infra.child_processes import Child, Children, check_port, wait_until
from infra.environment import environment
from infra.network import answers, free_port

HOST = "127.0.0.1"
TICK_SECONDS = 0.5


@dataclass
class Stack:
    """Servers under one ``var``; a context manager that stops on leaving whatever it started.

    ``settings`` grow addresses as servers start; read them from here, not from the settings given.
    """

    settings: Settings
    children: Children = field(init=False)
    _pending: list[tuple[Child, str]] = field(init=False, default_factory=list)
    _before: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.children = Children(self.settings.logs_folder)

    def __enter__(self) -> "Stack":
        self.settings.var.mkdir(parents=True, exist_ok=True)
        event_log.prepare(self.settings.log_url)
        self._before = dict(os.environ)
        self._tell({})
        return self

    def __exit__(self, *error: object) -> None:
        self.children.stop()
        os.environ.clear()
        os.environ.update(self._before)

    def start_batch_servers(self, prefect: bool = True, mlflow: bool = True) -> None:
        """Prefect and MLflow (unless told not to), where the settings name none; returns at once, see ``wait``."""
        if prefect and not self.settings.prefect_url:
            self._start_prefect()
        if mlflow and not self.settings.mlflow_url:
            self._start_mlflow()

    def start_endpoint(self) -> None:
        """The state keeper and the endpoint, after the servers that they ask; returns at once, see ``wait``."""
        if self.settings.serving_port:
            host, port = self.settings.serving_host, self.settings.serving_port
            check_port(host, port, "the endpoint", "ATTUNE_SERVING_PORT")
        else:
            self._tell({"serving_port": free_port()})
        self.children.start("keeper", [sys.executable, "-m", "features.state_keeper"])
        child = self.children.start("endpoint", [sys.executable, "-m", "serving.app"])
        self._pending.append((child, f"{self.endpoint_url}/readyz"))

    def wait(self) -> None:
        """Wait until everything that was started answers; raises AttuneError with the last words of what does not."""
        for child, url in self._pending:
            wait_until(partial(answers, url), child)
        self._pending.clear()

    def wait_for_an_end(self) -> Child:
        """Wait until any of the servers has ended by itself, and name it."""
        while True:
            for child in self.children.running:
                if child.guardian.poll() is not None:
                    return child
            time.sleep(TICK_SECONDS)

    @property
    def endpoint_url(self) -> str:
        """Where the endpoint listens."""
        return f"http://{self.settings.serving_host}:{self.settings.serving_port}"

    def _start_prefect(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
        child = self.children.start("prefect", command)
        self._tell({"prefect_url": f"http://{HOST}:{port}/api"})
        self._pending.append((child, f"{self.settings.prefect_url}/health"))

    def _start_mlflow(self) -> None:
        port = free_port()
        child = self.children.start(
            "mlflow", [sys.executable, "-m", "mlflow_server.server"], {"ATTUNE_MLFLOW_PORT": str(port)}
        )
        self._tell({"mlflow_url": f"http://{HOST}:{port}"})
        self._pending.append((child, f"{self.settings.mlflow_url}/health"))

    def _tell(self, addresses: Mapping[str, object]) -> None:
        """Take new addresses into the settings and into the environment that libraries and children read."""
        self.settings = self.settings.model_copy(update=dict(addresses))
        os.environ.update(environment(self.settings))


def move_aside(folder: Path) -> Path | None:
    """Rename an existing folder to the first free ``<name>.<number>`` beside it; None when there was none."""
    if not folder.exists():
        return None
    for number in range(1, 10_000):
        target = folder.with_name(f"{folder.name}.{number}")
        if not target.exists():
            folder.rename(target)
            return target
    raise AttuneError(f"{folder.parent} holds ten thousand old runs of {folder.name}; remove some")
