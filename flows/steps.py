"""The decorators of flows and steps (retries, results, time limits), and what a run shows on its page in Prefect."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from prefect import Task, task
from prefect import flow as prefect_flow
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from attune.errors import EventLogError, FeatureStoreError, ModelError, VersionLost

HOUR = 3_600.0


def is_worth_a_retry(step: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed step is worth another try: a library or a server under attune failed, and may be back.

    Adapters raise such errors ``from`` the library's own; what attune itself has found (a broken batch, no
    challenger), and a version that its server says is gone, stays as it is however often one asks.
    """
    error = state.result(raise_on_failure=False)
    if isinstance(error, VersionLost):
        return False
    ours = isinstance(error, EventLogError | FeatureStoreError | ModelError)
    return isinstance(error, OSError) or (ours and error.__cause__ is not None)


step: Callable[..., Any] = partial(
    task,
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=is_worth_a_retry,
)
"""A task that may be run again for the same window, at once (``is_worth_a_retry``) or with its whole flow."""

flow: Callable[..., Any] = partial(prefect_flow, persist_result=True, result_serializer="json", timeout_seconds=HOUR)
"""A flow whose result (plain JSON) whoever triggered it can read; over an hour it is ended as timed out."""


def show_figures(key: str, values: Mapping[str, Any], description: str) -> None:
    """Show names and values as a table, one a row."""
    rows = [{"figure": name.replace("_", " "), "value": str(value)} for name, value in values.items()]
    create_table_artifact(key=key, table=rows, description=description)


OnProgress = Callable[[str, float], None]
"""Told what is being done, and the share (0 to 1) of it that is."""

_listener: ContextVar[OnProgress] = ContextVar("listener", default=lambda what, share: None)


@contextmanager
def heard_progress(listener: OnProgress) -> Iterator[None]:
    """Also tell the listener of the progress of flows that run within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def progress(key: str, description: str) -> Callable[[float], None]:
    """Show a progress bar; returns the function that sets the share (0 to 1) that is done."""
    bar: Any = create_progress_artifact(0.0, key=key, description=description)
    listener = _listener.get()
    listener(description, 0.0)

    def show(share: float) -> None:
        update_progress_artifact(bar, 100.0 * share)
        listener(description, share)

    return show
