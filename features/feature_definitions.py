"""What Feast is told: two entities, two views over statistics, one push-only view of users' states, two services.

The state view holds facts only, typed and in whole microseconds (Feast would cut its own timestamps to seconds).
It has no history: its offline file is an empty table, and the training service leaves it out.
"""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String

from attune.columns import ITEM_STATS, USER_STATS, Columns

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
"""Absent values are NaN in ``recent_values``; ``first_and_last_time`` is empty or holds both."""


def definitions(folder: Path) -> list[Entity | FeatureView | FeatureService]:
    """All that is applied, in the order in which Feast wants it, over ``VIEW.parquet`` in ``folder`` (absolute)."""
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
