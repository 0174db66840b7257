"""How far Slack's API was read, and a number that grows with every change."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "changes",
        sa.Column("team", Key, primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "sync_channels",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("low", sa.BigInteger()),
        sa.Column("high", sa.BigInteger()),
        sa.Column("walk_low", sa.BigInteger()),
        sa.Column("walk_top", sa.BigInteger()),
        sa.Column("members_at", sa.BigInteger(), nullable=False),
        sa.Column("num_members", sa.Integer()),
    )
    op.create_table(
        "sync_threads",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("thread_ts", Key, primary_key=True),
        sa.Column("latest", sa.BigInteger(), nullable=False),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("sync_threads_by_latest", "sync_threads", ["team", "channel", "latest"])
