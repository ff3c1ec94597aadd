"""The only caller of Feast: apply, write and join statistics, materialise, push and read users' states.

Feast's registry is one file. Whoever writes it (apply, materialise) works on a draft under a lock and renames the
draft at the end, so that readers in other processes only ever find a whole registry with every definition in it.
The online store is SQLite in WAL mode or a Redis: many processes read while the state keeper writes.
"""

import contextlib
import io
import json
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import feast
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RegistryConfig
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String, from_feast_to_pyarrow_type

from attune import redis_connection
from attune.clock import DAY, HOUR, SECOND, Clock, system_clock, to_datetime, to_iso
from attune.columns import ITEM_STATS, USER_STATS, Columns
from attune.errors import FeatureStoreError
from attune.files import locked, whole_file, write_whole
from attune.redis_connection import RedisAddress
from attune.settings import Settings
from attune.user_state import Recent, UserState
from features.online_stores import OrderedRedisOnlineStoreConfig, WalSqliteOnlineStoreConfig, prepare_sqlite

logger = logging.getLogger(__name__)

PROJECT = "attune"
JOIN_ROWS = 1_000_000
"""The most rows of one join: Feast pairs every row of an entity with every question about it, then filters by time."""
MATERIALIZE_ROWS = 200_000
USER_VIEW = "user_stats"
ITEM_VIEW = "item_stats"
STATE_VIEW = "user_state"
VIEWS = (USER_VIEW, ITEM_VIEW, STATE_VIEW)
STATE_PUSH = "user_state_push"
TRAINING_SERVICE = "training_v1"
SERVING_SERVICE = "serving_v1"
SERVICES = (TRAINING_SERVICE, SERVING_SERVICE)

STATE_FIELDS: dict[str, FeastType] = {
    "position": Int64,
    "events": Int64,
    "first_and_last_time": Array(Int64),
    "attributes": String,
    "seen": Array(String),
    "recent_event_ids": Array(String),
    "recent_item_ids": Array(String),
    "recent_kinds": Array(String),
    "recent_values": Array(Float64),
    "recent_times": Array(Int64),
    "recent_positions": Array(Int64),
    "recent_retracted": Array(Bool),
    "count_days": Array(Int64),
    "count_kinds": Array(String),
    "count_numbers": Array(Int64),
}
"""Facts alone, typed and in whole microseconds (Feast would cut its own timestamps to seconds). Absent values are NaN
in ``recent_values``; ``first_and_last_time`` is empty or holds both."""

STATS = {USER_VIEW: (Columns.USER_ID, HOUR, USER_STATS), ITEM_VIEW: (Columns.ITEM_ID, DAY, ITEM_STATS)}

ONLINE_FILE = "online.db"
WATERMARK_FILE, WATERMARK_KEY = "keeper.position", "attune:keeper.position"
NO_VALUE = float("nan")
RECENT_COLUMNS = tuple(name for name in STATE_FIELDS if name.startswith("recent_"))
"""The fields of ``attune.user_state.Recent``, in its order."""
_ENCODER = msgspec.json.Encoder(order="deterministic")


def definitions(folder: Path) -> list[Entity | FeatureView | FeatureService]:
    """All that is applied, in the order in which Feast wants it, over ``VIEW.parquet`` in ``folder`` (absolute).

    The view of states has no history: its offline file is an empty table, and the training service leaves it out.
    """
    user = Entity(name="user", join_keys=[Columns.USER_ID], value_type=ValueType.STRING)
    item = Entity(name="item", join_keys=[Columns.ITEM_ID], value_type=ValueType.STRING)
    files = {
        view: FileSource(name=f"{view}_file", path=f"{folder}/{view}.parquet", timestamp_field=Columns.EVENT_TIMESTAMP)
        for view in VIEWS
    }
    user_view, item_view = (
        FeatureView(
            name=view,
            entities=[entity],
            ttl=timedelta(0),
            schema=[Field(name=key, dtype=String), *(Field(name=feature, dtype=Float32) for feature in features)],
            source=files[view],
            online=True,
        )
        for view, entity, key, features in (
            (USER_VIEW, user, Columns.USER_ID, USER_STATS),
            (ITEM_VIEW, item, Columns.ITEM_ID, ITEM_STATS),
        )
    )
    state_fields = [Field(name=name, dtype=dtype) for name, dtype in STATE_FIELDS.items()]
    state_view = FeatureView(
        name=STATE_VIEW,
        entities=[user],
        ttl=timedelta(0),
        schema=[Field(name=Columns.USER_ID, dtype=String), *state_fields],
        source=PushSource(name=STATE_PUSH, batch_source=files[STATE_VIEW]),
        online=True,
    )
    training = FeatureService(name=TRAINING_SERVICE, features=[user_view, item_view])
    serving = FeatureService(name=SERVING_SERVICE, features=[state_view, user_view])
    return [user, item, user_view, item_view, state_view, training, serving]


