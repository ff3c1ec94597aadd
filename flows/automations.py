"""What Prefect does by itself when something happens, as code: ``apply`` makes the server's automations say this."""

from datetime import timedelta
from uuid import UUID

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
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import Automation

from flows.announcing import BATCH, BROKEN, LOG, MODEL, REGISTERED, VALIDATED
from flows.catching_up import OURS

PREFIX = "attune: "
LEARN = f"{PREFIX}fine-tune when events came"
JUDGE = f"{PREFIX}judge a new version"
ZOMBIES = f"{PREFIX}crash runs that lost their heartbeat"
PAUSE = f"{PREFIX}pause training while validation fails"
RESUME = f"{PREFIX}resume training when validation passes"
TRAINING = ("train", "finetune")
HEARTBEAT_SECONDS = 30
"""The shortest that Prefect allows; ``infra.local`` sets it for every run."""
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}


def apply(client: SyncPrefectClient) -> None:
    """Create the automations or bring them up to date; they need the deployments to be there."""
    deployments = _deployments(client)
    known = {one.name: one for one in client.read_automations()}
    learn = _learn(deployments["finetune"])
    _put(client, known, learn)
    _put(client, known, _judge(deployments["promote"]))
    _put(client, known, _zombies())
    automation = client.read_automations_by_name(learn.name)[0].id
    pauses = [PauseDeployment(deployment_id=deployments[name]) for name in TRAINING]
    resumes = [ResumeDeployment(deployment_id=deployments[name]) for name in TRAINING]
    _put(client, known, AutomationCore(
        name=PAUSE,
        description="Critical expectations were broken: nothing is learned until a batch passes again.",
        trigger=_on(BROKEN, LOG),
        actions=[PauseAutomation(automation_id=automation), *pauses],
    ))  # fmt: skip
    _put(client, known, AutomationCore(
        name=RESUME,
        description="Everything in the lake has passed: learning goes on.",
        trigger=_on(VALIDATED, LOG),
        actions=[ResumeAutomation(automation_id=automation), *resumes],
    ))  # fmt: skip


def has_deployments(client: SyncPrefectClient) -> bool:
    """Whether every deployment that the automations speak of is there."""
    return {*TRAINING, "promote"} <= _deployments(client).keys()


def _deployments(client: SyncPrefectClient) -> dict[str, UUID]:
    return {one.name: one.id for one in client.read_deployments(deployment_filter=OURS)}


def _learn(deployment: UUID) -> AutomationCore:
    return AutomationCore(
        name=LEARN,
        description="The watcher saw new events in the log; the flow itself looks which.",
        trigger=_on(BATCH, LOG),
        actions=[RunDeployment(deployment_id=deployment)],
    )


def _judge(deployment: UUID) -> AutomationCore:
    return AutomationCore(
        name=JUDGE,
        description="A version was registered as challenger: hold it against the gates.",
        trigger=_on(REGISTERED, MODEL),
        actions=[RunDeployment(deployment_id=deployment)],
    )


def _zombies() -> AutomationCore:
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *ENDED},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
    )
    message = "The run's process gave no sign of life for three heartbeats: it was killed, or its machine was."
    return AutomationCore(
        name=ZOMBIES,
        description="A run whose process is gone holds its place no longer; the watcher starts it again.",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def _on(event: str, resource: str) -> EventTrigger:
    """At every single such event."""
    return EventTrigger(
        expect={event},
        match={"prefect.resource.id": resource},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(seconds=0),
    )


def _put(client: SyncPrefectClient, known: dict[str, Automation], wanted: AutomationCore) -> None:
    """Create what is missing, update what differs; whether it is enabled is left as it stands."""
    found = known.get(wanted.name)
    if found is None:
        client.create_automation(wanted)
        return
    kept = wanted.model_copy(update={"enabled": found.enabled})
    if AutomationCore.model_validate(found.model_dump(exclude={"id"})) != kept:
        client.update_automation(found.id, kept)
