"""What can be asked of the archive: its rows as records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, func, or_, select

from doppel.access import ChannelKey
from doppel.archive import tables
from doppel.conversation import GAP_SECONDS, conversations
from doppel.ids import is_id, is_team
from doppel.moments import micros
from doppel.records import Channel, ChannelKind, Conversation, Message, MessageKind, User, ts_key

_PAGE = 1000
_BROADCASTS = ("thread_broadcast", "reply_broadcast")
_MESSAGE = [
    tables.messages.c[name] for name in ("team", "channel", "ts", "author", "text", "kind", "user", "thread_ts", "said")
]

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
Names = Mapping[tuple[str, str], str]
"""(team, user id) -> name."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the archive holds."""

    messages: int
    threads: int
    users: int
    channels: int


def users(connection: Connection, team: str | None = None, ids: Collection[str] | None = None) -> list[User]:
    """The people and bots of all workspaces, or of one; not what an older Doppel stored under something else."""
    t = tables.users
    query = select(*(t.c[name] for name in User.__slots__)).order_by(t.c.team, t.c.id)
    if team is not None:
        query = query.where(t.c.team == team)
    if ids is not None:
        query = query.where(t.c.id.in_(ids))
    return [User(*row) for row in connection.execute(query) if is_id(row.id) and is_team(row.team)]


def user_names(connection: Connection, ids: Collection[str] | None = None) -> Names:
    """What everybody, or those with one of a few `ids`, is called now."""
    return {(user.team, user.id): user.name for user in users(connection, ids=ids)}


def channels(connection: Connection) -> list[Channel]:
    """The channels of all workspaces; a direct conversation is named after its members."""
    t, v = tables.channels, tables.channel_versions
    query = select(t.c.team, t.c.id, t.c.name, t.c.kind, t.c.members, t.c.archived, v.c.members.label("members_as_of"))
    query = query.outerjoin(v, and_(v.c.team == t.c.team, v.c.channel == t.c.id)).order_by(t.c.team, t.c.name, t.c.id)
    names, later = user_names(connection), _memberships(connection)
    return [_channel(row, names, later.get((row.team, row.id), ())) for row in connection.execute(query)]


def messages(connection: Connection, wanted: Collection[ChannelKey] | None) -> Iterator[Message]:
    """Messages of the `wanted` channels, or of all: channel by channel, each in the order of time."""
    t = tables.channels
    keys = connection.execute(select(t.c.team, t.c.id).order_by(t.c.team, t.c.id)).all()
    names = user_names(connection)
    for team, channel in keys:
        if wanted is None or (team, channel) in wanted:
            query = _of_channel(team, channel).order_by(tables.messages.c.at, tables.messages.c.ts)
            with connection.execute(query.execution_options(yield_per=_PAGE)) as rows:
                yield from _records(rows, names)


def messages_of(
    connection: Connection, team: str, user_id: str, limit: int, wanted: Collection[ChannelKey] | None
) -> list[Message]:
    """A person's newest messages with words of their own, newest first, from the `wanted` channels or from all."""
    t = tables.messages
    query = select(*_MESSAGE).where(*_said_by(team, user_id))
    query = query.order_by(t.c.at.desc(), t.c.channel, t.c.ts).execution_options(yield_per=_PAGE)
    with connection.execute(query) as rows:
        readable = (row for row in rows if wanted is None or (row.team, row.channel) in wanted)
        return list(_records(islice(readable, limit), user_names(connection)))


def message_counts(connection: Connection, team: str, user_id: str) -> dict[str, int]:
    """How many messages a person typed in each channel where there are any, by the channel's id."""
    t = tables.messages
    query = select(t.c.channel, func.count().label("number")).where(*_said_by(team, user_id)).group_by(t.c.channel)
    return {row.channel: row.number for row in connection.execute(query)}


def conversation(
    connection: Connection, team: str, channel: str, thread_ts: str | None, first_ts: str, last_ts: str
) -> Conversation:
    """The thread of `thread_ts`, or what was said outside of threads from `first_ts` to `last_ts`.

    It has no messages where the archive has none any more.
    """
    t = tables.messages
    query = _of_channel(team, channel).where(t.c.kind == MessageKind.HUMAN)
    if thread_ts is not None:
        rows = [*connection.execute(query.where(t.c.ts == thread_ts))]
        roots = [thread_ts]
    else:
        rows = [*connection.execute(query.where(t.c.at.between(micros(first_ts), micros(last_ts))))]
        roots = [row.ts for row in rows]
    # One OR over both, or an order, would make SQLite read the whole channel.
    rows += connection.execute(query.where(t.c.thread_ts.in_(roots)))
    rows = sorted({row.ts: row for row in rows}.values(), key=lambda row: (micros(row.ts), row.ts))
    names = user_names(connection, {row.user for row in rows if row.user})
    found = conversations(_records(rows, names))
    parts = [part for part in found if part.thread_ts == thread_ts]
    return Conversation(team, channel, thread_ts, tuple(message for part in parts for message in part.messages))


