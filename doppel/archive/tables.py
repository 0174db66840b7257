"""The archive's tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, false

HEAD = "0016"
"""The newest migration, known without importing Alembic."""

RENDERING = 1
"""Counts the ways in which messages were read: rows of a workspace that were read in an earlier one are read again."""

Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is a key or sorts: by its bytes, as SQLite compares, whatever the language of a Postgres database."""

metadata = MetaData()

workspaces = Table(
    "workspaces",
    metadata,
    Column("team", Key, primary_key=True),
    Column("url", Text, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("rendering", Integer, nullable=False, default=RENDERING, server_default="0"),
)

users = Table(
    "users",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("real_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("is_bot", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("is_guest", Boolean, nullable=False, server_default=false()),
    Column("as_of", BigInteger, nullable=False),
)

channels = Table(
    "channels",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("name", Key, nullable=False),
    Column("kind", Text, nullable=False),
    Column("members", JSON, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

# What user groups are called, as of when it is known.
user_groups = Table(
    "user_groups",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

# The id that a channel had before, and the one it has `now`, as of when it is known.
moved_channels = Table(
    "moved_channels",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("now", Key, nullable=False),
    Column("as_of", BigInteger, nullable=False),
)

# Of when each field of a channel is known, in microseconds; -1 of what nothing told yet.
channel_versions = Table(
    "channel_versions",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("name", BigInteger, nullable=False),
    Column("kind", BigInteger, nullable=False),
    Column("archived", BigInteger, nullable=False),
    Column("members", BigInteger, nullable=False),
)

# Who joined a channel or left it since its list of members; NULL where that is uncertain.
memberships = Table(
    "memberships",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("user_id", Key, primary_key=True),
    Column("is_member", Boolean),
    Column("as_of", BigInteger, nullable=False),
)

# What changed last of people, channels and consent, counted by triggers: see `revisions.py`. Copies count anew.
revisions = Table(
    "revisions",
    metadata,
    Column("team", Key, primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Index("revisions_by_revision", "team", "revision"),
    info={"counted": True},
)

# What holds until an event is written that waits for an import, and which consent was withdrawn meanwhile. Of a SQLite
# archive these two stand in a file beside it: see `waiting.py`.
waiting = Table(
    "waiting",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("team", Text, nullable=False),
    Column("limit", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("team", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("by", Text, nullable=False),
    sqlite_autoincrement=True,
)

# `at`, `edited` and `as_of` are microseconds since the epoch: Slack's timestamps as text don't sort. `said` is what of
# `text` the author typed, NULL where that is all of it.
messages = Table(
    "messages",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("ts", Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("user", Text),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("said", Text),
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

# Who was to be forgotten, at `at` in microseconds. With `messages`, what they wrote until then is gone for good; an
# index of an archive before `revision` may hold it.
forgotten = Table(
    "forgotten",
    metadata,
    Column("team", Key, primary_key=True),
    Column("user_id", Key, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("messages", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# `vote` tells whether the same person votes on the same answer again, and not who that is; NULL where nothing does.
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
    Column("vote", Key),
    Index("feedback_by_vote", "team", "vote"),
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

changes = Table(
    "changes",
    metadata,
    Column("team", Key, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

# How far a channel has been read through Slack's API, in microseconds. From `low` to `high` everything was read;
# NULL before the first page. A later run reads down from `walk_top` and is at `walk_low`, until it meets `high`.
# `checked_at`: when a run that got through began to read it.
sync_channels = Table(
    "sync_channels",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("low", BigInteger),
    Column("high", BigInteger),
    Column("walk_low", BigInteger),
    Column("walk_top", BigInteger),
    Column("members_at", BigInteger, nullable=False),
    Column("num_members", Integer),
    Column("checked_at", BigInteger, nullable=False, server_default="0"),
)

# Threads met on the way: replies are known up to `latest` and read up to `fetched`.
sync_threads = Table(
    "sync_threads",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("thread_ts", Key, primary_key=True),
    Column("latest", BigInteger, nullable=False),
    Column("fetched", BigInteger, nullable=False),
    Column("looked_at", BigInteger, nullable=False),
    Index("sync_threads_by_latest", "team", "channel", "latest"),
)

# From `since` to `until` no event was missed, in microseconds.
listening = Table(
    "listening",
    metadata,
    Column("team", Key, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

# What the bot was asked, by Slack's event id. `event` is kept until it is answered, `posted_ts` is its message until
# then.
questions = Table(
    "questions",
    metadata,
    Column("team", Key, primary_key=True),
    Column("event_id", Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("event", JSON),
    Column("posted_ts", Text),
)

# Who answers in a thread, in a channel (`thread_ts` is "") or in the workspace (`channel` is "" too).
default_personas = Table(
    "voices",
    metadata,
    Column("team", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("thread_ts", Key, primary_key=True),
    Column("user_id", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("channel", Key, nullable=False),
    Column("thread_ts", Key, nullable=False),
    Column("asker", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("version", Text),
    Column("question", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("private", Boolean, nullable=False),
    Index("answers_by_thread", "team", "channel", "thread_ts"),
)

# A question to one person; `channel` is where it was asked for, `posted_in` and `posted_ts` the message that asks.
consent_requests = Table(
    "consent_requests",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("user_id", Key, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("posted_in", Text, nullable=False),
    Column("posted_ts", Text, nullable=False),
)

# Who is to be told, and where, when a job has ended.
notices = Table(
    "notices",
    metadata,
    Column("team", Key, primary_key=True),
    Column("job_id", Key, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("user_id", Text, nullable=False),
)

# Workspaces in which the app is installed, with their tokens, encrypted, or "" where the token is a setting. Times are
# in microseconds; `removed_at` says when the app was removed, `leased_until` that a process fetches new tokens.
installations = Table(
    "installations",
    metadata,
    Column("team", Key, primary_key=True),
    Column("name", Text, nullable=False),
    Column("bot_user", Text, nullable=False),
    Column("bot_token", Text, nullable=False),
    Column("refresh_token", Text, nullable=False),
    Column("expires", BigInteger),
    Column("installed_by", Text, nullable=False),
    Column("installed_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    Column("leased_until", BigInteger, nullable=False),
)

# Who is signed in to the web chat; `id` is the hash of what their browser holds.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("user_id", Key, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

# A reply drafted for `user_id` in their own manner, to the message `answered_ts` of the channel or to a `question` that
# they gave; `sent_ts` is its message once it is sent. Of a sent one the text is kept only where they changed it.
drafts = Table(
    "drafts",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("user_id", Key, nullable=False),
    Column("channel", Key, nullable=False),
    Column("thread_ts", Key, nullable=False),
    Column("answered_ts", Key, nullable=False),
    Column("question", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("version", Text),
    Column("edited", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("sent_ts", Key, nullable=False),
    Index("drafts_by_user", "team", "user_id", "at"),
)

# What Slack sent and was done, or is being done, by a hash; `until` when it need not be known any more.
deliveries = Table(
    "deliveries",
    metadata,
    Column("team", Key, primary_key=True),
    Column("id", Key, primary_key=True),
    Column("until", BigInteger, nullable=False),
)
