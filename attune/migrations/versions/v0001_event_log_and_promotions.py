"""The event log, its head and quarantine, the promotions and their leases.

Spelled out rather than taken from ``attune.tables``: a migration never changes once it has run somewhere.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
RANDOM = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "replace(gen_random_uuid()::text, '-', '')"}
IN_TAIL = sa.text("type IN ('interaction', 'feedback', 'user')")


def upgrade() -> None:
    """Create everything and put the head at 0: an empty log."""
    _event_log()
    _quarantine()
    _promotions()


def downgrade() -> None:
    """Refused: an append-only log is not thrown away by a migration."""
    raise NotImplementedError("the first migration cannot be undone; remove the database instead")


def _event_log() -> None:
    op.create_table(
        "events",
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
    )
    op.create_index("events_by_id", "events", ["event_id"], unique=True)
    op.create_index("events_tail", "events", ["user_id", "position"], sqlite_where=IN_TAIL, postgresql_where=IN_TAIL)
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("log_id", WORDS, nullable=False),
        sa.CheckConstraint("id = 1", name="log_head_one_row"),
    )
    # Drawn by the database: the migration as SQL may be run for several.
    random = RANDOM[op.get_context().dialect.name]
    op.execute(f"INSERT INTO log_head (id, position, log_id) VALUES (1, 0, {random})")


def _quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", WHOLE, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("source", WORDS, nullable=False),
        sa.Column("type", WORDS, nullable=False),
        sa.Column("row_number", WHOLE, nullable=False),
        sa.Column("field", WORDS),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("row", sa.Text, nullable=False),
        sa.Column("stored_at", WHOLE, nullable=False),
    )
    op.create_index("quarantine_by_digest", "quarantine", ["digest"], unique=True)


def _promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column("endpoint", WORDS, primary_key=True),
        sa.Column("fence", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("version", WORDS, nullable=False),
        sa.Column("previous", WORDS),
        sa.Column("action", WORDS, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
    )
    op.create_table(
        "promotion_leases",
        sa.Column("endpoint", WORDS, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("fence", WHOLE, nullable=False),
        sa.Column("expires_at", WHOLE, nullable=False),
    )
