"""Every column name that frames and tables are accessed by, once."""


class Columns:
    """The names; a frame of events has the first block, the others add to it."""

    POSITION = "position"
    LOGGED_AT = "logged_at"
    TYPE = "type"
    EVENT_ID = "event_id"
    USER_ID = "user_id"
    ITEM_ID = "item_id"
    KIND = "kind"
    VALUE = "value"
    SLATE_ID = "slate_id"
    RETRACTS = "retracts"
    EVENT_TIMESTAMP = "event_timestamp"
    """Microseconds since the epoch as Int64, everywhere but inside Feast, which wants a timestamp."""
    PAYLOAD = "payload"

    REWARD = "reward"
    RANK = "rank"
    SCORE = "score"
    PROPENSITY = "propensity"
    MODEL_VERSION = "model_version"
    SERVED_BY = "served_by"

    TITLE = "title"
    YEAR = "year"
    GENRES = "genres"
    TEXT = "text"
    ATTRIBUTES = "attributes"
    AVAILABLE = "available"
    RETIRED = "retired"


USER_STATS = ("user_events", "user_mean_reward", "user_events_30d", "user_days_known")
"""Features of the view ``user_stats``: counts up to the last complete hour before the event."""

ITEM_STATS = ("item_events", "item_mean_reward", "item_events_90d", "item_days_known")
"""Features of the view ``item_stats``: counts up to the last complete day before the event."""

TRAIT_COLUMNS = ("whose", "id", "attribute", "value")
"""Of the traits beside a training set: an item's or a user's, its id, and one value of one attribute."""
