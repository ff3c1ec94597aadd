"""The tables of the event log, the promotions and the API keys, once, for SQLite and PostgreSQL alike.

``attune/migrations`` creates them; a test holds the migrated schema to these definitions.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

SCHEMA_VERSION = "0005"
"""The newest migration: what this code reads and writes."""

metadata = MetaData()

WHOLE = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both (SQLite's INTEGER is 64 bits wide, and as a primary key it is the row id itself)."""

WORDS = Text().with_variant(Text(collation="C"), "postgresql")
"""Text ordered by its bytes on both."""

IN_TAIL = text("type IN ('interaction', 'feedback', 'user')")
"""The events that make up a user's state. Literal, since a partial index serves only its very condition."""

OF_ITEMS = text("type = 'item'")
"""The events that describe items; literal for the same reason."""

EXPLORING = text("type = 'slate' AND value > 0")
"""The slates that spent of a budget for exploration; of a slate, ``value`` is how many positions they spent."""

STANDING = text("revoked_at IS NULL")
"""The keys that were not revoked."""

events = Table(
    "events",
    metadata,
    Column("position", WHOLE, primary_key=True, autoincrement=False),
    Column("logged_at", WHOLE, nullable=False),
    Column("type", WORDS, nullable=False),
    Column("event_id", WORDS, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("user_id", WORDS),
    Column("item_id", WORDS),
    Column("kind", WORDS),
    Column("value", Double),
    Column("slate_id", WORDS),
    Column("retracts", WORDS),
    Column("event_timestamp", WHOLE, nullable=False),
    Column("payload", Text),
    Index("events_by_id", "event_id", unique=True),
    Index("events_tail", "user_id", "position", sqlite_where=IN_TAIL, postgresql_where=IN_TAIL),
    Index("events_items", "position", sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS),
    Index("events_item_versions", "item_id", "position", sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS),
    Index("events_explored", "user_id", "event_timestamp", sqlite_where=EXPLORING, postgresql_where=EXPLORING),
)

log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="log_head_one_row"), primary_key=True, autoincrement=False),
    Column("position", WHOLE, nullable=False),
    Column("log_id", WORDS, nullable=False),
)
"""One row: the last position given out (whoever appends holds it until the commit), and which log this is: a random
word from when its tables were made, by which what was derived from another log is told apart."""

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", WHOLE, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False),
    Column("source", WORDS, nullable=False),
    Column("type", WORDS, nullable=False),
    Column("row_number", WHOLE, nullable=False),
    Column("field", WORDS),
    Column("reason", Text, nullable=False),
    Column("row", Text, nullable=False),
    Column("stored_at", WHOLE, nullable=False),
    Index("quarantine_by_digest", "digest", unique=True),
)

promotions = Table(
    "promotions",
    metadata,
    Column("endpoint", WORDS, primary_key=True),
    Column("fence", WHOLE, primary_key=True, autoincrement=False),
    Column("version", WORDS, nullable=False),
    Column("previous", WORDS),
    Column("action", WORDS, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", WHOLE, nullable=False),
    Column("bundle_digest", WORDS),
)

leases = Table(
    "promotion_leases",
    metadata,
    Column("endpoint", WORDS, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("fence", WHOLE, nullable=False),
    Column("expires_at", WHOLE, nullable=False),
)
"""One row an endpoint; it stays when a lease ends, so that fences only grow."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", WORDS, primary_key=True),
    Column("name", WORDS, nullable=False),
    Column("scopes", WORDS, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("revoked_at", WHOLE),
    Column("rate", Double),
    Column("burst", WHOLE),
    Index("api_keys_by_name", "name", unique=True, sqlite_where=STANDING, postgresql_where=STANDING),
)
"""One row a key, for ever: a name that is free again is given to another key, an id never. ``scopes`` are words
between spaces; ``rate`` and ``burst`` are null where the installation's hold."""
