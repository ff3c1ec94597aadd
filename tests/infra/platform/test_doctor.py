"""The doctor: finds what was broken on purpose, names it, and says what to do."""

import json
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import Settings as PrefectSettings
from pydantic import SecretStr

from attune.backup import backup
from attune.event_log import EventLog, prepare
from attune.events import Interaction
from attune.settings import Settings
from infra.environment import QUIET
from infra.platform import addresses, doctor


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(var=tmp_path / "var")
    settings = addresses.choose_ports(settings.model_copy(update=dict.fromkeys(addresses.PORTS, 0)))
    prepare(settings.log_url)
    settings.slate_key()
    return settings


def verdicts(settings: Settings) -> dict[str, str]:
    return {row.name: row.verdict for row in doctor.check(settings)}


def finding(settings: Settings, name: str) -> doctor.Finding:
    return next(row for row in doctor.check(settings) if row.name == name)


def test_a_sound_installation_has_nothing_bad(settings: Settings) -> None:
    assert "bad" not in verdicts(settings).values()


def test_a_damaged_database_is_named(settings: Settings) -> None:
    with closing(EventLog(settings.log_url)) as log:
        log.append([
            Interaction(event_id=f"e{n}", event_timestamp=n, user_id="u" * 50, item_id="i" * 50, kind="view")
            for n in range(2_000)
        ])  # fmt: skip
    path = settings.var / "log" / "events.db"
    damaged = bytearray(path.read_bytes())
    damaged[8_192:40_000] = b"\xff" * (40_000 - 8_192)
    path.write_bytes(damaged)
    answer = finding(settings, "databases")
    assert answer.verdict == "bad"
    assert "events.db" in answer.found
    assert "restore" in answer.advice


@pytest.mark.parametrize("name", ["mlflow.db", "people.db"])
def test_a_half_written_database_is_named(settings: Settings, name: str) -> None:
    (settings.var / "mlflow").mkdir()
    (settings.var / "mlflow" / name).write_bytes(b"SQLite for")
    assert finding(settings, "databases").verdict == "bad"


def test_a_taken_port_is_bad_while_the_platform_is_down(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.prefect_port)):
        answer = finding(settings, "prefect")
    assert (answer.verdict, "ATTUNE_PREFECT_PORT" in answer.advice) == ("bad", True)


def test_a_key_that_others_may_read_is_bad(settings: Settings) -> None:
    (settings.var / "slate.key").chmod(0o644)
    assert finding(settings, "secrets").advice.startswith("chmod 600")


def test_a_clock_behind_the_log_is_bad(settings: Settings) -> None:
    with closing(EventLog(settings.log_url, clock=lambda: 4_000_000_000_000_000)) as log:
        log.append([Interaction(event_id="e", event_timestamp=1, user_id="u", item_id="i", kind="view")])
    assert finding(settings, "clock").verdict == "bad"


def test_a_folder_without_permission_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    assert finding(Settings(var=tmp_path / "var"), "folder").verdict == "bad"


def test_what_prefect_hands_a_run_is_as_quiet_as_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    handed = PrefectSettings().to_environment_variables(exclude_unset=True)
    assert handed["PREFECT_SERVER_ANALYTICS_ENABLED"] == "False", "it writes truth values as Python does"
    assert doctor.missing_switches({**QUIET, **handed}) == []
    assert doctor.missing_switches({**QUIET, "PREFECT_SERVER_ANALYTICS_ENABLED": "True"}) != []
    assert doctor.missing_switches({"PATH": "/bin"}) == list(doctor.TELEMETRY)
    assert doctor.missing_switches({}) == [], "a process that is being made has nothing yet"


def test_a_missing_backup_is_said_once_there_is_something_to_lose(settings: Settings) -> None:
    assert "backup" not in verdicts(settings)
    with closing(EventLog(settings.log_url)) as log:
        log.append([Interaction(event_id="e", event_timestamp=1, user_id="u", item_id="i", kind="view")])
    assert finding(settings, "backup").advice == "`attune backup`"
    backup(settings, settings.backups)
    assert finding(settings, "backup").verdict == "good"


def test_a_redis_is_asked_whether_it_answers(settings: Settings, redis: Any) -> None:
    assert "online store" not in verdicts(settings)
    answer = finding(settings.model_copy(update={"online_store_url": SecretStr(redis.url)}), "online store")
    assert answer.verdict == "good"
    assert answer.found.startswith("valkey ")
    nowhere = settings.model_copy(update={"online_store_url": SecretStr("redis://:hush@127.0.0.1:9")})
    answer = finding(nowhere, "online store")
    assert answer.verdict == "bad"
    assert "redis://127.0.0.1:9/0 cannot be used" in answer.found
    assert "hush" not in answer.found


def test_a_burst_that_the_last_training_set_left_out_is_said(settings: Settings) -> None:
    assert "set aside" not in verdicts(settings)
    for name, count in (("upto-1", 0), ("upto-2", 940)):
        folder = settings.training_folder / name
        folder.mkdir(parents=True)
        (folder / "window.json").write_text(json.dumps({"left_out": {"burst": count}}))
        os.utime(folder / "window.json", (count, count))
    answer = finding(settings, "set aside")
    assert (answer.verdict, "940 by reason 'burst'" in answer.found) == ("warning", True)
