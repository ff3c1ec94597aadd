"""A promotion says which bundle it was of: a version's number alone means nothing where the registry was lost.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty in the promotions that were made before."""
    op.add_column("promotions", sa.Column("bundle_digest", WORDS))


def downgrade() -> None:
    """The digests are lost; the promotions stay."""
    op.drop_column("promotions", "bundle_digest")
