"""Events of attune on Prefect's bus: automations listen to them (``flows.automations``).

They say that something happened and no more: whoever is started by one reads the log from its own watermark.
"""

import logging
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings

BATCH = "attune.events.batch"
REGISTERED = "attune.version.registered"
VALIDATED = "attune.validation.passed"
BROKEN = "attune.validation.failed"
LOG, MODEL = "attune.event-log", "attune.model"

logger = logging.getLogger(__name__)


def announce(name: str, resource: str, payload: dict[str, Any]) -> bool:
    """Put an event on the bus from within a flow; False when the bus did not answer, which stops nothing here.

    What an event sets off is also on a schedule, or announced again, so that one that was not heard costs time.
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
