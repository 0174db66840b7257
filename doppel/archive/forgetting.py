"""What the archive keeps of a person and because of them, removed in the transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, or_, select, update

from doppel.access import ConsentAction, ConsentRecord
from doppel.archive import tables
from doppel.archive.changes import note_change, revision
from doppel.archive.channels import UNSEEN, rename_channel
from doppel.archive.consent_and_feedback import record_consent
from doppel.archive.drafts import drop_unsent
from doppel.archive.forgotten import FORGOTTEN_NAME, GROUP, Tombstones, group_name, id_named
from doppel.archive.messages import erase
from doppel.archive.reading import AnyRow
from doppel.records import MessageKind, User
from doppel.timestamps import now_micros


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed, in rows: `messages` are theirs, `posts` what the bot posted as them, `drafts` what was drafted
    for them, `copies` messages of others out of which a copy of theirs was taken. An index of the archive before
    `revision` may hold their messages. They are forgotten as of `at`, in microseconds.
    """

    record: ConsentRecord
    messages: int
    copies: int
    posts: int
    answers: int
    feedback: int
    questions: int
    requests: int
    voices: int
    drafts: int
    revision: int
    at: int


def drop_person(connection: Connection, user: User, messages: bool, by: str) -> Forgotten:
    """Remove what is kept because of a person's doppelganger, and record that they are forgotten, from now on or with
    their `messages`; what they wrote is removed with `drop_messages`.
    """
    record = record_consent(connection, user, ConsentAction.FORGET, by)
    now = _moment(connection, user)
    counts = {
        "posts": _delete_posts(connection, user, now),
        "answers": _delete(connection, tables.answers, user, "user_id", "asker"),
        "feedback": _delete(connection, tables.feedback, user, "user_id"),
        "questions": _delete_questions(connection, user),
        "requests": _delete(connection, tables.consent_requests, user, "user_id"),
        "voices": _delete(connection, tables.default_personas, user, "user_id"),
        "drafts": _delete(connection, tables.drafts, user, "user_id"),
    }
    _delete(connection, tables.notices, user, "user_id")
    note_change(connection, user.team)
    entry = {"team": user.team, "user_id": user.id, "at": now, "messages": messages}
    before = revision(connection)
    connection.execute(insert(tables.forgotten).values(**entry, revision=before))
    return Forgotten(record, messages=0, copies=0, revision=before, at=now, **counts)


def drop_messages(connection: Connection, user: User, at: int) -> int:
    """Erase what a person wrote, and their names where they stand in fields of their own; returns how much that was.

    Before it, messages say what they were called; after it, messages of others may still hold copies of theirs.
    """
    drop_unsent(connection, user.team)
    m = tables.messages
    theirs = select(m.c.channel, m.c.ts).where(m.c.team == user.team, m.c.user == user.id)
    gone = erase(connection, user.team, connection.execute(theirs).all(), at)
    profile = {"handle": "", "real_name": "", "display_name": FORGOTTEN_NAME, "deleted": False, "as_of": UNSEEN}
    u = tables.users
    connection.execute(update(u).where(u.c.team == user.team, u.c.id == user.id).values(**profile))
    _rename_groups(connection, user)
    return gone


def _moment(connection: Connection, user: User) -> int:
    """Now, or when their newest message says that it was written, if that is later; never twice the same."""
    m, f = tables.messages, tables.forgotten
    newest = connection.scalar(select(func.max(m.c.at)).where(m.c.team == user.team, m.c.user == user.id)) or 0
    before = select(func.max(f.c.at)).where(f.c.team == user.team, f.c.user_id == user.id)
    return max(now_micros(), newest, (connection.scalar(before) or 0) + 1)


def _rename_groups(connection: Connection, user: User) -> None:
    """Group conversations are named after those in them."""
    c = tables.channels
    query = select(c.c.id, c.c.name).where(c.c.team == user.team, c.c.name.startswith(GROUP))
    for row in connection.execute(query).all():
        name = group_name(row.name, {user.handle: user.id})
        id_ = id_named(row.id, name)
        if (id_, name) != (row.id, row.name):
            rename_channel(connection, user.team, row.id, id_, name)


def clear_file_names(connection: Connection, team: str, tombstones: Tombstones) -> None:
    """Exports are named by whoever saved them."""
    i = tables.imports
    rows = connection.execute(select(i.c.id, i.c.name).where(i.c.team == team)).all()
    named = [row.id for row in rows if tombstones.file_name(row.name) != row.name]
    connection.execute(update(i).where(i.c.id.in_(named)).values(name=""))


def _delete_posts(connection: Connection, user: User, now: int) -> int:
    """Erase what the bot posted under their name where it answered as them, and drafts that they sent."""
    a, d, m = tables.answers, tables.drafts, tables.messages
    places = select(a.c.channel, a.c.thread_ts).where(a.c.team == user.team, a.c.user_id == user.id).distinct()
    posts: list[AnyRow] = []
    for channel, thread in connection.execute(places).all():
        here = and_(m.c.team == user.team, m.c.channel == channel, or_(m.c.thread_ts == thread, m.c.ts == thread))
        as_them = (m.c.kind == MessageKind.BOT, m.c.author == user.name)
        posts += connection.execute(select(m.c.channel, m.c.ts).where(here, *as_them)).all()
    sent = and_(d.c.team == m.c.team, d.c.channel == m.c.channel, d.c.sent_ts == m.c.ts)
    drafted = select(m.c.channel, m.c.ts).join(d, sent).where(d.c.team == user.team, d.c.user_id == user.id)
    posts += connection.execute(drafted).all()
    return erase(connection, user.team, {(row.channel, row.ts): row for row in posts}.values(), now)


def _delete_questions(connection: Connection, user: User) -> int:
    """What they asked and was not answered; the events' ids stay, so that Slack's repetitions are known as such."""
    q = tables.questions
    rows = connection.execute(select(q.c.event_id, q.c.event).where(q.c.team == user.team)).all()
    theirs = [row.event_id for row in rows if isinstance(row.event, dict) and row.event.get("user") == user.id]
    connection.execute(update(q).where(q.c.team == user.team, q.c.event_id.in_(theirs)).values(event=None))
    return len(theirs)


def _delete(connection: Connection, table: Table, user: User, *columns: str) -> int:
    is_theirs: Any = or_(*(table.c[name] == user.id for name in columns))
    return connection.execute(delete(table).where(table.c.team == user.team, is_theirs)).rowcount
