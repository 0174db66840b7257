"""Channels as they are known: what is known of an earlier time never undoes what is known of a later one.

Slack's lists are known of the moment they were asked for, an event of when it happened, an export of its newest
message. Each field of a channel has a time of its own, as an event tells one field. Members come as a list, and one by
one as they join and leave: somebody's last join or leave goes before a list that is older. In whatever order all this
comes, it comes to the same. Where two of the same time differ, the narrower holds: the kind that fewer may read; and
whoever one of them has in the channel and the other hasn't is uncertain (see `records.Channel`). A channel whose list
was never read, or is empty, has no members however many join, as nobody knows who else is in it.

Every function is to be called in a transaction in which nobody else writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, exists, insert, or_, select, update

from doppel.archive import tables
from doppel.archive.reading import AnyRow
from doppel.archive.revisions import forget_ids
from doppel.archive.upsert import put_row
from doppel.records import Channel, ChannelKind

Values = dict[str, Any]

UNSEEN = -1
"""The time of what is only guessed: whatever anybody says is newer."""
_FIELDS = ("name", "kind", "archived")
_WIDTHS = {
    kind: width
    for width, kind in enumerate(
        (ChannelKind.UNKNOWN, ChannelKind.IM, ChannelKind.MPIM, ChannelKind.PRIVATE, ChannelKind.PUBLIC)
    )
}
_FEW = 100
_OF_CHANNELS = tuple(table for table in tables.metadata.sorted_tables if {"team", "channel"} <= set(table.c.keys()))
"""What names a channel by its id."""


def channel_values(channel: Channel) -> Values:
    """What a list says of a channel, but for its members."""
    return {"id": channel.id, "name": channel.name, "kind": channel.kind, "archived": channel.archived}


def merge_channels(connection: Connection, team: str, channels: Iterable[Values], as_of: int) -> set[str]:
    """Take in fields of channels, each with its `id`; returns the ids of those that are new or read differently now.

    What isn't given of a new one is guessed: it is called by its id, and nobody may read it.
    """
    incoming = {values["id"]: values for values in channels}
    stored = _stored(connection, team, incoming)
    _insert(connection, team, [values for id_, values in incoming.items() if id_ not in stored], as_of)
    told = [(stored[id_], values) for id_, values in incoming.items() if id_ in stored]
    newer = [(row, now) for row, values in told if (now := _newer(row, values, as_of))]
    _update(connection, newer, as_of)
    differing = {row.id for row, now in newer if any(getattr(row, name) != value for name, value in now.items())}
    return differing | (incoming.keys() - stored.keys())


def hide_channels(connection: Connection, team: str, ids: Iterable[str], as_of: int) -> set[str]:
    """Nothing tells any more who may read these channels; returns the ids of those that read differently now."""
    return merge_channels(connection, team, [{"id": id_, "kind": ChannelKind.UNKNOWN} for id_ in ids], as_of)


def narrow_channel(connection: Connection, team: str, channel: str, kind: ChannelKind, at: int) -> bool:
    """Take in that a channel which is known as public, or by nothing, is of a narrower kind; whether that is news.

    Who is in it is uncertain until its list is read again: while it was public, little hung on that.
    """
    known = _stored(connection, team, [channel]).get(channel)
    if known and known.kind != ChannelKind.PUBLIC and known.kind_as_of not in (None, UNSEEN):
        return False
    merge_channels(connection, team, [{"id": channel}], UNSEEN)
    if not merge_channels(connection, team, [{"id": channel, "kind": kind}], at):
        return False
    for user in _members(connection, team, [channel])[channel].members:
        take_membership(connection, team, channel, user, None, at)
    return True


def take_members(connection: Connection, team: str, channel: str, members: Sequence[str], as_of: int) -> bool:
    """Take in the list of a known channel's members; whether it says anything new."""
    return bool(take_lists(connection, team, {channel: members}, as_of))


def take_lists(connection: Connection, team: str, lists: Mapping[str, Collection[str]], as_of: int) -> set[str]:
    """Take in the lists of known channels' members, by channel; returns the ids of those that read differently now."""
    stored = _members(connection, team, lists)
    newer, news = {}, set[str]()
    for channel, row in stored.items():
        known_of, differing = UNSEEN if row.known_of is None else row.known_of, set(row.members) ^ set(lists[channel])
        here = {"team": team, "channel": channel}
        if as_of > known_of:
            newer[channel] = row
        elif as_of == known_of:
            torn = [_note(connection, here, id_, None, as_of) for id_ in differing]
            news |= {channel} if any(torn) else set()
        else:
            _ask_again(connection, here, bool(differing))
    changed = {channel for channel, row in newer.items() if sorted(row.members) != sorted(lists[channel])}
    dropped = _drop_older(connection, team, newer, as_of)
    _replace_lists(connection, team, newer, {channel: lists[channel] for channel in changed}, as_of)
    return news | changed | dropped


