"""Runs a command's work on the platform that is up, else here, with servers started for the command.

Each context manager stops what it started. A signal ends the command with 128 plus its number (130 after Ctrl-C).
Commands load this for every `--help`, so functions import their libraries when they are called.
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attune.errors import AttuneError
from infra.child_processes import Interrupted, interrupted_by_signals, uninterrupted_cleanup
from infra.commands.output import Progress, note

if TYPE_CHECKING:
    from attune.api_keys import ApiKeys
    from attune.client import Client
    from attune.event_log import EventLog
    from attune.promotions import Promotions
    from attune.settings import Settings
    from infra.local_stack import Stack

MLFLOW_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow's client would try for minutes before it says that nobody answers."""


@dataclass(frozen=True)
class Runner:
    """``run(name, **parameters)`` runs the flow of that name and returns its result; ``settings`` name the servers."""

    settings: "Settings"
    run: Callable[..., dict[str, Any]]


def settings() -> "Settings":
    """Those of this installation, from the environment."""
    from attune.settings import Settings

    return Settings()


def running(settings: "Settings") -> "Settings | None":
    """The settings with the addresses of the platform that runs on their ``var``; None when none does."""
    from infra.platform import addresses

    return addresses.running(settings)


@contextmanager
def runner(settings: "Settings", progress: Progress) -> Iterator[Runner]:
    """The platform of these settings if it is up; else this process, with Prefect and MLflow started for it."""

    def run_on_platform(name: str, **parameters: Any) -> dict[str, Any]:
        from flows.deployment_runs import run_deployed

        with progress.stage(f"{name} on the platform") as stage:
            try:
                return run_deployed(name, parameters, stage.say, stage.show)
            except Interrupted:
                note(f"no longer waiting: {name} goes on, the platform's Prefect page and `attune status` show it")
                raise

    def run_here(name: str, **parameters: Any) -> dict[str, Any]:
        from flows.steps import heard_progress

        with progress.stage(name) as stage, heard_progress(stage.show):
            result: dict[str, Any] = getattr(importlib.import_module(f"flows.{name}"), name)(**parameters)
        return result

    if (platform := running(settings)) is not None:
        with _environment(platform):
            yield Runner(platform, run_on_platform)
        return
    with _stack(settings) as stack:
        with progress.stage("start Prefect and MLflow"):
            stack.start("prefect", "mlflow")
            stack.wait()
        yield Runner(stack.settings, run_here)


def has_versions(settings: "Settings") -> bool:
    """False where no registry has been begun yet, so that nothing need be started to say that it is empty."""
    if running(settings) or settings.mlflow_url or settings.mlflow_database_url:
        return True
    return settings.mlflow_folder.is_dir()


@contextmanager
def registry(settings: "Settings", progress: Progress, demanded: bool = True) -> "Iterator[Settings]":
    """The settings with the address of an MLflow: the platform's, the one named, or one started here.

    Where none can be started that raises AttuneError or, not ``demanded``, is noted; nobody answers the address then.
    """
    reached = running(settings) or settings
    if reached.mlflow_url:
        with _environment(reached):
            yield reached
        return
    with _stack(settings) as stack:
        try:
            with progress.stage("start MLflow"):
                stack.start("mlflow")
                stack.wait()
        except AttuneError as error:
            if demanded:
                raise
            note(f"{error}")
        yield stack.settings


@contextmanager
def endpoint(settings: "Settings", progress: Progress) -> "Iterator[Client]":
    """A client of the endpoint that runs, of the platform or at the address set; else of one started here."""
    from attune.client import Client

    platform = running(settings)
    reached = platform or settings
    api_key = None if reached.api_key is None else reached.api_key.get_secret_value()
    with Client(f"http://{reached.serving_host}:{reached.serving_port}", api_key=api_key) as client:
        if platform is not None or (reached.serving_port and _serves_this_log(client, settings)):
            with _environment(reached):
                yield client
            return
    with _stack(settings.model_copy(update={"serving_port": 0})) as stack:
        with progress.stage("start an endpoint for this command (`attune up` keeps one running)"):
            with promotions(stack.settings) as table:
                champion = table.champion(settings.endpoint)
            if champion is not None and not (settings.bundles_folder / champion.bundle_name).is_dir():
                stack.start("mlflow")  # to fetch the bundle from; without it the endpoint begins with popularity
                stack.wait()
            stack.start("keeper", "endpoint")
            stack.wait()
        with Client(stack.endpoint_url, api_key=api_key) as client:
            yield client


def _serves_this_log(client: "Client", settings: "Settings") -> bool:
    """Whether an endpoint answers that reads and writes the event log of these settings."""
    if not client.ready():
        return False
    with event_log(settings) as log:
        same = client.model().log_id == log.log_id()
    if not same:
        note(f"the endpoint at {client.url} serves another event log than this one, and is not asked")
    return same


def event_log(given: "Settings | None" = None) -> "closing[EventLog]":
    """The event log, made where there is none; a context manager."""
    from attune.event_log import EventLog, prepare

    chosen = given or settings()
    prepare(chosen.log_url)
    return closing(EventLog(chosen.log_url, lock_seconds=chosen.lock_seconds))


def promotions(settings: "Settings") -> "closing[Promotions]":
    from attune.event_log import prepare
    from attune.promotions import Promotions

    prepare(settings.log_url)
    return closing(Promotions(settings.log_url))


def api_keys() -> "closing[ApiKeys]":
    from attune.api_keys import ApiKeys
    from attune.event_log import prepare

    url = settings().log_url
    prepare(url)
    return closing(ApiKeys(url))


@contextmanager
def _environment(settings: "Settings") -> Iterator[None]:
    """The environment of this process names the servers of these settings; a signal ends the block."""
    from attune import process
    from attune.event_log import prepare
    from infra.environment import environment

    before = dict(os.environ)
    with ending():
        process.set_up_logging(logging.WARNING, settings.logs_folder / "commands.log")
        prepare(settings.log_url)
        os.environ.update({**MLFLOW_TIMEOUTS, **environment(settings)})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _stack(settings: "Settings") -> "Iterator[Stack]":
    """A stack in which nothing runs yet."""
    from attune import process
    from infra.local_stack import Stack

    process.set_up_logging(logging.WARNING, settings.logs_folder / "commands.log")
    with ending(), Stack(settings) as stack, uninterrupted_cleanup():
        yield stack


@contextmanager
def ending() -> Iterator[None]:
    """A signal leaves through every clean-up, then ends the process with its status."""
    try:
        with interrupted_by_signals():
            yield
    except Interrupted as signal:
        raise SystemExit(128 + signal.number) from None
