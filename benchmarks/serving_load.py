"""An endpoint in a process of its own, what it costs, and the load generator ``wrk`` in another one."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from attune.errors import ConfigError
from attune.settings import Settings
from infra.child_processes import ChildProcesses
from infra.platform.addresses import free_port

READY_SECONDS, CAUGHT_UP_SECONDS = 60.0, 900.0
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
LATENCY = re.compile(r"^\s*(50|99)(?:\.0+)?%\s+([\d.]+)(us|ms|s)\s*$", re.MULTILINE)
ANSWERED = re.compile(r"(\d+) requests in ([\d.]+)s")
LAG = re.compile(r"^attune_item_profile_lag (\S+)$", re.MULTILINE)
FAILED = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")

BARE = """
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI, Request, Response

app, body = FastAPI(), Path(sys.argv[1]).read_bytes()

@app.post("/v1/recommend")
async def recommend(request: Request) -> Response:
    await request.body()
    return Response(body, media_type="application/json")

uvicorn.run(app, port=int(sys.argv[2]), log_config=None, access_log=False, server_header=False)
"""
"""A route that does nothing but take and give the same bytes."""


@dataclass(frozen=True)
class Load:
    """What ``wrk`` saw: requests answered, how many a second, latencies in milliseconds, what failed."""

    requests: int
    per_second: float
    p50: float
    p99: float
    failed: str
    cpu_ms: float
    """The server's processor time a request."""


@contextmanager
def endpoint(settings: Settings, champion: bool = True) -> Iterator[psutil.Process]:
    """The process of these settings' endpoint, once it is ready and (by default) a champion answers.

    What it does once at its start is over by then: it has heard what the log says of items.
    """
    with running(settings.logs_folder) as children:
        child = children.start("endpoint", [sys.executable, "-m", "serving.app"], settings.as_environment())
        _await(f"http://127.0.0.1:{settings.serving_port}/readyz", champion)
        _await_caught_up(f"http://127.0.0.1:{settings.serving_port}/metrics")
        os.sync()  # what the making of the world left to be written would hold up the first commits' fsync
        yield psutil.Process(child.reaper.pid).children()[0]


@contextmanager
def bare_route(body: bytes, logs: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A route that answers with these bytes whatever it is asked: its address and its process."""
    port = free_port()
    with running(logs) as children, tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        child = children.start("bare-route", [sys.executable, "-c", BARE, file.name, str(port)])
        _await(f"http://127.0.0.1:{port}/openapi.json")
        yield f"http://127.0.0.1:{port}", psutil.Process(child.reaper.pid).children()[0]


def wrk(url: str, bodies: Sequence[str], server: psutil.Process, connections: int, seconds: float,
        rate: float | None = None) -> Load:  # fmt: skip
    """Post the bodies in turn for so long, ``rate`` requests a second or as many as go.

    Raises ConfigError where there is no ``wrk``.
    """
    program = shutil.which("wrk")
    if program is None:
        raise ConfigError("the load comes from wrk, which is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_script(bodies, connections / rate * 1_000 if rate else 0.0))
        before = _cpu(server)
        command = [program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), "--latency", url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = _cpu(server) - before
    answered = ANSWERED.search(said)
    latency = {share: float(value) * UNITS[unit] for share, value, unit in LATENCY.findall(said)}
    if answered is None or not latency:
        raise RuntimeError(f"wrk said what nobody understood: {said}")
    number = int(answered[1])
    failed = "; ".join("".join(one) for one in FAILED.findall(said))
    return Load(
        number, number / float(answered[2]), latency["50"], latency["99"], failed, 1_000 * spent / max(number, 1)
    )


def ask(url: str, bodies: Iterable[str]) -> None:
    """Post each body once, before a load: what is read or built at a first time is none of its business."""
    with httpx.Client(timeout=30.0, headers={"Content-Type": "application/json"}) as client:
        for body in bodies:
            client.post(url, content=body).raise_for_status()


def memory(server: psutil.Process) -> float:
    """What the process holds in memory, MiB."""
    return float(server.memory_info().rss) / 2**20


def free_settings(var: Path, **given: object) -> Settings:
    """Settings on a scratch folder, the endpoint on a free port."""
    return Settings(var=var, serving_port=free_port(), **given)  # type: ignore[arg-type]


def _script(bodies: Sequence[str], pause_ms: float) -> str:
    # a random pause, so that the connections do not ask all at once, turn after turn
    pause = f"function delay() return math.random(0, {int(2 * pause_ms)}) end\n" if pause_ms else ""
    lines = "\n".join(f"bodies[{place}] = {json.dumps(body)}" for place, body in enumerate(bodies, start=1))
    return (
        f'local bodies = {{}}\n{lines}\nlocal turn = 0\nlocal headers = {{["Content-Type"] = "application/json"}}\n'
        f"{pause}function request()\n  turn = turn % #bodies + 1\n"
        '  return wrk.format("POST", nil, headers, bodies[turn])\nend\n'
    )


def _cpu(process: psutil.Process) -> float:
    """Its processor time so far, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def running(logs: Path) -> Iterator[ChildProcesses]:
    """Commands that end with the block."""
    children = ChildProcesses(logs)
    try:
        yield children
    finally:
        children.stop()


def _await(url: str, champion: bool = False) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2.0).is_success and (not champion or _serves_champion(url)):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {READY_SECONDS:g} s")


def _await_caught_up(url: str) -> None:
    """Wait until it lacks nothing of the log, twice in a row: before its first look it does not know what it lacks."""
    deadline, quiet = time.monotonic() + CAUGHT_UP_SECONDS, 0
    while quiet < 2:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} still lacks a part of the log after {CAUGHT_UP_SECONDS:g} s")
        time.sleep(0.3)
        lag = LAG.search(httpx.get(url, timeout=10.0).text)
        quiet = quiet + 1 if lag is None or float(lag[1]) == 0 else 0


def _serves_champion(url: str) -> bool:
    return bool(httpx.get(url.replace("/readyz", "/v1/model"), timeout=2.0).json()["served_by"] == "champion")
