"""Two writers, an older state, a store that dies: the newer state stays, and nobody waits long."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import feast
import numpy as np
import pandas as pd
import pysqlite3.dbapi2 as sqlite
import pytest
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.repo_config import RegistryConfig
from pydantic import SecretStr

from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import FeatureStoreError
from attune.settings import Settings
from attune.user_state import UserState
from features import online_stores
from features.feature_store import PROJECT, FeatureStore
from features.online_stores import OrderedRedisOnlineStore, WalSqliteOnlineStore

in_either_store = pytest.mark.parametrize("settings", ["sqlite", "redis"], indirect=True)
USERS = [f"u{number}" for number in range(5)]


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    opened = FeatureStore(settings)
    opened.apply()
    return opened


def at(position: int) -> list[UserState]:
    """A state for every user, the same in all of its fields that can tell."""
    return [UserState(user, position, events=position, seen=(f"i{position}",)) for user in USERS]


def positions(store: FeatureStore) -> list[int]:
    states = store.states(USERS)
    assert all(state == at(state.position)[USERS.index(user)] for user, state in states.items())
    return [state.position for state in states.values()]


@in_either_store
def test_of_two_writers_the_newer_state_stays(settings: Settings, store: FeatureStore) -> None:
    """Each pushes positions in an order of its own, backwards too; a reader never sees a user's state go back."""
    orders = [np.random.default_rng(seed).permutation(np.arange(1, 61)) for seed in (1, 2)]
    done = threading.Event()

    def write(order: np.ndarray) -> None:
        own = FeatureStore(settings)
        for position in order:
            own.push_states(at(int(position)))

    def watch() -> int:
        seen = [0] * len(USERS)
        reads = 0
        while not done.is_set():
            found = positions(store) or seen
            assert all(now >= before for now, before in zip(found, seen, strict=True))
            seen, reads = found, reads + 1
        return reads

    with ThreadPoolExecutor(3) as threads:
        watching = threads.submit(watch)
        try:
            list(threads.map(write, orders))
        finally:
            done.set()
        assert watching.result() > 10
    assert positions(store) == [60] * len(USERS)


