"""Since when events keep the archive current, and when a channel was last read through."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a column and a table."""
    op.add_column("sync_channels", sa.Column("checked_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "listening",
        sa.Column("team", Key, primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