def take_membership(connection: Connection, team: str, channel: str, user: str, joined: bool | None, at: int) -> bool:
    """Take in that somebody joined a channel, left it or, with None, may have done either; whether that is news."""
    if at < members_as_of(connection, team, channel):
        return False
    return _note(connection, {"team": team, "channel": channel}, user, joined, at)


def members_as_of(connection: Connection, team: str, channel: str) -> int:
    """Of when the list of a channel's members is known."""
    v = tables.channel_versions
    known = connection.scalar(select(v.c.members).where(v.c.team == team, v.c.channel == channel))
    return UNSEEN if known is None else known


def has_news_since(connection: Connection, team: str, channel: str, as_of: int) -> bool:
    """Whether somebody joined a channel or left it at that time or later."""
    m = tables.memberships
    later = select(m.c.user_id).where(m.c.team == team, m.c.channel == channel, m.c.as_of >= as_of)
    return connection.scalar(later.limit(1)) is not None


def drop_channel(connection: Connection, team: str, channel: str) -> None:
    """Remove a channel; its messages are another matter."""
    for table, id_ in ((tables.channels, "id"), (tables.channel_versions, "channel"), (tables.memberships, "channel")):
        connection.execute(delete(table).where(table.c.team == team, table.c[id_] == channel))


def moved_channels(connection: Connection, team: str, ids: Collection[str] | None = None) -> dict[str, str]:
    """Which id channels have now, by those that they had before; of all that moved, or of those with one of `ids`."""
    t = tables.moved_channels
    query = select(t.c.id, t.c.now).where(t.c.team == team)
    if ids is not None:
        query = query.where(t.c.id.in_(ids))
    return {row.id: row.now for row in connection.execute(query)}


def former_ids(connection: Connection, team: str, ids: Collection[str]) -> set[str]:
    """The ids that channels had before they got one of `ids`."""
    return {id_ for id_, now in moved_channels(connection, team).items() if now in ids}


def move_channel(connection: Connection, team: str, old: str, new: str, at: int) -> bool:
    """Carry a channel over to another id, with all that was said there; whether it was known.

    What comes later and names it by the id that it had is of the same channel. Of what is known of both ids the later
    stands. A move that another one came after is none.
    """
    c = tables.channels
    if not _note_move(connection, team, old, new, at):
        return False
    times = dict(connection.execute(select(c.c.id, c.c.as_of).where(c.c.team == team, c.c.id.in_((old, new)))).all())
    if old not in times:
        return False
    if new in times:
        kept, other = (old, new) if times[new] == UNSEEN else (new, old)
        _take_over(connection, team, kept, other)
        drop_channel(connection, team, other)
    connection.execute(update(c).where(c.c.team == team, c.c.id == old).values(id=new))
    move_rows(connection, team, old, new)
    _move_questions(connection, team, old, new)
    return True


def rename_channel(connection: Connection, team: str, channel: str, id_: str, name: str) -> None:
    """Call a channel otherwise; one that is known by its name alone gets another id with it, and nothing names the one
    before.
    """
    c = tables.channels
    here = (c.c.team == team, c.c.id == channel)
    if id_ != channel:
        if connection.scalar(select(c.c.id).where(c.c.team == team, c.c.id == id_)) is not None:
            drop_channel(connection, team, channel)
        move_rows(connection, team, channel, id_)
        _move_questions(connection, team, channel, id_)
        connection.execute(update(c).where(*here).values(id=id_, name=name))
        forget_ids(connection, team)
    connection.execute(update(c).where(*here).values(name=name))


def move_rows(connection: Connection, team: str, old: str, new: str, among: Sequence[Table] = _OF_CHANNELS) -> None:
    """Carry over what names a channel by its id in these tables, but for the channel itself.

    Of what both have the one under the new id stays, and of a message the last that happened to it.
    """
    _drop_earlier(connection, team, new, old)
    for table in among:
        other = table.alias()
        mine = and_(table.c.team == team, table.c.channel == old)
        key = [column.name for column in table.primary_key if column.name != "channel"]
        if len(key) < len(table.primary_key):
            same = [other.c[name] == table.c[name] for name in key]
            connection.execute(delete(table).where(mine, exists().where(other.c.channel == new, *same)))
        connection.execute(update(table).where(mine).values(channel=new))


