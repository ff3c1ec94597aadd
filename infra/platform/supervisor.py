"""The supervisor of the platform's processes: its file, its start, and the calls over its socket.

``supervisor`` starts and stops the parts, writes their logs and restarts those that end. Each part runs under
``infra.reaper``, so that none outlives a killed supervisor.
"""

import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from attune.errors import AttuneError, ConfigError
from attune.settings import Settings
from infra.child_processes import REAPER, ROOT
from infra.environment import environment
from infra.platform.parts import log_of, parts

LONGEST_SOCKET = 90  # bytes of a path that every system takes for a socket
START_SECONDS = 10  # a part that ends sooner failed to start: the next try waits a second longer each time
STOP_SECONDS = 20
UNREACHABLE = (OSError, http.client.HTTPException, xmlrpc.client.Error)
HEALTH = "health"  # the name of the listener ``infra.platform.health`` among supervisor's processes


class Supervisor:
    """The supervisor of one ``var``; it runs if it answers on its socket, whatever its files say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.platform_folder.resolve()
        self.socket = self.folder / "supervisor.sock"
        if len(str(self.socket).encode()) > LONGEST_SOCKET:
            short = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
            self.socket = Path(tempfile.gettempdir()) / f"attune-{short}" / "supervisor.sock"

    @property
    def server(self) -> Any:
        """Supervisor's own remote calls."""
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def runs(self) -> bool:
        try:
            return bool(self.server.getState())
        except UNREACHABLE:
            return False

    def states(self) -> dict[str, dict[str, Any]]:
        """By part: supervisor's own description (``statename``, ``pid``, ``start``, ``now``, ``spawnerr``)."""
        with _explained():
            return {state["name"]: state for state in self.server.getAllProcessInfo()}

    def start(self) -> None:
        """Write the file and start the supervisor in the background. Raises AttuneError when it does not answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings.logs_folder.mkdir(parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "supervisord.conf"
        with path.open("w") as stream:
            self._configuration().write(stream)
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            cwd=ROOT,
            env={**os.environ, **environment(self.settings, lasting=True)},
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.runs():
            if started.returncode or time.monotonic() > deadline:
                reason = (started.stderr or started.stdout).strip() or f"see {self.folder / 'supervisord.log'}"
                raise AttuneError(f"the supervisor did not start: {reason}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every part, last started first, and the supervisor; returns when all are gone."""
        with _explained():
            pid = int(self.server.getPID())
            self.server.shutdown()
        deadline = time.monotonic() + STOP_SECONDS * len(parts(self.settings))
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise AttuneError(f"the supervisor (pid {pid}) has not stopped; {self.folder}/supervisord.log says why")
            time.sleep(0.1)

    def restart(self, name: str) -> None:
        """Stop one part and start it again."""
        if self.states()[name]["statename"] in ("RUNNING", "STARTING"):
            self.server.stopProcess(name)
        self.server.startProcess(name, False)

    def _configuration(self) -> RawConfigParser:
        if ";" in str(self.folder):
            raise ConfigError(f"{self.folder}: supervisor's settings take no path with a semicolon; move ATTUNE_VAR")
        file = RawConfigParser()
        file["unix_http_server"] = {"file": str(self.socket), "chmod": "0600"}
        file["supervisord"] = {
            "logfile": str(self.folder / "supervisord.log"),
            "pidfile": str(self.folder / "supervisord.pid"),
            "childlogdir": str(self.folder),
            "directory": str(ROOT),
            "umask": "077",
            "identifier": "attune",
        }
        file["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        for place, part in enumerate(parts(self.settings)):
            file[f"program:{part.name}"] = {
                "command": shlex.join((sys.executable, str(REAPER), *part.command)),
                "priority": str(10 * (place + 1)),
                "autorestart": "true",
                "startsecs": str(START_SECONDS),
                "startretries": "1000000",
                "stopwaitsecs": str(STOP_SECONDS),
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": str(log_of(self.settings, part.name)),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": "3",
            }
        file[f"eventlistener:{HEALTH}"] = {
            "command": shlex.join((sys.executable, "-m", "infra.platform.health")),
            "events": "TICK_5",
            "autorestart": "true",
            "stdout_logfile": "NONE",
            "stderr_logfile": str(log_of(self.settings, HEALTH)),
            "priority": "999",
        }
        for section in file.sections():
            for name, value in file.items(section):
                file.set(section, name, value.replace("%", "%%"))
        return file


@contextmanager
def _explained() -> Iterator[None]:
    """Raises AttuneError for a supervisor that went away meanwhile."""
    try:
        yield
    except UNREACHABLE as error:
        raise AttuneError(f"the platform's supervisor no longer answers: {error}; look at `attune status`") from error
