"""What Feast is told: two entities, two views over statistics, one push-only view of users' states, two services.

The state view holds facts only, typed and in whole microseconds (Feast would cut its own timestamps to seconds).
It has no history: its offline file is an empty table, and the training service leaves it out.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String

from attune.columns import ITEM_STATS, USER_STATS, Columns

USER_VIEW = "user_stats"
ITEM_VIEW = "item_stats"
STATE_VIEW = "user_state"
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
"""Absent values are NaN in ``recent_values``; ``first_and_last_time`` is empty or holds both."""

_ARROW: dict[FeastType, pa.DataType] = {Int64: pa.int64(), Float64: pa.float64(), String: pa.string(), Bool: pa.bool_()}
STATE_ARROW: dict[str, pa.DataType] = {
    name: pa.list_(_ARROW[dtype.base_type]) if isinstance(dtype, Array) else _ARROW[dtype]
    for name, dtype in STATE_FIELDS.items()
}
"""The same as Arrow types, for the empty offline file."""


@dataclass(frozen=True)
class Definitions:
    """All that is applied, and the files that the views read."""

    entities: list[Entity]
    views: list[FeatureView]
    services: list[FeatureService]
    user_file: Path
    item_file: Path
    state_file: Path

    def everything(self) -> list[Entity | FeatureView | FeatureService]:
        """The objects in the order in which Feast wants them applied."""
        return [*self.entities, *self.views, *self.services]


def definitions(folder: Path) -> Definitions:
    """The definitions over Parquet files in ``folder`` (absolute)."""
    user = Entity(name="user", join_keys=[Columns.USER_ID], value_type=ValueType.STRING)
    item = Entity(name="item", join_keys=[Columns.ITEM_ID], value_type=ValueType.STRING)
    files = {name: folder / f"{name}.parquet" for name in (USER_VIEW, ITEM_VIEW, STATE_VIEW)}
    user_view = _stats_view(USER_VIEW, user, Columns.USER_ID, USER_STATS, files[USER_VIEW])
    item_view = _stats_view(ITEM_VIEW, item, Columns.ITEM_ID, ITEM_STATS, files[ITEM_VIEW])
    state_view = FeatureView(
        name=STATE_VIEW,
        entities=[user],
        ttl=timedelta(0),
        schema=[Field(name=Columns.USER_ID, dtype=String)]
        + [Field(name=name, dtype=dtype) for name, dtype in STATE_FIELDS.items()],
        source=PushSource(name=STATE_PUSH, batch_source=_file(STATE_VIEW, files[STATE_VIEW])),
        online=True,
    )
    services = [
        FeatureService(name=TRAINING_SERVICE, features=[user_view, item_view]),
        FeatureService(name=SERVING_SERVICE, features=[state_view, user_view]),
    ]
    return Definitions(
        [user, item], [user_view, item_view, state_view], services,
        files[USER_VIEW], files[ITEM_VIEW], files[STATE_VIEW],
    )  # fmt: skip


def _stats_view(name: str, entity: Entity, key: str, features: tuple[str, ...], path: Path) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=key, dtype=String)] + [Field(name=feature, dtype=Float32) for feature in features],
        source=_file(name, path),
        online=True,
    )


def _file(name: str, path: Path) -> FileSource:
    return FileSource(name=f"{name}_file", path=str(path), timestamp_field=Columns.EVENT_TIMESTAMP)
