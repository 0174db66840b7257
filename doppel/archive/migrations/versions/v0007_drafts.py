"""Replies drafted for people in their own manner."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "drafts",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("channel", Key, nullable=False),
        sa.Column("thread_ts", Key, nullable=False),
        sa.Column("answered_ts", Key, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("version", sa.Text()),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sent_ts", Key, nullable=False),
    )
    op.create_index("drafts_by_user", "drafts", ["team", "user_id", "at"])