@pytest.mark.parametrize("settings", ["redis"], indirect=True)
def test_a_writer_that_comes_between_is_noticed(
    settings: Settings, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment in which Feast's own store loses a state: after it has compared and before it writes."""
    other = FeatureStore(settings)
    other.push_states(at(1))
    look = OrderedRedisOnlineStore._timestamps
    between = iter([at(9), at(5)])

    def slow(self: Any, *arguments: Any) -> dict[bytes, bytes]:
        found = look(self, *arguments)
        if states := next(between, None):
            with monkeypatch.context() as patch:
                patch.setattr(OrderedRedisOnlineStore, "_timestamps", look)
                other.push_states(states)
        return found

    monkeypatch.setattr(OrderedRedisOnlineStore, "_timestamps", slow)
    store.push_states(at(7))
    assert positions(store) == [9] * len(USERS)
    store.push_states(at(11))
    assert positions(store) == [11] * len(USERS)


def test_a_writer_keeps_others_out_of_the_file_while_it_compares(
    settings: Settings, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, refused = online_stores._stored, []

    def slow(*arguments: Any) -> str:
        found = look(*arguments)
        with closing(sqlite.connect(settings.feast_folder / "online" / "online.db", timeout=0)) as other:
            with pytest.raises(sqlite.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            refused.append(True)
        return found

    monkeypatch.setattr(online_stores, "_stored", slow)
    store.push_states(at(7))
    assert len(refused) == len(USERS)
    assert positions(store) == [7] * len(USERS)


def test_a_write_that_fails_leaves_the_file_free(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> str:
        raise RuntimeError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(online_stores, "_stored", broken)
        with pytest.raises(FeatureStoreError, match="no more"):
            store.push_states(at(7))
    store.push_states(at(5))
    assert positions(store) == [5] * len(USERS)


def test_states_of_an_older_attune_are_replaced(settings: Settings, store: FeatureStore) -> None:
    """They carry the time of their last event, which is later than any position taken as a time."""
    store.push_states(at(7))
    with closing(sqlite.connect(settings.feast_folder / "online" / "online.db")) as database:
        database.execute("UPDATE attune_user_state SET event_ts = '2024-10-04 00:00:00'")
        database.execute("PRAGMA user_version = 0")
        database.commit()
    again = FeatureStore(settings)
    again.push_states(at(8))
    assert positions(again) == [7] * len(USERS)
    again.apply()
    again.push_states(at(8))
    assert positions(again) == [8] * len(USERS)
    again.apply()
    again.push_states(at(7))
    assert positions(again) == [8] * len(USERS)


@pytest.mark.parametrize("settings", ["redis"], indirect=True)
def test_feast_itself_reads_what_is_written(settings: Settings, store: FeatureStore, redis: Any) -> None:
    """Bytes and all: what Feast's own store writes of the same states is the same."""
    store.push_states(at(7))
    assert store.states(USERS) == {state.user_id: state for state in at(7)}
    config = feast.RepoConfig(
        project=PROJECT, provider="local", registry=RegistryConfig(path=str(store.folder / "registry.db")),
        online_store=RedisOnlineStoreConfig(connection_string=f"127.0.0.1:{redis.port}"),
        offline_store={"type": "file"}, entity_key_serialization_version=3, repo_path=store.folder,
    )  # fmt: skip
    plain = feast.FeatureStore(config=config)
    answer = plain.get_online_features(["user_state:position", "user_state:seen"], {"user_id": USERS}).to_dict()
    assert answer["position"] == [7] * len(USERS)
    ours = dump(settings)
    redis.empty()
    store._opened[0].provider.online_store.__class__ = feast.infra.online_stores.redis.RedisOnlineStore
    store.push_states(at(7))
    assert dump(settings) == ours
    assert len(ours) == len(USERS)


def dump(settings: Settings) -> dict[bytes, dict[bytes, bytes]]:
    client = online_stores.redis_connection.connect(settings.online_address)
    return {key: client.hgetall(key) for key in client.keys("*")}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def test_a_redis_that_is_down_or_hangs_is_said_soon_and_comes_back(own_redis: Any, settings: Settings) -> None:
    store = FeatureStore(settings.model_copy(update={"online_store_url": SecretStr(own_redis.url)}))
    store.apply()
    store.push_states(at(7))
    calls: list[Callable[[], Any]] = [
        lambda: store.online("u1"), lambda: store.push_states(at(8)), store.watermark().read,
        lambda: store.forget_states(at(7)),
    ]  # fmt: skip

    def check_failing() -> None:
        for call in calls:
            with within(2.5), pytest.raises(FeatureStoreError):
                call()

    own_redis.hang()
    check_failing()
    own_redis.go_on()
    assert store.online("u1")[0].position in (7, 8)
    own_redis.stop()
    check_failing()
    store.apply()
    own_redis.start()
    assert store.online("u1")[0] is None
    store.push_states(at(9))
    assert positions(store) == [9] * len(USERS)


def test_a_wrong_password_is_said_and_the_right_one_never_shown(own_redis: Any, settings: Settings) -> None:
    client = online_stores.redis_connection.connect(settings_at(settings, own_redis.url).online_address)
    client.config_set("requirepass", "a,$HOME=xyzzy@1e5")
    wrong = FeatureStore(settings_at(settings, own_redis.url.replace("//", "//:hush-hush@")))
    wrong.apply()
    with pytest.raises(FeatureStoreError, match="password") as caught:
        wrong.online("u1")
    assert "hush-hush" not in str(caught.value)
    right = settings_at(settings, own_redis.url.replace("//", "//:a%2C%24HOME%3Dxyzzy%401e5@"))
    store = FeatureStore(right)
    store.push_states(at(3))
    assert positions(store) == [3] * len(USERS)
    assert "xyzzy" not in repr([right, right.online_address, store._opened[0].config])


def settings_at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"online_store_url": SecretStr(url)})


@in_either_store
def test_many_rows_are_written_in_parts(
    settings: Settings, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_stores, "REDIS_ROWS", 3)
    store.push_states([UserState(f"many{number}", 1 + number) for number in range(10)])
    store.push_states([UserState(f"many{number}", 6) for number in range(10)])
    found = store.states([f"many{number}" for number in range(10)])
    assert [state.position for state in found.values()] == [6, 6, 6, 6, 6, 6, 7, 8, 9, 10]


def test_the_later_of_equals_and_the_newest_of_all_is_taken(store: FeatureStore) -> None:
    first = UserState("u", 5, seen=("first",))
    store.push_states([replace(first, position=4), first, replace(first, seen=("second",)), replace(first, position=3)])
    assert store.online("u")[0] == replace(first, seen=("second",))
    assert isinstance(store._opened[0].provider.online_store, WalSqliteOnlineStore)


@pytest.mark.parametrize("settings", ["redis"], indirect=True)
def test_a_store_aside_stays_out_of_redis(store: FeatureStore, settings: Settings) -> None:
    store.push_states(at(7))
    before = dump(settings)
    nobody, nothing = (
        pd.DataFrame(columns=[key, *features]).assign(event_timestamp=pd.to_datetime([], utc=True))
        for key, features in (("user_id", USER_STATS), ("item_id", ITEM_STATS))
    )
    with store.over(nobody, nothing) as aside:
        aside.push_states(at(9))
        assert positions(aside) == [9] * len(USERS)
    assert dump(settings) == before
