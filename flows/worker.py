"""The worker that runs the deployments; before it begins it brings Prefect up to date with the code.

    python -m flows.worker

It makes the work pool, replaces missed runs, applies ``prefect.yaml`` (if it or the flows changed) and the automations,
and then becomes Prefect's own worker. Starting it again does no harm.
"""

import logging
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker

from attune import process
from attune.errors import ConfigError
from flows import automations, missed_runs

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
POOL = "attune"
AT_ONCE = 2
"""Runs at the same time: one that learns, and one beside it."""
APPLIED = "attune_deployed"
PATIENCE_SECONDS = 120.0


def main() -> NoReturn:
    """Prepare, then become the worker; exit status 2 when it cannot."""
    process.set_up_logging()
    os.chdir(ROOT)
    try:
        with get_client(sync_client=True) as client:
            await_prefect(client)
            prepare(client)
    except ConfigError as error:
        log.error("%s", error)
        sys.exit(2)
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--name", POOL, "--limit", str(AT_ONCE)]
    os.execv(sys.executable, [sys.executable, *command, "--with-healthcheck", "--install-policy", "never"])


def await_prefect(client: SyncPrefectClient) -> None:
    """Wait until the API answers. Raises ConfigError after two minutes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (error := client.api_healthcheck()) is not None:
        if time.monotonic() > deadline:
            raise ConfigError(f"Prefect at {client.api_url} does not answer: {error}; `attune status` says more")
        time.sleep(0.3)


def prepare(client: SyncPrefectClient) -> None:
    """Make the server's pool, deployments and automations those of the code."""
    try:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        pass
    missed_runs.catch_up(client)
    files = [ROOT / "prefect.yaml", *sorted((ROOT / "flows").glob("*.py"))]  # with the flows' parameters
    wanted = sha256(b"".join([str(ROOT).encode(), *(path.read_bytes() for path in files)])).hexdigest()
    if Variable.get(APPLIED) != wanted or not automations.has_deployments(client):
        deploy()
        Variable.set(APPLIED, wanted, overwrite=True)
    automations.apply(client)


def deploy() -> None:
    """Let Prefect's own command apply ``prefect.yaml``. Raises ConfigError with what it said."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PWD": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigError(f"prefect.yaml could not be applied: {(done.stderr or done.stdout)[-2000:]}")


if __name__ == "__main__":
    main()
