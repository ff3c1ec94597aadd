"""How the tracking server and registry are started: one server, SQLite in WAL mode, artifacts through its proxy."""

import contextlib
import sqlite3
import sys
from pathlib import Path

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def prepare(folder: Path) -> None:
    """Make the folder and put the (perhaps still empty) database into WAL mode; the mode stays with the file."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def command(folder: Path, host: str, port: int) -> list[str]:
    """The command line of a server whose database and artifacts lie under ``folder``."""
    store = folder.resolve()
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}"),
        *("--artifacts-destination", str(store / "artifacts")),
        *("--allowed-hosts", f"{host},{host}:{port},localhost:{port}"),
    ]
