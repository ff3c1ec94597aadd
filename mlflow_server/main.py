"""Runs the registry's server in the foreground, for a supervisor: ``python -m mlflow_server.main``."""

import logging
import os
import sys
from typing import NoReturn

from pydantic import ValidationError

from attune import logs
from attune.errors import AttuneError
from attune.settings import Settings
from mlflow_server import command

HOST = "127.0.0.1"


def main() -> NoReturn:
    """Prepare the store and become the server; exit status 2, with one line that says why, when it cannot."""
    logs.set_up()
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it reports each of its parts
    try:
        settings = Settings()
        command.prepare(settings)
        line = command.command(settings, HOST, settings.mlflow_port)
    except (AttuneError, ValidationError) as error:
        sys.stderr.write(f"MLflow cannot start: {error}\n")
        sys.exit(2)
    os.execve(line[0], line, {**os.environ, **command.environment(settings)})


if __name__ == "__main__":
    main()
