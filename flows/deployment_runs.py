"""Runs a deployment and waits for its result: how commands ask a platform that is up.

Prefect's own ``run_deployment`` reports no progress and ends its wait when the server is silent for a moment.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectException

from attune.errors import AttuneError
from flows.steps import OnProgress

POLL_SECONDS = 0.5
SILENCE_SECONDS = 60.0
PICK_UP_SECONDS = 60.0
"""A run that waits for longer has no worker that takes it."""
BY_HAND = "by-hand"


def run_deployed(
    name: str,
    parameters: dict[str, Any],
    on_state: Callable[[str], None],
    on_progress: OnProgress = lambda what, share: None,
) -> dict[str, Any]:
    """Run the deployment of that name with these parameters; returns what its flow returned.

    ``on_state`` receives in words how far the run is, whenever that changes, and ``on_progress`` what the run's latest
    progress bar shows. The run goes on when the caller stops waiting. Raises AttuneError when Prefect does not answer,
    the run failed, or ended without a result.
    """
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, tags=[BY_HAND])
            return _result(_awaited(client, run, on_state, on_progress), client)
    except ObjectNotFound as error:
        raise AttuneError(f"Prefect has no deployment {name!r}: the worker makes it; see `attune status`") from error
    except (httpx.HTTPError, PrefectException) as error:
        raise AttuneError(f"Prefect did not answer: {error}; see `attune status` and `attune logs prefect`") from error


def _awaited(
    client: SyncPrefectClient, run: FlowRun, on_state: Callable[[str], None], on_progress: OnProgress
) -> FlowRun:
    """The run once it has ended."""
    reported, shown, answered = "", None, time.monotonic()
    while True:
        try:
            run = client.read_flow_run(run.id)
            stage, bar = _stage(client, run), latest_bar(client, run.id)
            answered = time.monotonic()
        except httpx.HTTPError:  # the run goes on while Prefect restarts
            if time.monotonic() - answered > SILENCE_SECONDS:
                raise
        else:
            if stage != reported:
                on_state(stage)
                reported = stage
            if bar is not None and bar != shown:
                on_progress(*bar)
                shown = bar
            if run.state is not None and run.state.is_final():
                return run
        time.sleep(POLL_SECONDS)


def _stage(client: SyncPrefectClient, run: FlowRun) -> str:
    """What the run is doing, in a few words."""
    name = (run.state_name or "waiting").lower()
    waits = (datetime.now(UTC) - (run.expected_start_time or datetime.now(UTC))).total_seconds()
    if run.state_type == StateType.SCHEDULED and waits > PICK_UP_SECONDS:
        return f"{run.name}: no worker takes it; `attune status` shows how the worker is"
    if run.state_type != StateType.RUNNING:
        return f"{run.name}: {name}"
    running = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING]))
    steps = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=running),
        limit=1,
    )
    activity = steps[0].name.rsplit("-", 1)[0].replace("_", " ") if steps else name
    return f"{run.name}: {activity}"


def latest_bar(client: SyncPrefectClient, run_id: UUID) -> tuple[str, float] | None:
    """What the progress bar that a run began last is about, and the share (0 to 1) that is done."""
    bars: list[Any] = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), type=ArtifactFilterType(any_=["progress"])
        ),
        sort=ArtifactSort.CREATED_DESC,
        limit=1,
    )
    return (str(bars[0].description), float(bars[0].data) / 100.0) if bars else None


def _result(run: FlowRun, client: SyncPrefectClient) -> dict[str, Any]:
    """What the flow returned. Raises AttuneError with the reason when it did not complete."""
    state = run.state
    if state is not None and state.is_completed():
        result: dict[str, Any] = state.result()
        return result
    message = (state.message if state else None) or "no reason was given"
    name = state.name if state else "lost"
    page = f"{str(client.api_url).rstrip('/').removesuffix('/api')}/runs/flow-run/{run.id}"
    raise AttuneError(f"run {run.name} ended as {name}: {message} ({page})")
