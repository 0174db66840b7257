"""The archive's tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text

HEAD = "0001"
"""The newest migration, known without importing Alembic."""

metadata = MetaData()

workspaces = Table(
    "workspaces",
    metadata,
    Column("team", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("team", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("real_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("is_bot", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

channels = Table(
    "channels",
    metadata,
    Column("team", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("members", JSON, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

# `at`, `edited` and `as_of` are microseconds since the epoch: Slack's timestamps as text don't sort.
messages = Table(
    "messages",
    metadata,
    Column("team", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("ts", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("user", Text),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("thread_ts", Text),
    Column("subtype", Text),
    Column("kind", Text, nullable=False),
    Column("edited", BigInteger, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("raw", Text, nullable=False),
    Index("messages_by_time", "team", "channel", "at", "ts"),
    Index("messages_by_thread", "team", "channel", "thread_ts"),
    Index("messages_by_user", "team", "user", "kind", "at"),
)

consent = Table(
    "consent",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("team", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("by", Text, nullable=False),
    Index("consent_by_user", "team", "user_id", "id"),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("version", Text),
    Column("question", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("liked", Boolean),
    Column("comment", Text, nullable=False),
    sqlite_autoincrement=True,
)

imports = Table(
    "imports",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("counts", JSON, nullable=False),
    sqlite_autoincrement=True,
)
