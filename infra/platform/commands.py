"""What the platform's commands do and print."""

import json
import os
import shlex
import subprocess
import sys
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attune.errors import AttuneError
from attune.redis_connection import RedisAddress
from attune.settings import Settings
from infra.child_processes import Interrupted, ending_on_signals, ending_undisturbed
from infra.commands import output
from infra.commands.output import console, print_json, say_next
from infra.environment import environment
from infra.platform import addresses, lifecycle
from infra.platform import doctor as examinations
from infra.platform.parts import log_of, part_named, parts, with_addresses
from infra.platform.screen import table

NOTHING_RUNS = 4
FEAST_FILE = "feature_store.yaml"
ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in ",$"}
"""What ends a part of a connection string, or names a variable to Feast's reader of its file, as JSON may write it."""
TOOLS = ("PREFECT_", "MLFLOW_", "GX_")
"""Whose variables a person's shell is told; where attune's own platform answers, attune finds by itself."""
COLOURS = {"good": "green", "warning": "yellow", "bad": "red"}


def up(as_json: bool) -> None:
    """Start everything, showing how far it is."""
    screen = Console(stderr=True, quiet=as_json)
    with ending_on_signals(), ending_undisturbed():
        try:
            with Live(console=screen, refresh_per_second=4, transient=True) as live:
                settings, seconds = lifecycle.up(Settings(), lambda now: live.update(table(now)))
        except Interrupted as signal:
            raise SystemExit(128 + signal.number) from None
    found = lifecycle.conditions(settings)
    if as_json:
        print_json({"seconds": round(seconds, 1), "parts": [one.as_dict() for one in found]})
        return
    console().print(table(found))
    console().print(f"the platform is up after {seconds:.0f} s" if seconds else "the platform was up already")
    say_next("`attune train` makes a model, `attune status` shows this table, `attune down` stops it")


def status(as_json: bool) -> int:
    """Print the conditions; the exit status."""
    settings = Settings()
    running = addresses.running(settings)
    if running is None:
        if as_json:
            print_json({"running": False, "parts": []})
        else:
            console().print(f"nothing runs on {settings.var}: `attune up` starts the platform")
        return NOTHING_RUNS
    found = lifecycle.conditions(running)
    if as_json:
        print_json({"running": True, "parts": [one.as_dict() for one in found]})
    else:
        console().print(table(found))
    return 0 if all(one.state == "ready" for one in found) else 1


def show_logs(name: str | None, follow: bool, lines: int) -> None:
    """The last lines of the parts' files; ``follow`` hands over to ``tail -F``."""
    settings = Settings()
    chosen = [part_named(settings, name)] if name else parts(settings)
    files = [path for part in chosen if (path := log_of(settings, part.name)).exists()]
    if not files:
        raise AttuneError(f"{settings.logs_folder} holds no logs yet: `attune up` starts the platform")
    if follow:
        try:
            subprocess.run(["tail", "-n", str(lines), "-F", *map(str, files)], check=False)
        except KeyboardInterrupt:
            return
        return
    for path in files:
        if len(files) > 1:
            console().rule(f"{path}", align="left")
        with path.open(errors="replace") as stream:
            sys.stdout.writelines(deque(stream, lines))
        sys.stdout.flush()


def doctor(as_json: bool) -> int:
    """Print every finding; the exit status."""
    found = examinations.examine(Settings())
    if as_json:
        print_json({"findings": [one.as_dict() for one in found]})
    else:
        rows = [[Text(one.verdict, COLOURS[one.verdict]), one.name, one.found, one.advice] for one in found]
        output.table(["", "looked at", "found", "what to do"], rows)
    return 1 if any(one.verdict == "bad" for one in found) else 0


def down(as_json: bool) -> None:
    """Stop everything."""
    settings = Settings()
    with Console(stderr=True, quiet=as_json).status("stopping"):
        stopped = lifecycle.down(settings)
    if as_json:
        print_json({"stopped": stopped})
    else:
        console().print("the platform is down" if stopped else f"nothing runs on {settings.var}")


def print_environment() -> None:
    """Shell lines that point the tools' own commands at this platform."""
    settings = Settings()
    told = tools_environment(addresses.running(settings) or with_addresses(settings))
    for name, value in sorted(told.items()):
        print(f"export {name}={shlex.quote(value)}")


def tools_environment(settings: Settings) -> dict[str, str]:
    """What ``prefect``, ``mlflow`` and ``feast`` need; writes Feast's file, which its command reads.

    Where MLflow asks for a password, its own variable for that is among them.
    """
    folder = settings.feast_folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _write_private(folder / FEAST_FILE, feast_file(settings))
    told = environment(settings, lasting=True)
    wanted = {name: value for name, value in told.items() if name == "ATTUNE_VAR" or name.startswith(TOOLS)}
    return {**wanted, "FEAST_REPO": str(folder), "FEAST_FS_YAML_FILE_PATH": str(folder / FEAST_FILE)}


def feast_file(settings: Settings) -> str:
    """The repository's description in Feast's own words; the same stores that ``features.feature_store`` opens."""
    folder = settings.feast_folder.resolve()
    config = {
        "project": "attune",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "online_store": _online_store(settings),
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    return f"# Written by `attune env`, for Feast's own commands.\n{json.dumps(config, indent=1)}\n"


def _online_store(settings: Settings) -> dict[str, str]:
    if address := settings.online_address:
        return {"type": "redis", "connection_string": _connection_string(address)}
    return {"type": "sqlite", "path": str(settings.feast_folder.resolve() / "online" / "online.db")}


def _connection_string(address: RedisAddress) -> str:
    """The address in Feast's words: parts between commas, each value read as JSON."""
    parts = [f"{address.host}:{address.port}", f"db={address.database}"]
    if address.tls:
        parts.append("ssl=true")
    secret = address.password.get_secret_value() if address.password else None
    for name, value in (("username", address.user), ("password", secret)):
        if value is not None:
            parts.append(f"{name}={json.dumps(value)}".translate(ESCAPED))
    return ",".join(parts)


def _write_private(path: Path, text: str) -> None:
    """Replace a file by one that its owner alone may read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)
