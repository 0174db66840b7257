"""What the ids in messages read as: the names of a workspace's people, channels and user groups."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from doppel.archive import tables
from doppel.archive.channels import moved_channels
from doppel.archive.directory import group_names
from doppel.archive.reading import each_user
from doppel.records import ChannelKind
from doppel.slack.markup import Names

_ID = re.compile(r'[@#"^]([A-Z][A-Z0-9]*)[>|"^]')
_MANY = 5_000
"""Ids from which on all names are read."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The names of a workspace, and the ids of its bots: of everybody, or of those alone whom some messages name."""

    team: str
    names: Names
    bots: frozenset[str]


def ids_in(encoded: str) -> set[str]:
    """The ids that an encoded message may name, and words that look like one."""
    return set(_ID.findall(encoded))


def read_directory(connection: Connection, team: str, among: Collection[str] | None = None) -> Directory:
    """The names of a workspace as they are now, of all ids or of those `among` them."""
    t, people, bots = tables.channels, dict[str, str](), set[str]()
    for user in each_user(connection, team, among):
        people[user.id] = user.name
        bots |= {user.id} if user.is_bot else set()
    moved = moved_channels(connection, team, among)
    query = select(t.c.id, t.c.name, t.c.kind).where(t.c.team == team)
    if among is not None:
        query = query.where(t.c.id.in_({*among, *moved.values()}))
    rows = connection.execute(query).all()
    names = {row.id: row.name for row in rows}
    secret = {row.id for row in rows if row.kind != ChannelKind.PUBLIC}
    names |= {old: names[now] for old, now in moved.items() if now in names}
    secret |= {old for old, now in moved.items() if now in secret or now not in names}
    groups = group_names(connection, team, among)
    return Directory(team, Names(people, names, frozenset(secret), groups), frozenset(bots))


def directory_for(connection: Connection, team: str, encoded: Iterable[str]) -> Directory:
    """The names that these encoded messages may need."""
    ids = set[str]().union(*map(ids_in, encoded))
    return read_directory(connection, team, ids if len(ids) < _MANY else None)
