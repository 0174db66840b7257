"""Of when each field of a channel is known, who joined or left since, and what waits for an import."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add tables; what is there is known of when it was seen last, and members are read again by the next sync."""
    op.create_table(
        "channel_versions",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("name", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False),
        sa.Column("archived", sa.BigInteger(), nullable=False),
        sa.Column("members", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "memberships",
        sa.Column("team", Key, primary_key=True),
        sa.Column("channel", Key, primary_key=True),
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("is_member", sa.Boolean()),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "waiting",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("limit", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO channel_versions (team, channel, name, kind, archived, members) "
        "SELECT c.team, c.id, c.as_of, c.as_of, c.as_of, CASE WHEN CAST(c.members AS TEXT) = '[]' THEN -1 "
        "WHEN s.members_at > c.as_of THEN s.members_at ELSE c.as_of END "
        "FROM channels c LEFT JOIN sync_channels s ON s.team = c.team AND s.channel = c.id"
    )
    op.execute("UPDATE sync_channels SET members_at = 0")