def _note_move(connection: Connection, team: str, old: str, new: str, at: int) -> bool:
    """Keep that a channel has another id now; False where a later move of either is known."""
    t = tables.moved_channels
    later = select(t.c.id).where(t.c.team == team, t.c.id.in_((old, new)), t.c.as_of > at)
    if connection.scalar(later.limit(1)) is not None:
        return False
    connection.execute(delete(t).where(t.c.team == team, t.c.id == new))
    connection.execute(update(t).where(t.c.team == team, t.c.now == old).values(now=new))
    put_row(connection, t, {"team": team, "id": old}, {"now": new, "as_of": at})
    return True


def _take_over(connection: Connection, team: str, kept: str, other: str) -> None:
    """Take in of a channel what is known of it under another id, each thing as of when it is known."""
    row, m = _stored(connection, team, [other])[other], tables.memberships
    for name in _FIELDS:
        known_of = getattr(row, f"{name}_as_of")
        if known_of is not None and known_of > UNSEEN:
            merge_channels(connection, team, [{"id": kept, name: getattr(row, name)}], known_of)
    known = _members(connection, team, [other])[other]
    if known.known_of is not None and known.known_of > UNSEEN:
        take_lists(connection, team, {kept: known.members}, known.known_of)
    heard = select(m.c.user_id, m.c.is_member, m.c.as_of).where(m.c.team == team, m.c.channel == other)
    listed_at = members_as_of(connection, team, kept)
    for user, is_member, at in connection.execute(heard).all():
        if at >= listed_at:
            _note(connection, {"team": team, "channel": kept}, user, is_member, at)


def settle_moves(connection: Connection, team: str, listed: Collection[str], as_of: int) -> set[str]:
    """Give channels back the ids under which Slack lists them at `as_of`, though it moved them before.

    Returns the ids that they had until now and have again.
    """
    changed = set[str]()
    for old, now in moved_channels(connection, team).items():
        if old in listed and now not in listed and move_channel(connection, team, now, old, as_of):
            changed |= {old, now}
    return changed


def _drop_earlier(connection: Connection, team: str, channel: str, other: str) -> None:
    """Delete the messages of a channel to which something later happened in the other: an edit, or a deletion."""
    m, o = tables.messages, tables.messages.alias()
    same = and_(o.c.team == m.c.team, o.c.channel == other, o.c.ts == m.c.ts)
    later = or_(o.c.edited > m.c.edited, and_(o.c.edited == m.c.edited, o.c.as_of > m.c.as_of))
    connection.execute(delete(m).where(m.c.team == team, m.c.channel == channel, exists().where(same, later)))


def _move_questions(connection: Connection, team: str, old: str, new: str) -> None:
    """What was asked and is still to be answered is answered where it can be read now."""
    q = tables.questions
    asked = connection.execute(select(q.c.event_id, q.c.event).where(q.c.team == team, q.c.event.is_not(None)))
    for row in [row for row in asked if row.event and row.event.get("channel") == old]:
        here = (q.c.team == team, q.c.event_id == row.event_id)
        connection.execute(update(q).where(*here).values(event={**row.event, "channel": new}))


def _members(connection: Connection, team: str, channels: Collection[str]) -> dict[str, AnyRow]:
    """Whom these channels' lists name, and of when they are known."""
    c, v = tables.channels, tables.channel_versions
    query = select(c.c.id, c.c.members, v.c.members.label("known_of")).where(c.c.team == team)
    query = query.outerjoin(v, and_(v.c.team == c.c.team, v.c.channel == c.c.id))
    if len(channels) <= _FEW:
        query = query.where(c.c.id.in_(channels))
    return {row.id: row for row in connection.execute(query) if row.id in channels}


def _drop_older(connection: Connection, team: str, channels: Collection[str], as_of: int) -> set[str]:
    """Forget who joined and left before that time; returns the ids of the channels where somebody did."""
    m = tables.memberships
    older = select(m.c.channel).distinct().where(m.c.team == team, m.c.as_of < as_of)
    if len(channels) <= _FEW:
        older = older.where(m.c.channel.in_(channels))
    found = set(connection.scalars(older)) & set(channels)
    if found:
        here = (m.c.team == team, m.c.channel == bindparam("key_channel"), m.c.as_of < as_of)
        connection.execute(delete(m).where(*here), [{"key_channel": channel} for channel in sorted(found)])
    return found


