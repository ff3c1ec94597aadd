"""Where a command's work is done: on the platform that is up, else here, over servers started for the command.

Each of these is a context manager that stops on leaving whatever it started. A signal ends the command with 128 plus
its number (130 after Ctrl-C).
"""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from attune import event_log, process
from attune.client import Client
from attune.errors import AttuneError
from attune.event_log import EventLog
from attune.promotions import Promotions
from attune.settings import Settings
from infra.child_processes import Interrupted, ending_on_signals, ending_undisturbed
from infra.commands.output import Progress, note
from infra.environment import environment
from infra.local_stack import Stack
from infra.platform import addresses

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow's client would try for minutes before it says that nobody answers."""


class Runner(Protocol):
    """Runs flows; ``settings`` have the addresses of the servers."""

    @property
    def settings(self) -> Settings: ...
    def run(self, name: str, **parameters: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Platform:
    """Has the platform run its deployments, and waits for them."""

    settings: Settings
    progress: Progress

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The result of the deployment of that name. Raises AttuneError with the reason when it fails."""
        from flows.deployment_runs import run_deployed

        with self.progress.stage(f"{name} on the platform") as say:
            try:
                return run_deployed(name, parameters, say)
            except Interrupted:
                note(f"no longer waiting: {name} goes on, the platform's Prefect page and `attune status` show it")
                raise


@dataclass(frozen=True)
class Here:
    """Runs the flows in this process."""

    settings: Settings
    progress: Progress

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The result of the flow of that name. Raises what it raises."""
        with self.progress.stage(name):
            flow = getattr(importlib.import_module(f"flows.{name}"), name)
            result: dict[str, Any] = flow(**parameters)
        return result


@contextmanager
def runner(settings: Settings, progress: Progress) -> Iterator[Runner]:
    """The platform of these settings if it is up; else this process, with Prefect and MLflow started for it."""
    found = addresses.running(settings)
    if found is not None:
        with _told(found):
            yield Platform(found, progress)
        return
    with _servers(settings) as stack:
        with progress.stage("start Prefect and MLflow"):
            stack.start_batch_servers()
            stack.wait()
        yield Here(stack.settings, progress)


def has_versions(settings: Settings) -> bool:
    """False where no registry has been begun yet, so that nothing need be started to say that it is empty."""
    if addresses.running(settings) or settings.mlflow_url or settings.mlflow_database_url:
        return True
    return settings.mlflow_folder.is_dir()


@contextmanager
def registry(settings: Settings, progress: Progress, demanded: bool = True) -> Iterator[Settings]:
    """The settings with the address of an MLflow: the platform's, the one named, or one started here.

    Where none can be started that is an error, or (not ``demanded``) said, and its address answers nobody.
    """
    found = addresses.running(settings) or settings
    if found.mlflow_url:
        with _told(found):
            yield found
        return
    with _servers(settings) as stack:
        try:
            with progress.stage("start MLflow"):
                stack.start_batch_servers(prefect=False)
                stack.wait()
        except AttuneError as error:
            if demanded:
                raise
            note(f"{error}")
        yield stack.settings


@contextmanager
def endpoint(settings: Settings, progress: Progress) -> Iterator[Client]:
    """A client of the endpoint that runs, of the platform or at the address set; else of one started here."""
    platform = addresses.running(settings)
    found = platform or settings
    with Client(f"http://{found.serving_host}:{found.serving_port}", api_key=_key(found)) as client:
        if platform is not None or (found.serving_port and _is_ours(client, settings)):
            with _told(found):
                yield client
            return
    with _servers(settings.model_copy(update={"serving_port": 0})) as stack:
        with progress.stage("start an endpoint for this command (`attune up` keeps one running)"):
            if not _bundle_is_here(stack.settings):
                stack.start_batch_servers(prefect=False)
            stack.start_endpoint()
            stack.wait()
        with Client(stack.endpoint_url, api_key=_key(settings)) as client:
            yield client


def _key(settings: Settings) -> str | None:
    return None if settings.api_key is None else settings.api_key.get_secret_value()


def _is_ours(client: Client, settings: Settings) -> bool:
    """Whether an endpoint answers that reads and writes the event log of these settings."""
    if not client.ready():
        return False
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        ours = client.model().log_id == log.log_id()
    if not ours:
        note(f"the endpoint at {client.url} serves another event log than this one, and is not asked")
    return ours


def _bundle_is_here(settings: Settings) -> bool:
    """Whether an endpoint finds what it serves on disk: then it needs no registry."""
    with closing(Promotions(settings.log_url)) as table:
        promotion = table.champion(settings.endpoint)
    return promotion is None or (settings.bundles_folder / promotion.bundle_name).is_dir()


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """Libraries of this process are told where the servers are; a signal ends the block."""
    before = dict(os.environ)
    with ending():
        process.set_up(logging.WARNING, settings.logs_folder / "commands.log")
        event_log.prepare(settings.log_url)
        os.environ.update({**PATIENCE, **environment(settings)})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _servers(settings: Settings) -> Iterator[Stack]:
    """A stack in which nothing runs yet."""
    process.set_up(logging.WARNING, settings.logs_folder / "commands.log")
    with ending(), Stack(settings) as stack, ending_undisturbed():
        yield stack


@contextmanager
def ending() -> Iterator[None]:
    """A signal leaves through every clean-up, then ends the process with its status."""
    try:
        with ending_on_signals():
            yield
    except Interrupted as signal:
        raise SystemExit(128 + signal.number) from None
