"""Items are found without reading the log: the latest of all, those after a position, the latest of one.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OF_ITEMS = sa.text("type = 'item'")


def upgrade() -> None:
    """Reads the log once; only events about items stand in these indexes, so no other event costs more to write."""
    op.create_index("events_items", "events", ["position"], sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS)
    op.create_index(
        "events_item_versions", "events", ["item_id", "position"], sqlite_where=OF_ITEMS, postgresql_where=OF_ITEMS
    )


def downgrade() -> None:
    """Nothing is lost."""
    op.drop_index("events_item_versions", "events")
    op.drop_index("events_items", "events")
