"""The progress of a run: heard where it runs, and read from the server where it runs elsewhere."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.testing.utilities import prefect_test_harness

from flows.deployment_runs import latest_bar
from flows.steps import heard_progress, progress


@flow
def judged() -> object:
    progress("validation-progress", "Events")(1.0)
    progress("judging-progress", "Gates")(0.25)
    context = FlowRunContext.get()
    return context.flow_run.id


def test_progress_is_heard_here_and_read_from_the_server() -> None:
    told: list[tuple[str, float]] = []
    with prefect_test_harness(server_startup_timeout=120):
        with heard_progress(lambda what, share: told.append((what, share))):
            run_id = judged()
        with get_client(sync_client=True) as client:
            assert latest_bar(client, run_id) == ("Gates", 0.25)
    assert told == [("Events", 0.0), ("Events", 1.0), ("Gates", 0.0), ("Gates", 0.25)]
