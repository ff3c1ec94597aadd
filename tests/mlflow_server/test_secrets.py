"""Production refuses whatever would leave the registry open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attune.errors import ConfigError
from attune.settings import Settings
from mlflow_server.server import check, check_password

GOOD = {
    "profile": "production",
    "mlflow_auth": True,
    "mlflow_password": "a long night's journey",
    "mlflow_secret_key": "5f2e0a4dd0cf4b7f9e0c",
}


def test_production_with_secrets_of_its_own_and_a_local_server_without_any_are_fine(tmp_path: Path) -> None:
    check(Settings(var=tmp_path, **GOOD))
    check(Settings(var=tmp_path))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mlflow_auth": False}, "ATTUNE_MLFLOW_AUTH=true"),
        ({"mlflow_password": None}, "ATTUNE_MLFLOW_PASSWORD is empty"),
        ({"mlflow_password": "short-one"}, "9 characters"),
        ({"mlflow_password": "password1234"}, "an attacker tries"),
        ({"mlflow_password": "admin"}, "an attacker tries"),
        ({"mlflow_password": "Administrator1"}, "an attacker tries"),
        ({"mlflow_password": "changemechangeme"}, "an attacker tries"),
        ({"mlflow_password": "123456789012"}, "an attacker tries"),
        ({"mlflow_password": "xxxxxxxxxxxxxx"}, "an attacker tries"),
        ({"mlflow_username": "josephine-doe", "mlflow_password": "josephine-doe!"}, "an attacker tries"),
        ({"mlflow_username": ""}, "ATTUNE_MLFLOW_USERNAME"),
        ({"mlflow_username": "ann:doe"}, "colon"),
        ({"mlflow_secret_key": None}, "ATTUNE_MLFLOW_SECRET_KEY is not set"),
        ({"mlflow_secret_key": "changeme1234"}, "ATTUNE_MLFLOW_SECRET_KEY is a usual one"),
        ({"mlflow_secret_key": "q7"}, "ATTUNE_MLFLOW_SECRET_KEY"),
    ],
)
def test_production_refuses(tmp_path: Path, wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check(Settings(var=tmp_path, **{**GOOD, **wrong}))


def test_a_local_server_that_asks_for_passwords_has_a_good_one_but_needs_no_key(tmp_path: Path) -> None:
    local = {**GOOD, "profile": "local", "mlflow_secret_key": None}
    check(Settings(var=tmp_path, **local))
    with pytest.raises(ConfigError, match="an attacker tries"):
        check(Settings(var=tmp_path, **{**local, "mlflow_password": "password1234"}))


def test_a_known_word_within_a_longer_password_is_no_reason() -> None:
    check_password("the admin of nine cats", "ann", "a password")


def test_main_ends_with_one_line_and_status_2_before_it_writes(tmp_path: Path) -> None:
    told = Settings(var=tmp_path / "var", profile="production").as_environment()
    line = [sys.executable, "-m", "mlflow_server.server"]
    ended = subprocess.run(line, env={**os.environ, **told}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (said,) = ended.stderr.splitlines()
    assert "ATTUNE_MLFLOW_AUTH=true" in said
    assert not (tmp_path / "var").exists()
