"""`attune serve`: the endpoint and its state keeper in the foreground, without the rest of the platform."""

import sys

from rich.console import Console

from attune.settings import Settings
from infra.child_processes import Interrupted, ending_on_signals, ending_undisturbed
from infra.local_stack import Stack


def serve() -> None:
    """Run until a signal, which is the way to end it; raises SystemExit when a part ends by itself."""
    console = Console()
    with ending_on_signals(), Stack(Settings()) as stack, ending_undisturbed():
        try:
            stack.start_batch_servers(prefect=False)
            stack.start_endpoint()
            stack.wait()
            url = stack.endpoint_url
            console.print(f"[bold]{url}[/] answers; its API is described at {url}/docs. Ctrl-C stops it.")
            ended = stack.wait_for_an_end()
            sys.exit(f"{ended.name} ended; {ended.log} ends with:\n{ended.last_words()}")
        except Interrupted:
            console.print("stopping")