def to_row(state: UserState) -> dict[str, Any]:
    """The state as one row of plain numbers, texts and lists for the online store; an event's absent value is NaN."""
    columns = list(zip(*state.recent, strict=True)) or [()] * len(RECENT_COLUMNS)
    recent = dict(zip(RECENT_COLUMNS, map(list, columns), strict=True))
    recent["recent_values"] = [NO_VALUE if value is None else value for value in recent["recent_values"]]
    known = state.first_time is not None and state.last_time is not None
    return {
        Columns.USER_ID: state.user_id,
        "position": state.position,
        "events": state.events,
        "first_and_last_time": [state.first_time, state.last_time] if known else [],
        "attributes": _ENCODER.encode(state.attributes).decode(),
        "seen": list(state.seen),
        **recent,
        "count_days": [day for day, _ in state.counts],
        "count_kinds": [kind for _, kind in state.counts],
        "count_numbers": list(state.counts.values()),
    }


def from_row(user_id: str, row: Mapping[str, Any]) -> UserState:
    """The state that ``to_row`` was given; an empty list may come back as None."""
    recent = {name: row[name] or () for name in RECENT_COLUMNS}
    recent["recent_values"] = [None if value != value else value for value in recent["recent_values"]]
    first, last = row["first_and_last_time"] or (None, None)
    buckets = zip(row["count_days"] or (), row["count_kinds"] or (), strict=True)
    return UserState(
        user_id=user_id,
        position=row["position"],
        recent=tuple(map(Recent, *recent.values())),
        seen=tuple(row["seen"] or ()),
        counts=dict(zip(buckets, row["count_numbers"] or (), strict=True)),
        events=row["events"],
        first_time=first,
        last_time=last,
        attributes=json.loads(row["attributes"]),
    )


class Watermark:
    """How far the state keeper has come: a log position and the id of the log that it counts in.

    It lies where the states lie, in Redis or beside the SQLite store, so that it is lost with them alone: then the
    keeper begins again at 0. ``str`` says where that is, ``remedy`` what to do when it is of another log.
    """

    def __init__(self, folder: Path, address: RedisAddress | None) -> None:
        self._path, self._address = folder / WATERMARK_FILE, address
        self._client = redis_connection.connect(address) if address else None
        restart = f"empty {address} (FLUSHDB) or name another in ATTUNE_ONLINE_STORE_URL, and start it again"
        self.remedy = restart if address else f"remove {folder} and apply again"

    def __str__(self) -> str:
        return f"{WATERMARK_KEY} in {self._address}" if self._address else str(self._path)

    def read(self) -> tuple[int, str]:
        """The position and the log's id; (0, "") where nothing was kept. Raises FeatureStoreError."""
        if self._client and self._address:
            with redis_connection.explained(self._address):
                stored = self._client.get(WATERMARK_KEY)
            note = stored.decode(errors="replace") if isinstance(stored, bytes) else ""
        else:
            note = self._path.read_text() if self._path.exists() else ""
        position, _, log_id = note.strip().partition(" ")
        return (int(position), log_id) if position.isdecimal() else (0, "")

    def write(self, position: int, log_id: str) -> None:
        """Replace both, whole or not at all. Raises FeatureStoreError."""
        if self._client and self._address:
            with redis_connection.explained(self._address):
                self._client.set(WATERMARK_KEY, f"{position} {log_id}")
        else:
            write_whole(self._path, f"{position} {log_id}\n")


