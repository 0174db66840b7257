"""What can be asked of the archive: its rows as records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, func, literal, or_, select, union_all

from doppel.access import ChannelKey
from doppel.archive import tables
from doppel.engine.conversation import GAP_SECONDS, MAX_WINDOW, conversations
from doppel.ids import is_id, is_team
from doppel.records import Channel, ChannelKind, Conversation, Message, MessageKind, Span, User, ts_key
from doppel.timestamps import micros

SLACK = "https://slack.com"
_PAGE = 1000
_TERMS = 100
"""Selects of one statement; SQLite takes 500."""
LOOK_BACK = 5 * MAX_WINDOW
"""Messages of a channel that are read for its last window."""
_BROADCASTS = ("thread_broadcast", "reply_broadcast")

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
Names = Mapping[tuple[str, str], str]
"""(team, user id) -> name."""


class MessageRow(NamedTuple):
    """What is read of a message."""

    team: str
    channel: str
    ts: str
    author: str
    text: str
    kind: str
    user: str | None
    thread_ts: str | None
    said: str | None


_MESSAGE = [tables.messages.c[name] for name in MessageRow._fields]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the archive holds."""

    messages: int
    threads: int
    users: int
    channels: int


def users(connection: Connection, team: str | None = None, ids: Collection[str] | None = None) -> list[User]:
    """The people and bots of all workspaces, or of one; not what an older Doppel stored under something else."""
    return list(each_user(connection, team, ids))


def each_user(connection: Connection, team: str | None = None, ids: Collection[str] | None = None) -> Iterator[User]:
    """The same one by one."""
    t = tables.users
    query = select(*(t.c[name] for name in User.__slots__)).order_by(t.c.team, t.c.id)
    if team is not None:
        query = query.where(t.c.team == team)
    if ids is not None:
        query = query.where(t.c.id.in_(ids))
    return (User(*row) for row in connection.execute(query) if is_id(row.id) and is_team(row.team))


def user_names(connection: Connection, ids: Collection[str] | None = None) -> Names:
    """What everybody, or those with one of a few `ids`, is called now."""
    return {(user.team, user.id): user.name for user in users(connection, ids=ids)}


def channels(
    connection: Connection, team: str | None = None, ids: Collection[str] | None = None, names: Names | None = None
) -> list[Channel]:
    """The channels of all workspaces or of one, or those of a few `ids`; a direct conversation is named after its
    members, by `names` or else by those of everybody.
    """
    t, v, m = tables.channels, tables.channel_versions, tables.memberships
    query = select(t.c.team, t.c.id, t.c.name, t.c.kind, t.c.members, t.c.archived, v.c.members.label("members_as_of"))
    query = query.outerjoin(v, and_(v.c.team == t.c.team, v.c.channel == t.c.id)).order_by(t.c.team, t.c.name, t.c.id)
    later = select(m).order_by(m.c.as_of, m.c.user_id)
    if team is not None:
        query, later = query.where(t.c.team == team), later.where(m.c.team == team)
    if ids is not None:
        query, later = query.where(t.c.id.in_(ids)), later.where(m.c.channel.in_(ids))
    names = user_names(connection) if names is None else names
    came_and_went = defaultdict[ChannelKey, list[AnyRow]](list)
    for row in connection.execute(later):
        came_and_went[row.team, row.channel].append(row)
    rows = connection.execute(query)
    return [_channel(row, names, came_and_went.get((row.team, row.id), ())) for row in rows]


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
    connection: Connection,
    team: str,
    user_id: str,
    limit: int,
    wanted: Collection[ChannelKey] | None,
    names: Names | None = None,
) -> list[Message]:
    """A person's newest messages with words of their own, newest first, from the `wanted` channels or from all."""
    t = tables.messages
    query = select(*_MESSAGE).where(*_said_by(team, user_id))
    query = query.order_by(t.c.at.desc(), t.c.channel, t.c.ts).execution_options(yield_per=_PAGE)
    names = user_names(connection, {user_id}) if names is None else names
    with connection.execute(query) as rows:
        readable = (row for row in rows if wanted is None or (row.team, row.channel) in wanted)
        return list(_records(islice(readable, limit), names))


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
    return conversations_at(connection, [Span(team, channel, thread_ts, first_ts, last_ts)])[0]


