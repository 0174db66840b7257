"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "workspaces",
        sa.Column("team", Key, primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("real_name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("is_bot", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "channels",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("name", Key, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("ts", Key, primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("thread_ts", sa.Text(), nullable=True),
        sa.Column("subtype", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("edited", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
    )
    op.create_index("messages_by_thread", "messages", ["team", "channel", "thread_ts"])
    op.create_index("messages_by_time", "messages", ["team", "channel", "at", "ts"])
    op.create_index("messages_by_user", "messages", ["team", "user", "kind", "at"])
    op.create_table(
        "consent",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("consent_by_user", "consent", ["team", "user_id", "id"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("liked", sa.Boolean(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("imports")
    op.drop_table("feedback")
    op.drop_table("consent")
    op.drop_table("messages")
    op.drop_table("channels")
    op.drop_table("users")
    op.drop_table("workspaces")
