"""The whole loop, stage by stage, over real servers: what `attune demo` does."""

import fcntl
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attune import process
from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from infra.child_processes import Interrupted, ending_on_signals, ending_undisturbed
from infra.demo.report import Report, Screen, staged
from infra.local_stack import Stack, move_aside


def run() -> int:
    """Run the demo under ``var/demo``; returns the exit status.

    Each demo starts from an empty folder, the run before is moved aside. All processes are ended on every way out.
    """
    folder = (Settings().var / "demo").resolve()
    with only_one(folder.with_name("demo.lock")):
        return run_in(folder)


def run_in(folder: Path) -> int:
    """The demo in a folder that is moved aside if it exists."""
    screen, report = Screen(), Report()
    moved = move_aside(folder)
    folder.mkdir(parents=True)
    process.set_up(logging.WARNING, folder / "logs" / "demo.log")
    report.write(folder / "report.json")
    settings = Settings(
        var=folder, database_url="", online_store_url=None, mlflow_url="", prefect_url="", serving_port=0
    )  # stores and servers of its own
    status = 1
    with ending_on_signals():
        try:
            with Stack(settings) as stack, ending_undisturbed():
                with staged(
                    "start Prefect, MLflow, the state keeper and the endpoint", report, screen, folder
                ) as stage:
                    stage.figures |= start(stack)
                from infra.demo.stages import Loop

                Loop(stack, report, screen).run()
            report.ok, status = True, 0
        except AttuneError as error:
            report.error = str(error)
        except Interrupted as signal:
            report.error, status = f"interrupted by {signal}", 128 + signal.number
        except Exception as error:
            report.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            report.write(folder / "report.json")
            screen.summary(report, folder, moved)
    return status


def start(stack: Stack) -> dict[str, str]:
    """Start all servers side by side, and import the flows meanwhile; returns where the servers listen.

    The flows come second: Prefect reads its server's address from the environment when it is imported.
    """
    stack.start_batch_servers()
    stack.start_endpoint()
    importlib.import_module("infra.demo.stages")
    stack.wait()
    settings = stack.settings
    return {"endpoint": stack.endpoint_url, "mlflow": settings.mlflow_url, "prefect": settings.prefect_url}


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; raises ConfigError when another demo holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another demo runs in {lock.parent}: wait for it, or set ATTUNE_VAR") from error
        yield