def _replace_lists(
    connection: Connection,
    team: str,
    channels: Mapping[str, AnyRow],
    changed: Mapping[str, Collection[str]],
    as_of: int,
) -> None:
    """Keep lists of members that have `changed`, and of when all these channels' are known."""
    c, v = tables.channels, tables.channel_versions
    if changed:
        here = (c.c.team == team, c.c.id == bindparam("key_channel"))
        rows = [{"key_channel": channel, "members": list(members)} for channel, members in changed.items()]
        connection.execute(update(c).where(*here).values(members=bindparam("members")), rows)
    timed = [{"key_channel": channel} for channel, row in channels.items() if row.known_of is not None]
    if timed:
        here = (v.c.team == team, v.c.channel == bindparam("key_channel"))
        connection.execute(update(v).where(*here).values(members=as_of), timed)
    guessed = {"team": team, **dict.fromkeys(_FIELDS, UNSEEN), "members": as_of}
    untimed = [{**guessed, "channel": channel} for channel, row in channels.items() if row.known_of is None]
    if untimed:
        connection.execute(insert(v), untimed)


def _ask_again(connection: Connection, here: Mapping[str, str], differs: bool) -> None:
    """Let the next sync read who is in a channel where an older list differs: an export may be of a later time than
    its newest message.
    """
    s = tables.sync_channels
    if differs:
        mine = [s.c[name] == value for name, value in here.items()]
        connection.execute(update(s).where(*mine).values(members_at=0))


def _note(connection: Connection, here: Mapping[str, str], user: str, is_member: bool | None, at: int) -> bool:
    """Keep what is known last of one person; None, and two that differ, leave it uncertain."""
    m, key = tables.memberships, {**here, "user_id": user}
    query = select(m.c.is_member, m.c.as_of).where(*(m.c[name] == value for name, value in key.items()))
    known = connection.execute(query).one_or_none()
    if known is not None and at == known.as_of and is_member != known.is_member:
        is_member = None
    if known is not None and (at < known.as_of or (is_member, at) == (known.is_member, known.as_of)):
        return False
    put_row(connection, m, key, {"is_member": is_member, "as_of": at})
    return True


def _stored(connection: Connection, team: str, ids: Collection[str]) -> dict[str, AnyRow]:
    """The channels with these ids, and of when their fields are known."""
    c, v = tables.channels, tables.channel_versions
    times = [v.c[name].label(f"{name}_as_of") for name in _FIELDS]
    query = select(c.c.team, c.c.id, c.c.as_of, *(c.c[name] for name in _FIELDS), *times)
    query = query.outerjoin(v, and_(v.c.team == c.c.team, v.c.channel == c.c.id)).where(c.c.team == team)
    if len(ids) <= _FEW:
        query = query.where(c.c.id.in_(ids))
    return {row.id: row for row in connection.execute(query)}


def _insert(connection: Connection, team: str, added: Collection[Values], as_of: int) -> None:
    if not added:
        return
    guessed: Values = {"team": team, "kind": ChannelKind.UNKNOWN, "archived": False, "members": [], "as_of": as_of}
    connection.execute(insert(tables.channels), [guessed | {"name": values["id"]} | values for values in added])
    times = [{name: as_of if name in values else UNSEEN for name in _FIELDS} for values in added]
    keys = [{"team": team, "channel": values["id"], "members": UNSEEN} for values in added]
    connection.execute(insert(tables.channel_versions), [key | time for key, time in zip(keys, times, strict=True)])


def _newer(row: AnyRow, values: Values, as_of: int) -> Values:
    """Those of the values that go before what is stored."""
    return {name: values[name] for name in _FIELDS if name in values and _goes_before(row, name, values[name], as_of)}


def _goes_before(row: AnyRow, name: str, value: Any, as_of: int) -> bool:
    known_of = getattr(row, f"{name}_as_of")
    if known_of is None or as_of != known_of:
        return known_of is None or as_of > known_of
    return name == "kind" and _WIDTHS[value] < _WIDTHS[ChannelKind(row.kind)]


def _update(connection: Connection, newer: Sequence[tuple[AnyRow, Values]], as_of: int) -> None:
    c, v = tables.channels, tables.channel_versions
    rows: list[Values] = []
    times: list[Values] = []
    for row, now in newer:
        key = {"key_team": row.team, "key_channel": row.id}
        fields = {name: now.get(name, getattr(row, name)) for name in _FIELDS}
        rows.append({**key, **fields, "as_of": max(as_of, row.as_of)})
        times.append({**key, **{n: as_of if n in now else getattr(row, f"{n}_as_of") for n in _FIELDS}})
    if newer:
        here = (c.c.team == bindparam("key_team"), c.c.id == bindparam("key_channel"))
        connection.execute(update(c).where(*here).values({n: bindparam(n) for n in (*_FIELDS, "as_of")}), rows)
        here = (v.c.team == bindparam("key_team"), v.c.channel == bindparam("key_channel"))
        connection.execute(update(v).where(*here).values({n: bindparam(n) for n in _FIELDS}), times)
