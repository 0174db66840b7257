"""Who was forgotten with their messages, and so what must not come back with an import, a sync or an event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Select, bindparam, func, select

from doppel.access import ConsentAction
from doppel.archive import tables
from doppel.archive.reading import AnyRow
from doppel.archive.upsert import PARAMETERS, batches
from doppel.ids import PLACEHOLDER, UNKNOWN_TEAM
from doppel.logs import pattern_of
from doppel.records import Channel, User, name_key

GROUP = "mpdm-"
"""Begins the name of a group conversation."""
FORGOTTEN_NAME = "someone who was forgotten"
DELETED = 2**62
"""`edited` of a tombstone: a deletion is the last that happens to a message, unless Slack shows it again."""
FORGOTTEN = DELETED + 1
"""`edited` of the tombstone of what somebody wrote who was forgotten: nothing comes after it."""

Authors = Callable[[str | None, int], list[str | None]]
"""Who wrote what stands at a place (a channel's id or name, or None for any; microseconds): ids, None for nobody known,
"" for a tombstone."""


def _nobody(_channel: str | None, _at: int) -> list[str | None]:
    return []


@dataclass(frozen=True)
class Tombstones:
    """What must not come back.

    `until` says up to when, in microseconds, what somebody wrote is gone; `nameless` are those who have not agreed to
    anything since, and so have no name either. Both by user id. `named` says the same as `until` by a person's name, as
    far as it is known here; `authors` looks a place up in the archive.
    """

    until: Mapping[str, int] = field(default_factory=dict)
    nameless: frozenset[str] = frozenset()
    named: Mapping[str, int] = field(default_factory=dict)
    authors: Authors = _nobody

    def covers(self, user: object, at: int) -> bool:
        """Whether what `user` wrote at that time is gone."""
        return isinstance(user, str) and at <= self.until.get(user, -1)

    def person(self, user: User) -> User:
        """What may be known of somebody: of those without a name, the id."""
        if user.id not in self.nameless:
            return user
        return User(user.team, user.id, "", display_name=FORGOTTEN_NAME, is_bot=user.is_bot, is_guest=user.is_guest)

    def channel(self, channel: Channel, people: Iterable[User]) -> Channel:
        """What may be known of a channel: a group conversation is named after the handles of `people`, and so is the
        id of one of which only the name is known.
        """
        if not (self.nameless and channel.name.startswith(GROUP)):
            return channel
        ids = {user.handle: user.id for user in people if user.id in self.nameless}
        name = group_name(channel.name, ids)
        return replace(channel, name=name, id=id_named(channel.id, name))

    def file_name(self, name: str) -> str:
        """What may be known of a file's name: nothing where it names them."""
        pattern = pattern_of(self.named)
        return "" if pattern and pattern.search(name.replace("_", " ")) else name


def read_tombstones(connection: Connection, team: str, people: Iterable[User] = ()) -> Tombstones:
    """What must not come back to a workspace; one without a name may be any.

    `people` say what those are called whose names the archive keeps no more.
    """
    t = tables.forgotten
    query = select(t.c.user_id, func.max(t.c.at).label("until")).where(t.c.messages).group_by(t.c.user_id)
    if team != UNKNOWN_TEAM:
        query = query.where(t.c.team.in_([team, UNKNOWN_TEAM]))
    until = {row.user_id: row.until for row in connection.execute(query)}
    if not until:
        return Tombstones()
    named = _named(until, [*_stored(connection, until), *people])
    return Tombstones(until, _nameless(connection, until), named, _authors_in(connection, team))


def group_name(name: str, ids: Mapping[str, str]) -> str:
    """A group conversation's name, `mpdm-ada--grace-1`, with ids in the place of those handles."""
    handles, _, number = name.removeprefix(GROUP).rpartition("-")
    return f"{GROUP}{'--'.join(ids.get(handle, handle) for handle in handles.split('--'))}-{number}"


def id_named(channel: str, name: str) -> str:
    """The id of a group conversation of that name: what stands for one follows the name."""
    return channel.partition(GROUP)[0] + name if channel.startswith(PLACEHOLDER) else channel


def clean_revision(connection: Connection, team: str | None = None) -> int:
    """The revision from which on an index holds nothing that was forgotten, of all workspaces or of one; 0 where
    nothing was.
    """
    t = tables.forgotten
    query = select(func.coalesce(func.max(t.c.revision), 0)).where(t.c.messages)
    return int(connection.scalar(query if team is None else query.where(t.c.team == team)) or 0)


def forgotten_since(team: str, users: Collection[str], at: int) -> Select[tuple[str]]:
    """The query for those of `users` who were forgotten at that time or later."""
    t = tables.forgotten
    return select(t.c.user_id).where(t.c.team == team, t.c.user_id.in_(users), t.c.at >= at)


def _named(until: Mapping[str, int], people: Iterable[User]) -> dict[str, int]:
    """Up to when what somebody of a name wrote is gone."""
    named: dict[str, int] = {}
    for user in people:
        if user.id in until:
            names = map(name_key, {user.handle, user.real_name, user.display_name} - {"", FORGOTTEN_NAME})
            named |= {name: max(until[user.id], named.get(name, -1)) for name in names}
    return named


def _stored(connection: Connection, ids: Collection[str]) -> list[User]:
    """Those of them who are known, perhaps by a name again."""
    t = tables.users
    query = select(t.c.team, t.c.id, t.c.handle, t.c.real_name, t.c.display_name).where(t.c.id.in_(ids))
    return [User(*row) for row in connection.execute(query)]


def _nameless(connection: Connection, users: Collection[str]) -> frozenset[str]:
    """Those who did not agree since they were forgotten."""
    t = tables.consent
    query = select(t.c.user_id, t.c.action).where(t.c.user_id.in_(users)).order_by(t.c.id)
    decisive = (ConsentAction.GRANT, ConsentAction.FORGET)
    last = {row.user_id: row.action for row in connection.execute(query.where(t.c.action.in_(decisive)))}
    return frozenset(user for user in users if last.get(user) != ConsentAction.GRANT)


_M = tables.messages.c
# Put together once: an import asks it for every copy.
_AT_PLACE = select(_M.user, _M.edited).where(
    _M.team.in_(bindparam("teams", expanding=True)),
    _M.channel.in_(bindparam("ids", expanding=True)),
    _M.at == bindparam("at"),
)


def _authors_in(connection: Connection, team: str) -> Authors:
    """Looks places up in the archive, by the index over channel and time."""
    channels: list[tuple[str, str, str]] = []

    def authors(channel: str | None, at: int) -> list[str | None]:
        c = tables.channels
        if not channels:
            query = select(c.c.team, c.c.id, c.c.name)
            rows = connection.execute(query if team == UNKNOWN_TEAM else query.where(c.c.team == team))
            channels.extend((row.team, row.id, row.name) for row in rows)
        # A link may name a channel as it was called then; a moment to the microsecond tells messages apart anyway.
        there = [place for place in channels if channel in place[1:]] or channels
        found = list[AnyRow]()
        for some in batches(there, PARAMETERS):
            given = {"teams": {place[0] for place in some}, "ids": {place[1] for place in some}, "at": at}
            found += connection.execute(_AT_PLACE, given)
        return ["" if row.edited >= DELETED else row.user for row in found]

    return authors
