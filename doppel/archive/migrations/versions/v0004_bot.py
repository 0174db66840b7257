"""Guests; what the bot was asked, who answers where, and what it answered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a column and five tables."""
    op.add_column("users", sa.Column("is_guest", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "questions",
        sa.Column("team", Key, primary_key=True),
        sa.Column("event_id", Key, primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.JSON()),
        sa.Column("posted_ts", sa.Text()),
    )
    op.create_table(
        "voices",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("thread_ts", Key, primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("channel", Key, nullable=False),
        sa.Column("thread_ts", Key, nullable=False),
        sa.Column("asker", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text()),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
    )
    op.create_index("answers_by_thread", "answers", ["team", "channel", "thread_ts"])
    op.create_table(
        "consent_requests",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("posted_in", sa.Text(), nullable=False),
        sa.Column("posted_ts", sa.Text(), nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("team", Key, primary_key=True),
        sa.Column("job_id", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
    )
