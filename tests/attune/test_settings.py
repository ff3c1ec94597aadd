"""Where things are: defaults, the environment, and the key that two processes agree on."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from attune.errors import ConfigError
from attune.settings import Settings


def test_defaults_lie_under_one_folder() -> None:
    settings = Settings()
    assert settings.var == Path("var")
    assert settings.log_url == f"sqlite:///{Path('var').resolve() / 'log' / 'events.db'}"
    folders = [settings.lake_folder, settings.feast_folder, settings.bundles_folder, settings.docs_folder]
    assert all(folder.is_relative_to(settings.var) for folder in folders)
    assert len(set(folders)) == len(folders)


def test_building_settings_writes_nothing(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "var")
    assert settings.log_url
    assert not (tmp_path / "var").exists()


def test_the_environment_names_every_field(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path))
    monkeypatch.setenv("ATTUNE_DATABASE_URL", "postgresql://me@here/log")
    monkeypatch.setenv("ATTUNE_SERVING_PORT", "0")
    settings = Settings()
    assert (settings.var, settings.log_url, settings.serving_port) == (tmp_path, "postgresql://me@here/log", 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVING_PORT", "65536"), ("SERVING_PORT", "http"), ("LOCK_SECONDS", "0"), ("KEEPER_POLL_SECONDS", "-1")],
)
def test_settings_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ATTUNE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="prot"):
        Settings(prot=8000)  # type: ignore[call-arg]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().endpoint = "other"  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_slate_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "var")
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: settings.slate_key(), range(16)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert Settings(var=tmp_path / "var").slate_key() == settings.slate_key()
    assert stat.S_IMODE(os.stat(tmp_path / "var" / "slate.key").st_mode) == 0o600
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["slate.key"]


def test_a_slate_secret_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTUNE_SLATE_SECRET", "hush")
    settings = Settings(var=tmp_path)
    assert settings.slate_key() == b"hush"
    assert "hush" not in repr(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_is_no_setting_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_SERVING_PROT", "8001")
    with pytest.raises(ConfigError, match="ATTUNE_SERVING_PROT is no setting; the nearest is ATTUNE_SERVING_PORT"):
        Settings()


def test_settings_travel_to_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(var=Path("here"), mlflow_password="hush", batch_seconds=0.5)
    for name, text in settings.as_environment().items():
        monkeypatch.setenv(name, text)
    assert Settings() == settings.model_copy(update={"var": tmp_path / "here"})


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        ({}, False),
        ({"serving_host": "localhost"}, False),
        ({"serving_host": "::1"}, False),
        ({"serving_host": "127.8.9.1"}, False),
        ({"serving_host": "0.0.0.0"}, True),
        ({"serving_host": "::"}, True),
        ({"serving_host": "attune.example.org"}, True),
        ({"profile": "production"}, True),
        ({"api_keys": "on"}, True),
        ({"api_keys": "off", "serving_host": "0.0.0.0"}, False),
    ],
)
def test_keys_are_asked_for_as_soon_as_another_machine_could_ask(given: dict[str, str], asks: bool) -> None:
    assert Settings(**given).asks_for_keys is asks  # type: ignore[arg-type]


def test_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody puts the key where the switch is: it must not reach a log."""
    monkeypatch.setenv("ATTUNE_API_KEYS", "attune_hush")
    with pytest.raises(ValidationError, match="'auto', 'on' or 'off'") as raised:
        Settings()
    assert "hush" not in str(raised.value)


def test_a_redis_is_named_by_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_ONLINE_STORE_URL", "")
    assert Settings().online_address is None
    monkeypatch.setenv("ATTUNE_ONLINE_STORE_URL", "redis://cache.example.org")
    assert str(Settings().online_address) == "redis://cache.example.org:6379/0"
    monkeypatch.setenv("ATTUNE_ONLINE_STORE_URL", "rediss://me:h%40sh%2Cme@[::1]:7000/3")
    settings = Settings()
    address = settings.online_address
    assert address is not None
    assert (address.host, address.user, address.tls, str(address)) == ("::1", "me", True, "rediss://[::1]:7000/3")
    assert address.password is not None
    assert address.password.get_secret_value() == "h@sh,me"
    assert not any(told in repr([settings, address]) for told in ("h%40sh", "h@sh"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://host:6379", "does not begin with"),
        ("host:6379", "does not begin with"),
        ("redis://", "names no host"),
        ("redis://:hush@:6379", "names no host"),
        ("redis://host:port", "its port is no number"),
        ("redis://host:0", "its port is no number"),
        ("redis://host:65536", "its port is no number"),
        ("redis://:hu/sh@host:6379", "names no host"),
        ("redis://host:6379/first", "its database is no number"),
        ("redis://host:6379/0?hush=1", "something after the database"),
        ("redis://hush@host:6379/0", "a user and no password"),
        ("redis://[hush:6379/0", "it is no URL"),
        ("redis://:hush@ho\u2100st:6379", "it is no URL"),
        ("redis://[hush]:6379/0", "it is no URL"),
    ],
)
def test_a_redis_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setenv("ATTUNE_ONLINE_STORE_URL", url)
    with pytest.raises(
        ConfigError, match=f"ATTUNE_ONLINE_STORE_URL cannot be meant: .*{reason}.*; write redis"
    ) as caught:
        Settings()
    assert "hu" not in str(caught.value)
