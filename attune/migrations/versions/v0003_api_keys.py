"""The keys that let people and services ask the endpoint.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
STANDING = sa.text("revoked_at IS NULL")


def upgrade() -> None:
    """An empty table: nobody has a key yet."""
    op.create_table(
        "api_keys",
        sa.Column("key_id", WORDS, primary_key=True),
        sa.Column("name", WORDS, nullable=False),
        sa.Column("scopes", WORDS, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("revoked_at", WHOLE),
        sa.Column("rate", sa.Double),
        sa.Column("burst", WHOLE),
    )
    op.create_index(
        "api_keys_by_name", "api_keys", ["name"], unique=True, sqlite_where=STANDING, postgresql_where=STANDING
    )


def downgrade() -> None:
    """Every key is lost: new ones have to be made and handed out."""
    op.drop_table("api_keys")
