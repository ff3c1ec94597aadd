"""What was missed while no worker was there is made up for once, and what crashed is run again once.

Prefect keeps every run that fell due in the meantime and would start them all, one after the other. A flow reads the
log from its own watermark, so one run catches up on any number of them.
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
"""A run that is due for longer than this was not picked up in its time."""
STRANDED = timedelta(minutes=5)
"""A run that a worker took so long ago and that has not begun never will: the worker ended in between. Until it is let
go it holds its deployment's one place, and every later run is turned away."""
RECENT = timedelta(days=1)
PAGE = 200
"""Runs read at a time: Prefect's server gives no more."""
OURS = DeploymentFilter(tags=DeploymentFilterTags(all_=["attune"]))
CAUGHT_UP, AGAIN = "catch-up", "again"


def catch_up(client: SyncPrefectClient) -> list[str]:
    """Make up for late and crashed runs of every deployment; returns in words what was done."""
    deployments = {one.id: one for one in client.read_deployments(deployment_filter=OURS)}
    told = [*_late(client, deployments.values()), *_stranded(client), *_crashed(client, deployments.values())]
    for line in told:
        log.info(line)
    return told


def _late(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterable[str]:
    """One run in place of all the scheduled ones that were missed; one that waits already is enough."""
    now = datetime.now(UTC)
    due = _waiting(client, now)
    for deployment in deployments:
        waiting = [one for one in due if one.deployment_id == deployment.id]
        missed = [one for one in waiting if one.auto_scheduled and (_is_late(one, now) or _is_stranded(one, now))]
        if deployment.paused or not missed:
            continue
        already = (one for one in waiting if CAUGHT_UP in one.tags and not _is_stranded(one, now))
        made = next(already, None) or client.create_flow_run_from_deployment(
            deployment.id, tags=[CAUGHT_UP], idempotency_key=f"{CAUGHT_UP}-{missed[0].id}"
        )
        for run in missed:
            _let_go(client, run, Cancelled(message=f"missed; run {made.name} catches up"))
        yield f"{deployment.name}: {len(missed)} missed, run {made.name} catches up"


def _stranded(client: SyncPrefectClient) -> Iterable[str]:
    """Runs that somebody asked for crashed with the worker that took them; those of a schedule were missed."""
    now = datetime.now(UTC)
    for run in _waiting(client, now):
        if _is_stranded(run, now) and not run.auto_scheduled:
            _let_go(client, run, Crashed(message="the worker that took it ended first"))
            yield f"run {run.name} never began"


def _let_go(client: SyncPrefectClient, run: FlowRun, state: State) -> None:
    """Unless it has begun meanwhile."""
    if client.read_flow_run(run.id).state_type == run.state_type:
        client.set_flow_run_state(run.id, state, force=True)


def _waiting(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """The runs that are due and have not begun, the latest first: all of them, the server gives a page at a time."""
    states = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
    due = FlowRunFilter(
        state=FlowRunFilterState(type=states), expected_start_time=FlowRunFilterExpectedStartTime(before_=now)
    )
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            deployment_filter=OURS, flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=PAGE, offset=len(found),
        )  # fmt: skip
        found += page
        if len(page) < PAGE:
            return found


def _is_late(run: FlowRun, now: datetime) -> bool:
    return run.state_type == StateType.SCHEDULED and _due(run) < now - LATE


def _is_stranded(run: FlowRun, now: datetime) -> bool:
    return run.state_type == StateType.PENDING and run.state is not None and run.state.timestamp < now - STRANDED


def _crashed(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterable[str]:
    """Another run for each deployment whose latest one lost its process; once, lest it crash for ever."""
    for deployment in deployments:
        latest = _latest_started(client, deployment)
        if latest is None or latest.state_type != StateType.CRASHED or AGAIN in latest.tags or deployment.paused:
            continue
        made = client.create_flow_run_from_deployment(
            deployment.id, parameters=latest.parameters, tags=[AGAIN], idempotency_key=f"{AGAIN}-{latest.id}"
        )
        if made.state_type == StateType.SCHEDULED:
            yield f"{deployment.name}: run {latest.name} crashed, run {made.name} takes its place"


def _latest_started(client: SyncPrefectClient, deployment: DeploymentResponse) -> FlowRun | None:
    """The deployment's run that began last, within a day; runs that were dropped or wait do not count."""
    begun = [StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.PENDING]
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id={"any_": [deployment.id]}),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=begun)),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC) - RECENT),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    return found[0] if found else None


def _due(run: FlowRun) -> datetime:
    return run.expected_start_time or datetime.min.replace(tzinfo=UTC)
