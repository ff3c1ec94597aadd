"""Replaces missed runs by one catch-up run, and starts crashed runs again once.

Prefect starts every run that fell due while no worker ran, one after the other, and has no setting against that. A flow
reads the log from its own watermark, so one run catches up on any number of them.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

log = logging.getLogger(__name__)

LATE = timedelta(seconds=30)
"""A scheduled run that nobody has picked up for this long was missed."""
STRANDED = timedelta(minutes=5)
"""A run that a worker took so long ago and that has not begun never will: the worker ended in between. Until it is
released it holds its deployment's one place, and Prefect turns every later run away."""
RECENT = timedelta(days=1)
PAGE = 200
"""Runs read at a time: Prefect's server gives no more."""
OURS = DeploymentFilter(tags=DeploymentFilterTags(all_=["attune"]))
CATCH_UP, RETRY = "catch-up", "again"


def catch_up(client: SyncPrefectClient) -> list[str]:
    """Replace missed and crashed runs of every deployment; returns in words what was done."""
    deployments = client.read_deployments(deployment_filter=OURS)
    actions = [*_replace_late(client, deployments), *_release_stranded(client), *_retry_crashed(client, deployments)]
    for action in actions:
        log.info(action)
    return actions


def _replace_late(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterable[str]:
    """Start one run in place of all the scheduled ones that were missed; one that waits already is enough."""
    now = datetime.now(UTC)
    due = _waiting(client, now)
    for deployment in deployments:
        waiting = [run for run in due if run.deployment_id == deployment.id]
        missed = [run for run in waiting if run.auto_scheduled and (_is_late(run, now) or _is_stranded(run, now))]
        if deployment.paused or not missed:
            continue
        queued = (run for run in waiting if CATCH_UP in run.tags and not _is_stranded(run, now))
        replacement = next(queued, None) or client.create_flow_run_from_deployment(
            deployment.id, tags=[CATCH_UP], idempotency_key=f"{CATCH_UP}-{missed[0].id}"
        )
        for run in missed:
            _release(client, run, Cancelled(message=f"missed; run {replacement.name} catches up"))
        yield f"{deployment.name}: {len(missed)} missed, run {replacement.name} catches up"


def _release_stranded(client: SyncPrefectClient) -> Iterable[str]:
    """Mark runs that somebody asked for as crashed when their worker ended; scheduled ones count as missed."""
    now = datetime.now(UTC)
    for run in _waiting(client, now):
        if _is_stranded(run, now) and not run.auto_scheduled:
            _release(client, run, Crashed(message="the worker that took it ended first"))
            yield f"run {run.name} never began"


def _release(client: SyncPrefectClient, run: FlowRun, state: State) -> None:
    """Put a run into a final state, unless it has begun meanwhile."""
    if client.read_flow_run(run.id).state_type == run.state_type:
        client.set_flow_run_state(run.id, state, force=True)


def _waiting(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """All runs that are due and have not begun, the latest first."""
    states = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
    due = FlowRunFilter(
        state=FlowRunFilterState(type=states), expected_start_time=FlowRunFilterExpectedStartTime(before_=now)
    )
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            deployment_filter=OURS, flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=PAGE, offset=len(runs),
        )  # fmt: skip
        runs += page
        if len(page) < PAGE:
            return runs


def _is_late(run: FlowRun, now: datetime) -> bool:
    due = run.expected_start_time or datetime.min.replace(tzinfo=UTC)
    return run.state_type == StateType.SCHEDULED and due < now - LATE


def _is_stranded(run: FlowRun, now: datetime) -> bool:
    return run.state_type == StateType.PENDING and run.state is not None and run.state.timestamp < now - STRANDED


def _retry_crashed(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterable[str]:
    """Start another run for each deployment whose latest one crashed; once, lest it crash for ever.

    The latest is the one that began last, within a day; runs that were dropped or wait do not count.
    """
    begun = [StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.PENDING]
    recent = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=begun)),
        expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC) - RECENT),
    )
    for deployment in deployments:
        ours = DeploymentFilter(id={"any_": [deployment.id]})
        newest_first = FlowRunSort.EXPECTED_START_TIME_DESC
        runs = client.read_flow_runs(deployment_filter=ours, flow_run_filter=recent, sort=newest_first, limit=1)
        latest = runs[0] if runs else None
        if latest is None or latest.state_type != StateType.CRASHED or RETRY in latest.tags or deployment.paused:
            continue
        retry = client.create_flow_run_from_deployment(
            deployment.id, parameters=latest.parameters, tags=[RETRY], idempotency_key=f"{RETRY}-{latest.id}"
        )
        if retry.state_type == StateType.SCHEDULED:
            yield f"{deployment.name}: run {latest.name} crashed, run {retry.name} takes its place"
