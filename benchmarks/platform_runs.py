"""What Prefect knows of the deployments' runs and of attune's events, as plain values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

UNDER_WAY = [StateType.RUNNING, StateType.PENDING]


@dataclass(frozen=True)
class Run:
    """One run: its deployment, its state in a word, when it was asked for, began (None: not yet) and ended."""

    id: str
    name: str
    deployment: str
    state: str
    created: datetime
    started: datetime | None
    ended: datetime | None


def latest_runs(deployment: str | None = None, limit: int = 50) -> list[Run]:
    """The runs that were due last, of one deployment or of all; those that are still to come are not among them."""
    with get_client(sync_client=True) as client:
        named = {one.id: one.name for one in client.read_deployments()}
        begun = [one for one in StateType if one != StateType.SCHEDULED]
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])) if deployment else None,
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=begun))),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=limit,
        )
    return [
        Run(
            str(one.id),
            one.name,
            named.get(one.deployment_id, "-") if one.deployment_id else "-",
            one.state_name or "unknown",
            _moment(one.created),
            one.start_time,
            one.end_time,
        )
        for one in found
    ]


def is_quiet() -> bool:
    """Whether nothing runs or is about to."""
    with get_client(sync_client=True) as client:
        busy = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)))
        return not client.read_flow_runs(flow_run_filter=busy, limit=1)


def announcements(name: str, limit: int = 50) -> list[datetime]:
    """When the latest events of that name were put on the bus, the latest first."""
    with get_client(sync_client=True) as client:
        body = {"filter": {"event": {"name": [name]}}, "limit": limit}
        events: list[dict[str, Any]] = client.request("POST", "/events/filter", json=body).json()["events"]
    return [_moment(datetime.fromisoformat(one["occurred"].replace("Z", "+00:00"))) for one in events]


def _moment(given: datetime | None) -> datetime:
    if given is None:
        raise ValueError("Prefect gave no time")
    return given
