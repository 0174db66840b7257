"""What the ids in messages read as: the names of a workspace's people, channels and user groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from doppel.archive import tables
from doppel.archive.channels import moved_channels
from doppel.archive.directory import group_names
from doppel.archive.reading import users
from doppel.records import ChannelKind
from doppel.slack.markup import Names


@dataclass(frozen=True, slots=True)
class Directory:
    """How the messages of an export read: whose ids they hold, and where its channels are in the archive.

    `moved` are the ids that channels have now, by those that they had before.
    """

    team: str
    names: Names
    bots: frozenset[str]
    channel_ids: Mapping[str, str]
    moved: Mapping[str, str] = field(default_factory=dict)


def read_directory(connection: Connection, team: str, channel_ids: Mapping[str, str]) -> Directory:
    """The names of a workspace as they are now."""
    members, t = users(connection, team), tables.channels
    rows = connection.execute(select(t.c.id, t.c.name, t.c.kind).where(t.c.team == team)).all()
    names, moved = {row.id: row.name for row in rows}, moved_channels(connection, team)
    secret = {row.id for row in rows if row.kind != ChannelKind.PUBLIC}
    names |= {old: names[now] for old, now in moved.items() if now in names}
    secret |= {old for old, now in moved.items() if now in secret or now not in names}
    read_as = Names({user.id: user.name for user in members}, names, frozenset(secret), group_names(connection, team))
    return Directory(team, read_as, frozenset(user.id for user in members if user.is_bot), channel_ids, moved)
