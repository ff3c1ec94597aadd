"""What the server is started with, from the settings alone."""

import stat
from pathlib import Path

import pytest

from attune.errors import ConfigError
from attune.settings import Settings
from mlflow_server import server

HOST, PORT = "127.0.0.1", 5123


def option(line: list[str], name: str) -> str:
    return line[line.index(name) + 1]


def test_one_worker_on_loopback_with_everything_under_var(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path)
    line = server.command(settings, HOST, PORT)
    assert line[1:4] == ["-m", "mlflow", "server"]
    assert (option(line, "--host"), option(line, "--port"), option(line, "--workers")) == (HOST, str(PORT), "1")
    assert option(line, "--backend-store-uri") == f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    assert option(line, "--artifacts-destination") == str(tmp_path / "mlflow" / "artifacts")
    assert option(line, "--allowed-hosts") == "127.0.0.1,127.0.0.1:5123,localhost:5123"
    assert not {"--cors-allowed-origins", "--gunicorn-opts"} & set(line)
    assert server.environment(settings) == server.ENVIRONMENT


def test_other_hosts_and_an_object_store(tmp_path: Path) -> None:
    settings = Settings(
        var=tmp_path, mlflow_hosts="registry.example.org, box:80", mlflow_artifacts="s3://bucket/models"
    )
    line = server.command(settings, HOST, PORT)
    hosts = option(line, "--allowed-hosts").split(",")
    assert {"registry.example.org", "registry.example.org:5123", "box:80"} <= set(hosts)
    origins = option(line, "--cors-allowed-origins").split(",")
    assert {"https://registry.example.org", "http://registry.example.org:5123", "http://box:80"} <= set(origins)
    assert option(line, "--artifacts-destination") == "s3://bucket/models"


def test_an_object_store_makes_no_folder(tmp_path: Path) -> None:
    server.prepare(Settings(var=tmp_path, mlflow_artifacts="s3://bucket/models"))
    assert not (tmp_path / "mlflow" / "artifacts").exists()


@pytest.mark.parametrize("given", ["elsewhere/files", "file:///elsewhere/files"])
def test_a_folder_of_artifacts_is_named_from_the_root(given: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path if given.startswith("e") else Path("/")
    assert server.artifacts(Settings(var=tmp_path, mlflow_artifacts=given)) == str(root / "elsewhere" / "files")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_postgresql_by_our_driver_and_its_password_by_the_environment_alone(tmp_path: Path, scheme: str) -> None:
    settings = Settings(var=tmp_path, mlflow_database_url=f"{scheme}://ann:p%40ss@db:5432/mlflow?sslmode=require")
    line = server.command(settings, HOST, PORT)
    assert option(line, "--backend-store-uri") == "postgresql+psycopg://ann@db:5432/mlflow?sslmode=require"
    assert server.environment(settings)["PGPASSWORD"] == "p@ss"


def test_log_in_by_a_file_that_others_cannot_read_and_secrets_by_the_environment(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path / "50%", mlflow_auth=True, mlflow_password="a long night's journey")
    server.prepare(settings)
    assert option(server.command(settings, HOST, PORT), "--app-name") == "attune-guarded"
    told = server.environment(settings)
    assert told["MLFLOW_AUTH_ADMIN_PASSWORD"] == "a long night's journey"
    assert len(told["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    path = Path(told["MLFLOW_AUTH_CONFIG_PATH"])
    assert "journey" not in path.read_text()
    for file in (path, server.people_file(settings)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keyed = settings.model_copy(update={"mlflow_secret_key": type(settings.mlflow_password)("one of our own")})
    assert server.environment(keyed)["MLFLOW_FLASK_SERVER_SECRET_KEY"] == "one of our own"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mlflow_database_url": "mysql://db/mlflow"}, "'mysql' is not supported"),
        ({"mlflow_database_url": "mlflow.db"}, "is no URL"),
        ({"mlflow_database_url": "sqlite://"}, "name a file"),
        ({"mlflow_artifacts": "gs://bucket"}, "name a folder or s3"),
        ({"mlflow_hosts": "a,*"}, "ATTUNE_MLFLOW_HOSTS"),
        ({"mlflow_hosts": "http://a"}, "is no host name"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        server.prepare(Settings(var=tmp_path, **wrong))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"{tmp_path}/file"):
        server.prepare(Settings(var=tmp_path / "file"))
