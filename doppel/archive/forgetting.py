"""Forgetting a person: what the archive holds of them goes, in the transaction of the caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, or_, select, update

from doppel.access import ConsentAction, ConsentRecord
from doppel.archive import tables
from doppel.archive.changes import note_change, revision
from doppel.archive.channels import UNSEEN
from doppel.archive.cleaning import clean_messages, clean_questions
from doppel.archive.consent_and_feedback import record_consent
from doppel.archive.directory import read_directory
from doppel.archive.drafts import drop_unsent
from doppel.archive.forgotten import FORGOTTEN_NAME, GROUP, Unwanted, group_name, read_unwanted
from doppel.archive.merging import erase
from doppel.archive.reading import AnyRow
from doppel.archive.rendering import render_again
from doppel.records import MessageKind, Raw, User
from doppel.slack.nesting import stored_raw
from doppel.timestamps import now_micros

_AT_ONCE = 100
"""Messages in memory at once."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed, in rows: `messages` are theirs, `posts` what the bot posted as them, `drafts` what was drafted
    for them, `copies` messages of others out of which a copy of theirs was taken. An index of the archive before
    `revision` may hold their messages.
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


def forget(connection: Connection, user: User, messages: bool, by: str) -> Forgotten:
    """Forget a person, with their `messages` if so wanted."""
    record = record_consent(connection, user, ConsentAction.FORGET, by)
    now = _moment(connection, user)
    counts = {
        "posts": _delete_posts(connection, user, now),
        "answers": _delete(connection, tables.answers, user, "user_id", "asker"),
        "feedback": _delete(connection, tables.feedback, user, "user_id"),
        "questions": _delete_questions(connection, user),
        "requests": _delete(connection, tables.consent_requests, user, "user_id"),
        "voices": _delete(connection, tables.voices, user, "user_id"),
        "drafts": _delete(connection, tables.drafts, user, "user_id"),
    }
    _delete(connection, tables.notices, user, "user_id")
    note_change(connection, user.team)
    entry = {"team": user.team, "user_id": user.id, "at": now, "messages": messages}
    before = revision(connection)
    connection.execute(insert(tables.forgotten).values(**entry, revision=before))
    gone, copies = _forget_messages(connection, user, now) if messages else (0, 0)
    return Forgotten(record, messages=gone, copies=copies, revision=before, **counts)


def _moment(connection: Connection, user: User) -> int:
    """Now, or when their newest message says that it was written, if that is later; never twice the same."""
    m, f = tables.messages, tables.forgotten
    newest = connection.scalar(select(func.max(m.c.at)).where(m.c.team == user.team, m.c.user == user.id)) or 0
    before = select(func.max(f.c.at)).where(f.c.team == user.team, f.c.user_id == user.id)
    return max(now_micros(), newest, (connection.scalar(before) or 0) + 1)


def _forget_messages(connection: Connection, user: User, now: int) -> tuple[int, int]:
    drop_unsent(connection, user.team)
    called = [User(user.team, user.id, name) for name in _names_of(connection, user)]
    m = tables.messages
    theirs = select(m.c.channel, m.c.ts).where(m.c.team == user.team, m.c.user == user.id)
    gone = erase(connection, user.team, connection.execute(theirs).all(), now)
    profile = {"handle": "", "real_name": "", "display_name": FORGOTTEN_NAME, "deleted": False, "as_of": UNSEEN}
    u = tables.users
    connection.execute(update(u).where(u.c.team == user.team, u.c.id == user.id).values(**profile))
    _rename_groups(connection, user)
    unwanted, directory = read_unwanted(connection, user.team, called), read_directory(connection, user.team, {})
    _clear_file_names(connection, user.team, unwanted)
    copies = clean_messages(connection, directory, unwanted)
    clean_questions(connection, user.team, unwanted)
    render_again(connection, directory, {user.id})
    return gone, copies


def _names_of(connection: Connection, user: User) -> set[str]:
    """What they are called, and were called in what they wrote: copies may know them by that alone."""
    m = tables.messages
    query = select(m.c.author, m.c.raw).where(m.c.team == user.team, m.c.user == user.id)
    names = {user.handle, user.real_name, user.display_name}
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for row in rows:
            names |= {row.author, *_profile_names(stored_raw(row.raw))}
    return names - {""}


def _rename_groups(connection: Connection, user: User) -> None:
    """Group conversations are named after those in them."""
    c = tables.channels
    query = select(c.c.id, c.c.name).where(c.c.team == user.team, c.c.name.startswith(GROUP))
    for row in connection.execute(query).all():
        name = group_name(row.name, {user.handle: user.id})
        connection.execute(update(c).where(c.c.team == user.team, c.c.id == row.id).values(name=name))


def _clear_file_names(connection: Connection, team: str, unwanted: Unwanted) -> None:
    """Exports are named by whoever saved them."""
    i = tables.imports
    rows = connection.execute(select(i.c.id, i.c.name).where(i.c.team == team)).all()
    named = [row.id for row in rows if unwanted.file_name(row.name) != row.name]
    connection.execute(update(i).where(i.c.id.in_(named)).values(name=""))


def _profile_names(raw: Raw) -> Iterable[str]:
    profile = raw.get("user_profile")
    found = [profile.get(key) for key in ("name", "real_name", "display_name")] if isinstance(profile, dict) else []
    return [name for name in found if isinstance(name, str)]


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
