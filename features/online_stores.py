"""Feast's online stores, SQLite and Redis, in which an older row never replaces a newer one, whoever writes.

Rows are compared by the timestamps that they carry: a strictly older one is left out, one of the same timestamp
replaces what is there (statistics are corrected within their bucket; a state of the same position is the same state).
Comparing and writing are one step towards other writers, in this process or in another. What is stored is laid out
exactly as Feast lays it out.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pysqlite3.dbapi2 as sqlite
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, compute_table_id, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware, to_naive_utc
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis

from attune import redis_connection
from attune.redis_connection import RedisAddress

BUSY_SECONDS = 30.0
SCHEMA = 1
"""Of the SQLite file, kept as its ``user_version``; 0: states were stamped by their last event's time."""
REDIS_ROWS = 1_000
"""Rows sent to Redis at a time: its answers are awaited for a second."""

WRITE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""
"""Writes an entity's row unless another writer has changed its timestamp since it was read ('': there was none)."""
FORGET = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
return 1
"""

Progress = Callable[[int], Any] | None


class Row(NamedTuple):
    """One entity's values in one view, as Feast hands them over."""

    entity: EntityKey
    values: dict[str, Value]
    timestamp: datetime
    created: datetime | None


class _Connection(sqlite.Connection):
    """Raises the errors of Python's own module: they are the ones that Feast catches."""

    def execute(self, *arguments: Any) -> Any:
        try:
            return super().execute(*arguments)
        except sqlite.OperationalError as error:
            raise sqlite3.OperationalError(str(error)) from error


class WalSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store over a newer SQLite (3.40 may corrupt a WAL file), one connection a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def _get_conn(self, config: RepoConfig) -> Any:
        if not hasattr(self._local, "connection"):
            path = self._get_db_path(config)
            self._local.connection = sqlite.connect(path, BUSY_SECONDS, sqlite.PARSE_DECLTYPES, factory=_Connection)
        return self._local.connection

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[tuple[Any, ...]], progress: Progress
    ) -> None:
        """As Feast's, of the rows that are not older than what is stored; nobody else writes in between."""
        newest, name = _newest(config, data), _sqlite_table(config, table)
        with self._writing(config) as connection:
            fresh = [row for key, row in newest.items() if _moment(row.timestamp) >= _stored(connection, name, key)]
            super().online_write_batch(config, table, list(fresh), progress)  # commits at its end
        if progress:
            progress(len(data) - len(fresh))

    def forget(self, config: RepoConfig, table: FeatureView, rows: Iterable[tuple[EntityKey, datetime]]) -> None:
        """Take the entities' rows out that still carry these timestamps."""
        name = _sqlite_table(config, table)
        with self._writing(config) as connection:
            for entity, timestamp in rows:
                key = (_entity_key(config, entity), _moment(timestamp))
                connection.execute(f'DELETE FROM "{name}" WHERE entity_key = ? AND event_ts = ?', key)
            connection.commit()

    @contextlib.contextmanager
    def _writing(self, config: RepoConfig) -> Iterator[Any]:
        """The connection with the file's one write lock; rolled back unless it was committed inside."""
        connection = self._get_conn(config)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        finally:
            connection.rollback()


class WalSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    type: str = "features.online_stores.WalSqliteOnlineStore"  # type: ignore[assignment]


