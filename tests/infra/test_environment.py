"""What `attune env` writes for Feast's commands: they read what attune wrote, and nobody else reads the password."""

from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore as Feast
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.repo_config import load_repo_config
from pydantic import SecretStr

from attune import redis_connection
from attune.settings import Settings
from attune.user_state import UserState
from features.feature_store import FeatureStore
from infra.environment import shell_environment

PASSWORD = """a,$HOME="x' y@1e5:#\\"""


def test_feast_reads_the_states_in_redis(own_redis: Any, tmp_path: Path) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in PASSWORD.encode())
    plain = Settings(var=tmp_path / "var", online_store_url=own_redis.url)
    redis_connection.connect(plain.online_address).config_set("requirepass", PASSWORD)
    url = SecretStr(own_redis.url.replace("//", f"//default:{quoted}@"))
    settings = plain.model_copy(update={"online_store_url": url})
    store = FeatureStore(settings)
    store.apply()
    store.push_states([UserState("u", 7)])
    variables = shell_environment(settings)
    file = Path(variables["FEAST_FS_YAML_FILE_PATH"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.glob("*feature_store*")] == ["feature_store.yaml"]
    assert not any(PASSWORD in text or quoted in text for text in variables.values())
    answer = Feast(repo_path=variables["FEAST_REPO"]).get_online_features(["user_state:position"], {"user_id": ["u"]})
    assert answer.to_dict()["position"] == [7]


@pytest.mark.parametrize(
    ("url", "node", "options"),
    [
        ("redis://cache", {"host": "cache", "port": "6379"}, {"db": 0}),
        ("rediss://me:123@cache:7000/4", {"host": "cache", "port": "7000"},
         {"db": 4, "ssl": True, "username": "me", "password": "123"}),
    ],
)  # fmt: skip
def test_the_address_in_the_words_of_feast(tmp_path: Path, url: str, node: dict, options: dict) -> None:
    variables = shell_environment(Settings(var=tmp_path, online_store_url=url))
    config = load_repo_config(Path(variables["FEAST_REPO"]), Path(variables["FEAST_FS_YAML_FILE_PATH"]))
    assert RedisOnlineStore._parse_connection_string(config.online_store.connection_string) == ([node], options)
