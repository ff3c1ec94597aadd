"""The events that attune puts on Prefect's bus, and the automations that act on them.

An event says only that something happened: the flow that it starts reads the log from its own watermark.
"""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    PauseAutomation,
    PauseDeployment,
    Posture,
    ResumeAutomation,
    ResumeDeployment,
    RunDeployment,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import Automation
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings

from flows.missed_runs import OURS

BATCH = "attune.events.batch"
REGISTERED = "attune.version.registered"
VALIDATED = "attune.validation.passed"
BROKEN = "attune.validation.failed"
LOG, MODEL = "attune.event-log", "attune.model"

logger = logging.getLogger(__name__)


def announce(name: str, resource: str, payload: dict[str, Any]) -> bool:
    """Put an event on the bus from within a flow; False when the bus did not answer, which is no error.

    What an event starts is also on a schedule, or announced again, so a lost event costs time only.
    """
    if not get_current_settings().api.url:
        return False
    try:
        with get_client(sync_client=True) as client:
            post(client, name, resource, payload)
        return True
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("%s was not announced: %s", name, error)
        return False


def post(client: SyncPrefectClient, name: str, resource: str, payload: dict[str, Any]) -> None:
    """Put an event on the bus; on return Prefect has it. Raises what the client raises."""
    event = Event(event=name, resource=Resource({"prefect.resource.id": resource}), payload=payload)
    client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()


PREFIX = "attune: "
LEARN = f"{PREFIX}fine-tune when events came"
JUDGE = f"{PREFIX}judge a new version"
ZOMBIES = f"{PREFIX}crash runs that lost their heartbeat"
PAUSE = f"{PREFIX}pause training while validation fails"
RESUME = f"{PREFIX}resume training when validation passes"
TRAINING = ("train", "finetune")
HEARTBEAT_SECONDS = 30
"""The shortest that Prefect allows; ``infra.local_stack`` sets it for every run."""
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}


def apply(client: SyncPrefectClient) -> None:
    """Create the automations or bring them up to date; they need the deployments to be there."""
    deployments = _deployments(client)
    known = {automation.name: automation for automation in client.read_automations()}
    came = "The watcher saw new events in the log; the flow reads which."
    registered = "A version was registered as challenger: hold it against the gates."
    _put(client, known, _at(BATCH, LOG, LEARN, came, RunDeployment(deployment_id=deployments["finetune"])))
    _put(client, known, _at(REGISTERED, MODEL, JUDGE, registered, RunDeployment(deployment_id=deployments["promote"])))
    heartbeats = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *ENDED},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
    )
    message = "The run's process gave no sign of life for three heartbeats: it was killed, or its machine was."
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=message)
    gone = "A run whose process is gone holds its place no longer; the watcher starts it again."
    _put(client, known, AutomationCore(name=ZOMBIES, description=gone, trigger=heartbeats, actions=[crash]))
    automation = client.read_automations_by_name(LEARN)[0].id
    pauses = [PauseDeployment(deployment_id=deployments[name]) for name in TRAINING]
    resumes = [ResumeDeployment(deployment_id=deployments[name]) for name in TRAINING]
    broken = "Critical expectations were broken: nothing is learned until everything in the lake passes again."
    mended = "Everything in the lake has passed again: learning goes on."
    _put(client, known, _at(BROKEN, LOG, PAUSE, broken, PauseAutomation(automation_id=automation), *pauses))
    _put(client, known, _at(VALIDATED, LOG, RESUME, mended, ResumeAutomation(automation_id=automation), *resumes))


def has_deployments(client: SyncPrefectClient) -> bool:
    """Whether every deployment that the automations speak of is there."""
    return {*TRAINING, "promote"} <= _deployments(client).keys()


def _deployments(client: SyncPrefectClient) -> dict[str, UUID]:
    return {deployment.name: deployment.id for deployment in client.read_deployments(deployment_filter=OURS)}


def _at(event: str, resource: str, name: str, description: str, *actions: ActionTypes) -> AutomationCore:
    """An automation that acts on every single such event."""
    trigger = EventTrigger(
        expect={event},
        match={"prefect.resource.id": resource},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(seconds=0),
    )
    return AutomationCore(name=name, description=description, trigger=trigger, actions=list(actions))


def _put(client: SyncPrefectClient, known: dict[str, Automation], wanted: AutomationCore) -> None:
    """Create what is missing, update what differs; leave whether it is enabled as it stands."""
    existing = known.get(wanted.name)
    if existing is None:
        client.create_automation(wanted)
        return
    kept = wanted.model_copy(update={"enabled": existing.enabled})
    if AutomationCore.model_validate(existing.model_dump(exclude={"id"})) != kept:
        client.update_automation(existing.id, kept)
