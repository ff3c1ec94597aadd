"""Parts of the platform on this machine, on free ports, for as long as a command needs them."""

import os
import time
from functools import partial

from attune import event_log
from attune.settings import Settings
from infra.child_processes import ChildProcess, ChildProcesses
from infra.environment import environment
from infra.platform.addresses import choose_ports, demand_free, free_port
from infra.platform.parts import API, answers, part_named, with_addresses

TICK_SECONDS = 0.5


class Stack:
    """Parts under one ``var``; a context manager that stops on leaving whatever it started.

    ``settings`` grow addresses as parts start; read them from here, not from the settings given.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.processes = settings, ChildProcesses(settings.logs_folder)
        self._pending: list[tuple[ChildProcess, str]] = []
        self._before: dict[str, str] = {}

    def __enter__(self) -> "Stack":
        self.settings.var.mkdir(parents=True, exist_ok=True)
        event_log.prepare(self.settings.log_url)
        self._before = dict(os.environ)
        self._use(self.settings)
        return self

    def __exit__(self, *error: object) -> None:
        self.processes.stop()
        os.environ.clear()
        os.environ.update(self._before)

    def start(self, *names: str) -> None:
        """Start parts, each after those that it needs; returns at once, see ``wait``.

        A Prefect or MLflow that the settings name is used instead. Raises ConfigError if the endpoint's port is taken.
        """
        for name in names:
            if name in API:
                if getattr(self.settings, f"{name}_url"):
                    continue
                self._use(with_addresses(self.settings.model_copy(update={f"{name}_port": free_port()}), name))
            elif name == "endpoint":
                self._use(choose_ports(self.settings))
                demand_free([part_named(self.settings, name)])
            part = part_named(self.settings, name)
            process = self.processes.start(name, part.command)
            if part.ready:
                self._pending.append((process, part.ready))

    def wait(self) -> None:
        """Wait until every part with a port is ready; raises AttuneError with the log of one that does not get so."""
        for process, url in self._pending:
            process.wait_until(partial(answers, url))
        self._pending.clear()

    def wait_for_end(self) -> ChildProcess:
        """Wait until any of the parts has ended by itself, and return it."""
        while True:
            for process in self.processes.running:
                if process.reaper.poll() is not None:
                    return process
            time.sleep(TICK_SECONDS)

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.settings.serving_host}:{self.settings.serving_port}"

    def _use(self, settings: Settings) -> None:
        """Take these settings, and put them into the environment that libraries and child processes read."""
        self.settings = settings
        os.environ.update(environment(settings))
