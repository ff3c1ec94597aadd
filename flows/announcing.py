"""Events of attune on Prefect's bus: automations listen to them (``flows.automations``).

They say that something happened and no more: whoever is started by one reads the log from its own watermark.
"""

from typing import Any

from prefect.events import emit_event

BATCH = "attune.events.batch"
REGISTERED = "attune.version.registered"
VALIDATED = "attune.validation.passed"
BROKEN = "attune.validation.failed"
LOG, MODEL = "attune.event-log", "attune.model"


def announce(name: str, resource: str, payload: dict[str, Any]) -> None:
    """Put an event on the bus; a bus that does not answer is Prefect's to report, and stops nothing here."""
    emit_event(name, resource={"prefect.resource.id": resource}, payload=payload)
