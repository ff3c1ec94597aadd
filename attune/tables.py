"""The tables, for SQLite and PostgreSQL alike; ``attune/migrations`` creates them, and a test compares the two."""

import sqlalchemy as sa

SCHEMA_VERSION = "0006"
"""The newest migration: what this code reads and writes."""

metadata = sa.MetaData()

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits on both (SQLite's INTEGER is 64 bits wide, and as a primary key it is the row id itself)."""

WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text ordered by its bytes on both."""

IN_TAIL = sa.text("type IN ('interaction', 'feedback', 'user')")
"""The events that make up a user's state. Literal, since a partial index serves only its very condition."""

OF_ITEMS = sa.text("type = 'item'")
"""The events that describe items; literal for the same reason."""

EXPLORING = sa.text("type = 'slate' AND value > 0")
"""The slates that spent of a budget for exploration; of a slate, ``value`` is how many positions they spent."""

STANDING = sa.text("revoked_at IS NULL")
"""The keys that were not revoked."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("position", WHOLE, primary_key=True, autoincrement=False),
    sa.Column("logged_at", WHOLE, nullable=False),
    sa.Column("type", WORDS, nullable=False),
    sa.Column("event_id", WORDS, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("user_id", WORDS),
    sa.Column("item_id", WORDS),
    sa.Column("kind", WORDS),
    sa.Column("value", sa.Double),
    sa.Column("slate_id", WORDS),
    sa.Column("retracts", WORDS),
    sa.Column("event_timestamp", WHOLE, nullable=False),
    sa.Column("payload", sa.Text),
    sa.Index("events_by_id", "event_id", unique=True),
    sa.Index("events_tail", "user_id", "position", sqlite_where=IN_TAIL, postgresql_where=IN_TAIL),
    sa.Index("events_items", "position", sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS),
    sa.Index("events_item_versions", "item_id", "position", sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS),
    sa.Index("events_explored", "user_id", "event_timestamp", sqlite_where=EXPLORING, postgresql_where=EXPLORING),
)

log_head = sa.Table(
    "log_head",
    metadata,
    sa.Column(
        "id", sa.Integer, sa.CheckConstraint("id = 1", name="log_head_one_row"), primary_key=True, autoincrement=False
    ),
    sa.Column("position", WHOLE, nullable=False),
    sa.Column("log_id", WORDS, nullable=False),
)
"""One row: the last position given out (whoever appends holds it until the commit), and which log this is: a random
word from when its tables were made, by which what was derived from another log is told apart."""

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", WHOLE, primary_key=True, autoincrement=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("source", WORDS, nullable=False),
    sa.Column("type", WORDS, nullable=False),
    sa.Column("row_number", WHOLE, nullable=False),
    sa.Column("field", WORDS),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("row", sa.Text, nullable=False),
    sa.Column("stored_at", WHOLE, nullable=False),
    sa.Column("import_id", WHOLE),
    sa.Column("settled", WORDS),
    sa.Index("quarantine_by_digest", "digest", unique=True),
)
"""A row is open until it is ``settled``: mended, or withdrawn with its import."""

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("id", WHOLE, primary_key=True, autoincrement=True),
    sa.Column("source", WORDS, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("state", WORDS, nullable=False),
    sa.Column("started_at", WHOLE, nullable=False),
    sa.Column("ended_at", WHOLE),
    sa.Column("counts", sa.Text, nullable=False),
)
"""One row an import; ``options`` and ``counts`` are JSON."""

import_runs = sa.Table(
    "import_runs",
    metadata,
    sa.Column("import_id", WHOLE, primary_key=True, autoincrement=False),
    sa.Column("first", WHOLE, primary_key=True, autoincrement=False),
    sa.Column("last", WHOLE, nullable=False),
)
"""The positions that an import brought, ``first`` to ``last``; a row for each run of them."""

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("endpoint", WORDS, primary_key=True),
    sa.Column("fence", WHOLE, primary_key=True, autoincrement=False),
    sa.Column("version", WORDS, nullable=False),
    sa.Column("previous", WORDS),
    sa.Column("action", WORDS, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", WHOLE, nullable=False),
    sa.Column("bundle_digest", WORDS),
)

leases = sa.Table(
    "promotion_leases",
    metadata,
    sa.Column("endpoint", WORDS, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("fence", WHOLE, nullable=False),
    sa.Column("expires_at", WHOLE, nullable=False),
)
"""One row an endpoint; it stays when a lease ends, so that fences only grow."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", WORDS, primary_key=True),
    sa.Column("name", WORDS, nullable=False),
    sa.Column("scopes", WORDS, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", WHOLE, nullable=False),
    sa.Column("revoked_at", WHOLE),
    sa.Column("rate", sa.Double),
    sa.Column("burst", WHOLE),
    sa.Index("api_keys_by_name", "name", unique=True, sqlite_where=STANDING, postgresql_where=STANDING),
)
"""One row a key, for ever: a name that is free again is given to another key, an id never. ``scopes`` are words
between spaces; ``rate`` and ``burst`` are null where the installation's hold."""