def conversations_at(
    connection: Connection, spans: Sequence[Span], names: Names | None = None, last: int | None = None
) -> list[Conversation]:
    """The conversation of each span, without messages where the archive has none any more; of a window the `last` so
    many messages where that is given, threads among them included.

    It takes one statement for fifty of them, and without the `names` of people one more for those.
    """
    rows = defaultdict[int, dict[str, MessageRow]](dict)
    parts = [part for number, span in enumerate(spans) for part in _parts(number, span, last)]
    for start in range(0, len(parts), _TERMS):
        for number, *values in connection.execute(union_all(*parts[start : start + _TERMS])):
            row = MessageRow(*values)
            rows[number][row.ts] = row
    if names is None:
        names = user_names(connection, {row.user for found in rows.values() for row in found.values() if row.user})
    return [_conversation(span, rows[number].values(), names) for number, span in enumerate(spans)]


def _parts(number: int, span: Span, last: int | None) -> tuple[Select[*tuple[Any, ...]], Select[*tuple[Any, ...]]]:
    """The messages of a span that begin threads, or belong to none, and the replies to them.

    One OR over both, or an order, would make SQLite read the whole channel.
    """
    t = tables.messages
    here = (t.c.team == span.team, t.c.channel == span.channel, t.c.kind == MessageKind.HUMAN)
    query = select(literal(number).label("number"), *_MESSAGE).where(*here)
    if span.thread_ts is not None:
        return query.where(t.c.ts == span.thread_ts), query.where(t.c.thread_ts == span.thread_ts)
    within: ColumnElement[bool] = t.c.at.between(micros(span.first_ts), micros(span.last_ts))
    if last is not None:
        newest = select(t.c.at).where(*here, within).order_by(t.c.at.desc()).offset(last).limit(1).scalar_subquery()
        within = and_(within, t.c.at > func.coalesce(newest, -1))
    roots = select(t.c.ts).where(*here, within)
    return query.where(within), query.where(t.c.thread_ts.in_(roots))


def _conversation(span: Span, rows: Iterable[MessageRow], names: Names) -> Conversation:
    in_order = sorted(rows, key=lambda row: (micros(row.ts), row.ts))
    parts = [part for part in conversations(_records(in_order, names)) if part.thread_ts == span.thread_ts]
    messages = tuple(message for part in parts for message in part.messages)
    return Conversation(span.team, span.channel, span.thread_ts, messages)


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
    said = up_to(connection, team, channel, ts, asked.thread_ts or ts).messages
    if not said:
        said = up_to(connection, team, channel, ts, None).messages
    return [*(message for message in said if message.ts != ts), asked]


def up_to(
    connection: Connection, team: str, channel: str, ts: str, thread_ts: str | None, names: Names | None = None
) -> Conversation:
    """What was said up to `ts` in the thread of `thread_ts`, or else in the window of the channel that reaches to it.

    It takes one statement, and without the `names` of people one more for those. Windows are those of the whole
    channel where it paused within its last LOOK_BACK messages.
    """
    if thread_ts is not None:
        span = Span(team, channel, thread_ts, thread_ts, ts)
    else:
        span = Span(team, channel, None, "0", ts)
    (found,) = conversations_at(connection, [span], names, LOOK_BACK)
    until = micros(ts)
    said = tuple(message for message in found.messages if micros(message.ts) <= until)
    if thread_ts is None:
        *_, said = ((), *(window.messages for window in conversations(said)))
    return replace(found, messages=said)


def has_message(connection: Connection, channel: ChannelKey, ts: str) -> bool:
    """Whether a message of whatever kind is here, or was and is deleted."""
    t = tables.messages
    query = select(t.c.ts).where(t.c.team == channel[0], t.c.channel == channel[1], t.c.ts == ts)
    return connection.scalar(query) is not None


def is_read(connection: Connection, channel: ChannelKey, ts: str, heard_since: int | None) -> bool:
    """Whether a channel was read through Slack's API, up to two hours before `ts` or to when events were heard."""
    t = tables.sync_channels
    high = connection.scalar(select(t.c.high).where(t.c.team == channel[0], t.c.channel == channel[1]))
    needed = micros(ts) - GAP_SECONDS * 1_000_000
    return high is not None and (high >= needed or (heard_since is not None and heard_since <= max(high, needed)))


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
    return connection.scalar(select(t.c.url).where(t.c.team == team)) or SLACK


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


def _of_channel(team: str, channel: str) -> Select[*tuple[Any, ...]]:
    t = tables.messages
    return select(*_MESSAGE).where(t.c.team == team, t.c.channel == channel)


def _records(rows: Iterable[AnyRow | MessageRow], names: Names) -> Iterator[Message]:
    for team, channel, ts, author, text, kind, user, thread_ts, said in rows:
        speaker = MessageKind(kind)
        known = names.get((team, user)) if user else None
        # A bot may post under a name of its own each time; a person's name is the one of today.
        name = author or known if speaker is MessageKind.BOT else known or author
        yield Message(team, channel, ts, name or "Slack", text, speaker, user, thread_ts, said)


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