def last_said(connection: Connection, team: str, channel: str, but_by: str) -> Message | None:
    """The newest message in a channel itself, outside of its threads, that a person other than `but_by` wrote."""
    t = tables.messages
    in_channel = or_(t.c.thread_ts.is_(None), t.c.thread_ts == t.c.ts, t.c.subtype.in_(_BROADCASTS))
    query = _of_channel(team, channel).where(t.c.kind == MessageKind.HUMAN, t.c.text != "", t.c.user != but_by)
    row = connection.execute(query.where(in_channel).order_by(t.c.at.desc(), t.c.ts.desc()).limit(1)).one_or_none()
    return next(_records([row], user_names(connection, {row.user}))) if row else None


def leading_to(connection: Connection, team: str, channel: str, ts: str) -> list[Message]:
    """What was said up to `ts` in the conversation of that message, which is the last of it.

    Nothing where no person said anything at `ts`.
    """
    t = tables.messages
    query = _of_channel(team, channel).where(t.c.ts == ts, t.c.kind == MessageKind.HUMAN, t.c.text != "")
    row = connection.execute(query).one_or_none()
    if row is None:
        return []
    (asked,) = _records([row], user_names(connection, {row.user}))
    root = asked.thread_ts or ts
    said = conversation(connection, team, channel, root, root, ts).messages
    if not said:
        said = conversation(connection, team, channel, None, _earlier(ts, GAP_SECONDS), ts).messages
    before = [message for message in said if micros(message.ts) < micros(ts)]
    return [*before, asked]


def permalink(url: str, channel: str, ts: str, thread_ts: str | None) -> str:
    """The address of a message in the workspace at `url`."""
    seconds, rest = ts_key(ts)
    link = f"{url}/archives/{quote(channel)}/p{seconds}{rest:06d}"
    if thread_ts is None or thread_ts == ts:
        return link
    return f"{link}?{urlencode({'thread_ts': thread_ts, 'cid': channel})}"


def workspace_url(connection: Connection, team: str) -> str:
    """The workspace's own address, or Slack's where it is not known."""
    t = tables.workspaces
    return connection.scalar(select(t.c.url).where(t.c.team == team)) or "https://slack.com"


def counts(connection: Connection, team: str | None = None) -> Counts:
    """How much there is now, of one workspace or of all."""
    t = tables.messages
    threads = select(t.c.team, t.c.channel, t.c.thread_ts).where(t.c.thread_ts.is_not(None)).distinct()
    within = threads if team is None else threads.where(t.c.team == team)
    return Counts(
        messages=_count(connection, tables.messages, team),
        threads=connection.scalar(select(func.count()).select_from(within.subquery())) or 0,
        users=_count(connection, tables.users, team),
        channels=_count(connection, tables.channels, team),
    )


def _said_by(team: str, user_id: str) -> list[ColumnElement[bool]]:
    t = tables.messages
    own = func.coalesce(t.c.said, t.c.text)
    return [t.c.team == team, t.c.user == user_id, t.c.kind == MessageKind.HUMAN, own != ""]


def _earlier(ts: str, seconds: int) -> str:
    """The timestamp so many seconds before another."""
    whole, rest = ts_key(ts)
    return f"{max(whole - seconds, 0)}.{rest:06d}"


def _of_channel(team: str, channel: str) -> Select[*tuple[Any, ...]]:
    t = tables.messages
    return select(*_MESSAGE).where(t.c.team == team, t.c.channel == channel)


def _records(rows: Iterable[AnyRow], names: Names) -> Iterator[Message]:
    for team, channel, ts, author, text, kind, user, thread_ts, said in rows:
        speaker = MessageKind(kind)
        known = names.get((team, user)) if user else None
        # A bot may post under a name of its own each time; a person's name is the one of today.
        name = author or known if speaker is MessageKind.BOT else known or author
        yield Message(team, channel, ts, name or "Slack", text, speaker, user, thread_ts, said)


def _memberships(connection: Connection) -> dict[tuple[str, str], list[AnyRow]]:
    """Who joined and left channels since their lists of members, in the order of time."""
    m, later = tables.memberships, defaultdict(list)
    for row in connection.execute(select(m).order_by(m.c.as_of, m.c.user_id)):
        later[row.team, row.channel].append(row)
    return later


def _who(listed: Sequence[str], as_of: int, later: Sequence[AnyRow]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is in a channel and who may be, by its list, known of `as_of`, and by what happened since."""
    if not listed or not later:
        return tuple(listed), ()
    there, uncertain = dict.fromkeys(listed), dict[str, None]()
    for row in later:
        if row.is_member is None or (row.as_of == as_of and row.is_member != (row.user_id in there)):
            uncertain[row.user_id] = None
            there.pop(row.user_id, None)
        elif row.is_member:
            there[row.user_id] = None
        else:
            there.pop(row.user_id, None)
    return tuple(there), tuple(uncertain)


def _channel(row: AnyRow, names: Names, later: Sequence[AnyRow]) -> Channel:
    kind = ChannelKind(row.kind)
    members, uncertain = _who(row.members, row.members_as_of, later)
    name = row.name
    if kind is ChannelKind.IM and members:
        name = " and ".join(sorted(names.get((row.team, member), member) for member in members))
    return Channel(row.team, row.id, name, kind, members, row.archived, uncertain)


def _count(connection: Connection, table: Table, team: str | None) -> int:
    query = select(func.count()).select_from(table)
    return connection.scalar(query if team is None else query.where(table.c.team == team)) or 0
