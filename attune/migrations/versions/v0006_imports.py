"""Which events came in by which import, and which quarantined rows are settled.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Imports of before are not listed and cannot be withdrawn; every quarantined row is open."""
    op.create_table(
        "imports",
        sa.Column("id", WHOLE, primary_key=True, autoincrement=True),
        sa.Column("source", WORDS, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("started_at", WHOLE, nullable=False),
        sa.Column("ended_at", WHOLE),
        sa.Column("counts", sa.Text, nullable=False),
    )
    op.create_table(
        "import_runs",
        sa.Column("import_id", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("first", WHOLE, primary_key=True, autoincrement=False),
        sa.Column("last", WHOLE, nullable=False),
    )
    op.add_column("quarantine", sa.Column("import_id", WHOLE))
    op.add_column("quarantine", sa.Column("settled", WORDS))


def downgrade() -> None:
    """The list of imports is lost; events and quarantined rows stay."""
    op.drop_column("quarantine", "settled")
    op.drop_column("quarantine", "import_id")
    op.drop_table("import_runs")
    op.drop_table("imports")
