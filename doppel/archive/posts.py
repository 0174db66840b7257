"""What was said through Doppel, as messages: a doppelganger's answers, and the drafts that their people sent."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, false, or_, select

from doppel.archive import tables
from doppel.archive.drafts import SENT
from doppel.archive.reading import Names
from doppel.records import Message, MessageKind
from doppel.timestamps import ts_of


def posts(
    connection: Connection,
    team: str,
    names: Names,
    channel: str | None = None,
    thread_ts: str | None = None,
    reader: str = "",
) -> list[Message]:
    """Those of a workspace, or of one channel: in the thread of `thread_ts`, or outside of threads where it is None.

    Answers that one person alone saw are among them where that is the `reader`. A draft that its person sent as it was
    is left out: of it nothing is kept but where it stands.
    """
    found = [*_drafts(connection, team, names, channel, thread_ts)]
    if channel is None or thread_ts is not None:
        found += _answers(connection, team, names, channel, thread_ts, reader)
    return found


def _answers(
    connection: Connection, team: str, names: Names, channel: str | None, thread_ts: str | None, reader: str
) -> Iterator[Message]:
    t = tables.answers
    mine = t.c.asker == reader if reader else false()
    query = select(t.c.at, t.c.channel, t.c.thread_ts, t.c.user_id, t.c.reply)
    query = query.where(t.c.team == team, or_(t.c.private.is_(False), mine)).order_by(t.c.at, t.c.id)
    if channel is not None:
        query = query.where(t.c.channel == channel, t.c.thread_ts == thread_ts)
    for row in connection.execute(query):
        name = names.get((team, row.user_id), row.user_id)
        yield Message(
            team, row.channel, ts_of(row.at), name, row.reply, MessageKind.BOT, row.user_id, row.thread_ts, by_ai=True
        )


def _drafts(
    connection: Connection, team: str, names: Names, channel: str | None, thread_ts: str | None
) -> Iterator[Message]:
    t = tables.drafts
    query = select(t.c.sent_ts, t.c.channel, t.c.thread_ts, t.c.user_id, t.c.text)
    query = query.where(t.c.team == team, t.c.state == SENT, t.c.text != "", t.c.sent_ts != "").order_by(t.c.at)
    if channel is not None:
        query = query.where(t.c.channel == channel, t.c.thread_ts == (thread_ts or ""))
    for row in connection.execute(query):
        name = names.get((team, row.user_id), row.user_id)
        yield Message(
            team, row.channel, row.sent_ts, name, row.text, MessageKind.HUMAN, row.user_id, row.thread_ts or None
        )