class FeatureStore:
    """Feast over files in ``settings.feast_folder``; threads may share one, processes open their own.

    Building one touches nothing. Reading before ``apply`` was called once raises FeatureStoreError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = settings.feast_folder.resolve()
        self._opened: tuple[feast.FeatureStore, dict[str, feast.FeatureService]] | None = None
        self._opening = threading.Lock()

    @property
    def keeper_folder(self) -> Path:
        """Where the state keeper keeps its lock, and its watermark beside a SQLite store."""
        return self.folder / "online"

    def watermark(self) -> Watermark:
        """The state keeper's."""
        return Watermark(self.keeper_folder, self._settings.online_address)

    def apply(self) -> None:
        """Register the definitions, make the tables and the empty files; may be called again."""
        for folder in ("offline", "online"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        if self._settings.online_address is None:
            prepare_sqlite(self.keeper_folder / ONLINE_FILE, f"{PROJECT}_{STATE_VIEW}")
        for view in VIEWS:
            if not self._file(view).exists():
                _write_parquet(_empty_table(view), self._file(view))
        with self._drafted_registry() as store:
            store.apply(definitions(self.folder / "offline"))  # type: ignore[arg-type]

    def write_stats(self, user_frame: pd.DataFrame, item_frame: pd.DataFrame) -> None:
        """Replace the views' offline rows by these (``features.stats``); a reader finds the old or the new file."""
        for view, frame in ((USER_VIEW, user_frame), (ITEM_VIEW, item_frame)):
            schema = _empty_table(view).schema
            table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
            _write_parquet(table, self._file(view))

    @contextlib.contextmanager
    def over(self, user_frame: pd.DataFrame, item_frame: pd.DataFrame) -> Iterator["FeatureStore"]:
        """A store of the same definitions over these offline rows, for joins; gone at the end of the block.

        It lies in a folder of its own, so what ``write_stats`` and ``materialize`` brought here stays as it is.
        One at a time; who comes second waits.
        """
        folder = self.folder / "aside"
        with locked(folder / ".lock"):
            var = folder / "var"
            shutil.rmtree(var, ignore_errors=True)  # of a process that was killed
            aside = FeatureStore(self._settings.model_copy(update={"var": var, "online_store_url": None}))
            aside.apply()
            aside.write_stats(user_frame, item_frame)
            try:
                yield aside
            finally:
                shutil.rmtree(var, ignore_errors=True)

    def materialize_all(self, clock: Clock = system_clock) -> dict[str, Any]:
        """Materialise from the first stamp of the offline rows up to now; the window, as ISO 8601, for reports."""
        stamps = np.concatenate([self._stamps(view) for view in STATS])
        start, end = int(stamps.min(initial=clock())), clock()
        self.materialize(start, end)
        return {"online_from": to_iso(start), "online_upto": to_iso(end)}

    def materialize(self, start: int, end: int) -> None:
        """Bring the latest rows stamped in [start, end] (microseconds) to the online store, both named views.

        A window that ends before what is online already is stretched to that end: an older row never replaces a
        newer one. Large windows are cut into parts of at most ``MATERIALIZE_ROWS`` rows.
        """
        with self._drafted_registry() as store:
            for view in STATS:
                latest = store.get_feature_view(view).most_recent_end_time
                until = max(to_datetime(end), latest) if latest else to_datetime(end)
                stamps = self._stamps(view)
                cuts = map(to_datetime, stamps[stamps > start][MATERIALIZE_ROWS::MATERIALIZE_ROWS].tolist())
                edges = [to_datetime(start), *sorted({cut for cut in cuts if cut < until}), until]
                for left, right in pairwise(edges):
                    progress = io.StringIO()  # Feast prints it; here it goes to the log
                    with contextlib.redirect_stdout(progress), contextlib.redirect_stderr(progress):
                        store.materialize(left, right, feature_views=[view])
                    logger.debug("materialise %s: %s", view, progress.getvalue())

    def historical(self, entity_frame: pd.DataFrame) -> pd.DataFrame:
        """The statistics as they stood strictly before each event's second.

        ``entity_frame`` has event_id, user_id, item_id and event_timestamp (int64 microseconds); the answer has
        event_id, ``USER_STATS`` and ``ITEM_STATS`` (float32, NaN where nothing was known), in the same order.
        """
        before = (entity_frame[Columns.EVENT_TIMESTAMP].to_numpy(np.int64) // SECOND - 1) * SECOND
        joined = entity_frame[[Columns.EVENT_ID]].reset_index(drop=True)
        with _wrapped("read the training service"):
            _, services = self._open()
        for view in services[TRAINING_SERVICE].feature_view_projections:
            key, bucket, features = STATS[view.name]
            frame = self._as_of(view.name, entity_frame[key].to_numpy(object), before // bucket * bucket)
            joined[list(features)] = frame[list(features)].to_numpy(np.float32)
        return joined

    def item_stats_at(self, item_ids: Sequence[str], moment: int) -> pd.DataFrame:
        """``ITEM_STATS`` of the items as known at ``moment`` (microseconds), float32, in the order of the ids."""
        frame = self._as_of(ITEM_VIEW, np.asarray(item_ids, object), moment // DAY * DAY)
        return frame[[Columns.ITEM_ID, *ITEM_STATS]].astype(dict.fromkeys(ITEM_STATS, np.float32))

    def push_states(self, states: Sequence[UserState]) -> None:
        """Write the states, but for those whose log position is older than what is online by then, whoever wrote it.

        A state's timestamp in Feast is its log position, in microseconds since 1970, because it grows with every event.
        The time of the user's last event does not (an event may come late): a newer state would count as the older one.
        """
        if not states:
            return
        frame = pd.DataFrame([to_row(state) for state in states])
        frame[Columns.EVENT_TIMESTAMP] = [to_datetime(state.position) for state in states]
        with _wrapped("push states"):
            self._open()[0].push(STATE_PUSH, frame)

    def forget_states(self, states: Sequence[UserState]) -> None:
        """Remove states of another log, whose positions may be ahead; a state replaced meanwhile stays."""
        if not states:
            return
        key = partial(EntityKey, join_keys=[Columns.USER_ID])
        rows = [(key(entity_values=[Value(string_val=row.user_id)]), to_datetime(row.position)) for row in states]
        with _wrapped("forget states"):
            store, _ = self._open()
            online: Any = store.provider.online_store  # type: ignore[attr-defined]
            online.forget(store.config, store.get_feature_view(STATE_VIEW), rows)

    def states(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """The states of those users that have one."""
        rows = self._online([f"{STATE_VIEW}:{name}" for name in STATE_FIELDS], user_ids)
        pairs = zip(user_ids, rows, strict=True)
        return {user_id: from_row(user_id, row) for user_id, row in pairs if row["position"] is not None}

    def online(self, user_id: str) -> tuple[UserState | None, np.ndarray]:
        """One user's state as last pushed (or None) and ``USER_STATS`` as last materialised, in one read.

        The statistics are float32 of shape (F,), NaN where nothing is known.
        """
        return self.online_many([user_id])[0]

    def online_many(self, user_ids: Sequence[str]) -> list[tuple[UserState | None, np.ndarray]]:
        """``online`` of each, in one read for all: what serving needs to answer requests."""
        rows = self._online(SERVING_SERVICE, user_ids)
        stats = [[np.nan if row[name] is None else row[name] for name in USER_STATS] for row in rows]
        return [
            (None if row["position"] is None else from_row(user_id, row), np.array(stats_F, np.float32))
            for user_id, row, stats_F in zip(user_ids, rows, stats, strict=True)
        ]

    def _online(self, features: str | list[str], user_ids: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each user; ``features`` names a service, or lists features."""
        if not user_ids:
            return []
        with _wrapped("read the online store"):
            store, services = self._open()
            wanted = services[features] if isinstance(features, str) else features
            answer = store.get_online_features(wanted, {Columns.USER_ID: list(user_ids)}).to_dict()
        return [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]

    def _as_of(self, view: str, ids: np.ndarray, moments: Any) -> pd.DataFrame:
        """The view's latest row of each id at or before its moment, in the order of the ids; NaN where there is none.

        ``moments`` is one for all, or an array of one for each (int64 microseconds).
        """
        key, _, features = STATS[view]
        wanted = pd.DataFrame({key: ids, "moment": moments})
        references = [f"{view}:{name}" for name in features]
        parts = [wanted.iloc[:0].assign(**dict.fromkeys(features, np.float32(0)))]
        counts = pq.read_table(self._file(view), columns=[key])[0].value_counts()
        lengths = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        stored = wanted.drop_duplicates()
        stored = stored.assign(cost=stored[key].map(lengths)).dropna(subset=["cost"])
        places = (stored["cost"].cumsum() // JOIN_ROWS).to_numpy()
        for _, part in stored.drop(columns="cost").groupby(places, sort=True):
            stamps = pd.to_datetime(part["moment"].to_numpy(np.int64), unit="us", utc=True)
            frame = part.assign(**{Columns.EVENT_TIMESTAMP: stamps})
            with _wrapped(f"join {view}"):
                joined = self._open()[0].get_historical_features(entity_df=frame, features=references).to_df()
            parts.append(joined.drop(columns=[Columns.EVENT_TIMESTAMP]))
        known = pd.concat(parts, ignore_index=True)
        return wanted.merge(known, how="left", on=[key, "moment"], validate="many_to_one")

    def _open(self) -> tuple[feast.FeatureStore, dict[str, feast.FeatureService]]:
        """Feast's store, and the services by name: looking one up costs a millisecond, more than a read."""
        opened = self._opened
        if opened is None:
            with self._opening:
                registry = self.folder / "registry.db"
                if not registry.exists():
                    raise FeatureStoreError(f"{registry}: the feature store was not applied yet; call apply first")
                store = self._feast(registry)
                opened = self._opened = store, {name: store.get_feature_service(name) for name in SERVICES}
        return opened

    def _feast(self, registry: Path) -> feast.FeatureStore:
        address = self._settings.online_address
        file = WalSqliteOnlineStoreConfig(path=str(self.keeper_folder / ONLINE_FILE))
        config = feast.RepoConfig(
            project=PROJECT,
            provider="local",
            registry=RegistryConfig(path=str(registry), cache_ttl_seconds=0),
            online_store=OrderedRedisOnlineStoreConfig(address=address) if address else file,
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
            repo_path=self.folder,
        )
        return feast.FeatureStore(config=config)

    @contextlib.contextmanager
    def _drafted_registry(self) -> Iterator[feast.FeatureStore]:
        registry = self.folder / "registry.db"
        with locked(self.folder / ".lock"), _wrapped("write the registry"), whole_file(registry) as draft:
            if registry.exists():
                shutil.copyfile(registry, draft)
            yield self._feast(draft)
        self._opened = None

    def _stamps(self, view: str) -> np.ndarray:
        stamps = pq.read_table(self._file(view), columns=[Columns.EVENT_TIMESTAMP])[0].to_numpy()
        return np.sort(stamps.astype("datetime64[us]").astype(np.int64))

    def _file(self, view: str) -> Path:
        return self.folder / "offline" / f"{view}.parquet"


def _empty_table(view: str) -> pa.Table:
    stamp = (Columns.EVENT_TIMESTAMP, pa.timestamp("us", "UTC"))
    if view == STATE_VIEW:
        fields = ((name, from_feast_to_pyarrow_type(dtype)) for name, dtype in STATE_FIELDS.items())
        return pa.schema([(Columns.USER_ID, pa.string()), stamp, *fields]).empty_table()
    key, _, features = STATS[view]
    return pa.schema([(key, pa.string()), stamp, *((name, pa.float32()) for name in features)]).empty_table()


def _write_parquet(table: pa.Table, path: Path) -> None:
    with whole_file(path) as draft:
        pq.write_table(table, draft, row_group_size=max(len(table), 1))


@contextlib.contextmanager
def _wrapped(step: str) -> Iterator[None]:
    try:
        yield
    except FeatureStoreError:
        raise
    except Exception as error:
        raise FeatureStoreError(f"could not {step}: {type(error).__name__}: {error}") from error
