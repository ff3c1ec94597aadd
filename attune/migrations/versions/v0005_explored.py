"""How much a user's slates explored is found without reading them: only slates that spent of a budget are in the index.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

EXPLORING = sa.text("type = 'slate' AND value > 0")


def upgrade() -> None:
    """Reads the log once; no slate of before has a value, and one without a budget never will."""
    op.create_index(
        "events_explored",
        "events",
        ["user_id", "event_timestamp"],
        sqlite_where=EXPLORING,
        postgresql_where=EXPLORING,
    )


def downgrade() -> None:
    """Nothing is lost: each slate says it in its policy as well."""
    op.drop_index("events_explored", "events")