class OrderedRedisOnlineStore(RedisOnlineStore):
    """Feast's Redis store with a client that does not wait long, and with comparing and writing in one step.

    Feast itself compares and then writes: of two writers the slower one wins, with whatever it has. It also leaves out
    rows of the timestamp that is stored.
    """

    def _get_client(self, online_store_config: Any) -> Redis:
        if not isinstance(self._client, Redis):
            self._client = redis_connection.connect(online_store_config.address)
        return self._client

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[tuple[Any, ...]], progress: Progress
    ) -> None:
        """Write the rows that are not older than what is stored, in Feast's own layout."""
        client = self._get_client(config.online_store)
        view = _redis_view(config, table)
        rows = {key + config.project.encode(): row for key, row in _newest(config, data).items()}
        keys = iter(rows)
        while part := list(islice(keys, REDIS_ROWS)):
            while part:
                part = self._write(client, view, {key: rows[key] for key in part})
        if progress:
            progress(len(data))

    def _write(self, client: Redis, view: str, rows: Mapping[bytes, Row]) -> list[bytes]:
        """One attempt; the keys of the rows that another writer came between, who thereby came further."""
        stored = self._timestamps(client, view, list(rows))
        moments = {key: Timestamp.FromString(stamp).ToNanoseconds() for key, stamp in stored.items()}
        fresh = {key: row for key, row in rows.items() if _proto(row.timestamp).ToNanoseconds() >= moments[key]}
        with client.pipeline(transaction=False) as pipe:
            for key, row in fresh.items():
                fields: list[str | bytes] = [_stamp_field(view), _proto(row.timestamp).SerializeToString()]
                for name, value in row.values.items():
                    fields += [_mmh3(f"{view}:{name}"), value.SerializeToString()]
                pipe.eval(WRITE, 1, key, _stamp_field(view), stored[key], *fields)
            written = pipe.execute()
        return [key for key, done in zip(fresh, written, strict=True) if not done]

    def _timestamps(self, client: Redis, view: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored timestamp of each, as Feast wrote it; empty, which reads as 0, where there is none."""
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, _stamp_field(view))  # type: ignore[arg-type]
            return {key: stamp or b"" for key, stamp in zip(keys, pipe.execute(), strict=True)}

    def forget(self, config: RepoConfig, table: FeatureView, rows: Iterable[tuple[EntityKey, datetime]]) -> None:
        """Take the entities' rows out that still carry these timestamps."""
        view = _redis_view(config, table)
        fields = [_stamp_field(view), *(_mmh3(f"{view}:{feature.name}") for feature in table.features)]
        with self._get_client(config.online_store).pipeline(transaction=False) as pipe:
            for entity, timestamp in rows:
                stamp = _proto(timestamp).SerializeToString()
                key = _entity_key(config, entity) + config.project.encode()
                pipe.eval(FORGET, 1, key, fields[0], stamp, *fields)
            pipe.execute()


class OrderedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """As Feast's own; the address stands in place of its connection string, which would show the password."""

    type: str = "features.online_stores.OrderedRedisOnlineStore"  # type: ignore[assignment]
    address: RedisAddress


def prepare_sqlite(path: Path, states: str) -> None:
    """Make the file, in WAL mode; states (in the table of that name) of an older attune become older than any new one.

    They were stamped by the time of their last event, which is later than any log position taken as a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite.connect(path, timeout=BUSY_SECONDS)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        if database.execute("PRAGMA user_version").fetchone()[0] >= SCHEMA:
            return
        with database:
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (states,)).fetchone():
                database.execute(f'UPDATE "{states}" SET event_ts = ?', ("1970-01-01 00:00:00",))
            database.execute(f"PRAGMA user_version = {SCHEMA}")


def _newest(config: RepoConfig, data: Sequence[tuple[Any, ...]]) -> dict[bytes, Row]:
    """The newest row of each entity, by its key; of two with the same timestamp the later."""
    newest: dict[bytes, Row] = {}
    for row in map(Row._make, data):
        key = _entity_key(config, row.entity)
        if key not in newest or make_tzaware(row.timestamp) >= make_tzaware(newest[key].timestamp):
            newest[key] = row
    return newest


def _entity_key(config: RepoConfig, entity: EntityKey) -> bytes:
    return serialize_entity_key(entity, entity_key_serialization_version=config.entity_key_serialization_version)


def _proto(timestamp: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(make_tzaware(timestamp))
    return stamp


def _sqlite_table(config: RepoConfig, table: FeatureView) -> str:
    return compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)


def _moment(timestamp: datetime) -> str:
    """As SQLite's column holds it; texts of this form are ordered as their moments are."""
    return to_naive_utc(timestamp).isoformat(" ")


def _stored(connection: Any, table: str, key: bytes) -> str:
    """The stored timestamp of one entity; empty, before any, where there is none."""
    row = connection.execute(f'SELECT max(event_ts) FROM "{table}" WHERE entity_key = ?', (key,)).fetchone()
    return str(row[0] or "")


def _redis_view(config: RepoConfig, table: FeatureView) -> str:
    return compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)


def _stamp_field(view: str) -> str:
    return f"_ts:{view}"
