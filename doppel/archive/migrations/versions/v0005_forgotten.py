"""Who was to be forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "forgotten",
        sa.Column("team", Key, primary_key=True),
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True),
        sa.Column("messages", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
