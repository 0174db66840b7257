"""People, channels and consent as of one moment: one snapshot answers all that a question asks about who may what.

What a snapshot is made of is kept in memory, and read again only where the database counted a change (see `revisions`):
taking one costs one statement, or two where something waits for an import (see `waiting`), whatever the workspace's
size. A snapshot that is handed on stays as it is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Protocol, TypeVar

from sqlalchemy import Connection, and_, or_, select

from doppel.access import Audience, ChannelKey, ConsentRecord, Readership, Roster
from doppel.archive import people, reading, tables
from doppel.archive.consent_and_feedback import consent_records
from doppel.archive.forgotten import clean_revision
from doppel.archive.restrictions import Restrictions
from doppel.archive.revisions import Kind
from doppel.records import Channel, ChannelKind, Chunk, Conversation, Message, User

T = TypeVar("T")

_MANY = 500
"""Changes from which on a workspace is read whole."""


class Messages(Protocol):
    """Reads messages for a snapshot, with the names that it knows."""

    def conversations_for(self, snapshot: Snapshot, chunks: Sequence[Chunk]) -> list[Conversation]: ...

    def messages_for(
        self, snapshot: Snapshot, user: User, limit: int, channels: Collection[ChannelKey]
    ) -> list[Message]: ...


@dataclass(frozen=True)
class View:
    """One workspace as of `revision`, the number of its `last` change; `clean` is as in `clean_revision`. Members are
    sets, and `roster` is of `users`.
    """

    revision: int
    last: tuple[str, str]
    url: str
    users: Mapping[str, User]
    channels: Mapping[str, Channel]
    consent: Mapping[str, Sequence[ConsentRecord]]
    clean: int
    roster: Roster


@dataclass(frozen=True)
class Snapshot:
    """One workspace, or all, as of one moment; `withdrawn` waits to be written to the ledger.

    `clean` is the revision from which on an index of theirs holds nothing that was forgotten; 0 where nothing was.
    """

    team: str | None
    views: Mapping[str, View]
    clean: int
    limits: Restrictions
    withdrawn: Sequence[ConsentRecord]
    messages: Messages = field(compare=False, repr=False)
    taken: float = field(default_factory=time.monotonic, compare=False)
    """When it was, by the monotonic clock, in seconds."""
    _readable: dict[Audience, frozenset[ChannelKey]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def channels(self) -> Sequence[Channel]:
        """All channels as far as they are certain."""
        return self.limits.channels(channel for view in self.views.values() for channel in view.channels.values())

    def channel(self, key: ChannelKey) -> Channel | None:
        """The channel of that key, as far as it is certain."""
        view = self.views.get(key[0])
        found = view.channels.get(key[1]) if view else None
        return next(iter(self.limits.channels([found]))) if found else None

    def user(self, team: str, user_id: str) -> User | None:
        """The person or bot of that id in a workspace, with no more rights than are certain."""
        view = self.views.get(team)
        found = view.users.get(user_id) if view else None
        return self.limits.users([found])[0] if found else None

    def get_user(self, team: str, user_id: str) -> User:
        """As `user`. Raises UnknownUserError."""
        return people.require_known(self.user(team, user_id), user_id)

    def consent(self, user: User) -> list[ConsentRecord]:
        """One person's part of the consent ledger, oldest first, and what waits to be written there."""
        view = self.views.get(user.team)
        known = view.consent.get(user.id, ()) if view else ()
        waiting = [r for r in self.withdrawn if (r.team, r.user_id) == (user.team, user.id) and r not in known]
        return [*known, *waiting]

    def people_with_consent(self) -> Iterator[User]:
        """Everybody of whom the ledger says anything, in the order of their ids."""
        for team, view in sorted(self.views.items()):
            yield from filter(None, (self.user(team, id_) for id_ in sorted(view.consent)))

    @property
    def all_names(self) -> Mapping[tuple[str, str], str]:
        """What everybody is called, by workspace and id."""
        return _KeyedNames(self.views)

    def names(self, team: str) -> Mapping[str, str]:
        """What the people of a workspace are called, by id."""
        view = self.views.get(team)
        return _UserNames(view.users if view else {})

    def readable(self, audience: Audience) -> frozenset[ChannelKey]:
        """Keys of the channels that may be read by an audience."""
        if audience not in self._readable:
            self._readable[audience] = audience.readable(self.channels)
        return self._readable[audience]

    def alone(self, team: str, user_id: str) -> Readership:
        """One person alone: see `Readership`."""
        return Readership.alone(team, user_id, self._roster(team))

    def together(self, channel: ChannelKey, asker: str) -> Readership:
        """Everybody in a channel, and who asks there: see `Readership`."""
        return Readership.together(self.channel(channel), channel[0], self._roster(channel[0]), asker)

    def bots(self, team: str) -> frozenset[str]:
        """Ids of the users of a workspace that are bots."""
        return self._roster(team).bots

    def conversations(self, chunks: Sequence[Chunk]) -> list[Conversation]:
        """The conversation of each chunk as it stands now; without messages where they are gone."""
        return self.messages.conversations_for(self, chunks)

    def messages_of(self, user: User, limit: int, channels: Collection[ChannelKey]) -> list[Message]:
        """A person's newest messages with words of their own, newest first, from `channels`."""
        return self.messages.messages_for(self, user, limit, channels)

    def permalink(self, channel: ChannelKey, ts: str, thread_ts: str | None = None) -> str:
        """The address of a message in Slack."""
        team, channel_id = channel
        view = self.views.get(team)
        return reading.permalink(view.url if view else reading.SLACK, channel_id, ts, thread_ts)

    def _roster(self, team: str) -> Roster:
        view = self.views.get(team)
        return view.roster.without(self.limits.guests(team)) if view else Roster(frozenset(), frozenset())


class _UserNames(Mapping[str, str]):
    """Names by id, made as they are asked for."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users

    def __getitem__(self, id_: str) -> str:
        return self._users[id_].name

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)


class _KeyedNames(Mapping[tuple[str, str], str]):
    """Names by workspace and id, made as they are asked for."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self._views = views

    def __getitem__(self, key: tuple[str, str]) -> str:
        return self._views[key[0]].users[key[1]].name

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter((team, id_) for team, view in self._views.items() for id_ in view.users)

    def __len__(self) -> int:
        return sum(len(view.users) for view in self._views.values())


class Views:
    """What is kept in memory of an archive. Safe from several threads.

    A thread whose transaction is older than what another read since gets the newer: it is true by then.
    """

    def __init__(self, url: str = "") -> None:
        """`url` goes before what the archive says of where workspaces are."""
        self._url = url
        self._views: dict[str, View] = {}
        self._lock = Lock()

    def clean(self, connection: Connection, team: str | None, views: Mapping[str, View]) -> int:
        """As in `Snapshot`; of all workspaces also what is left of those that were erased."""
        return clean_revision(connection) if team is None else views[team].clean

    def current(self, connection: Connection, team: str | None) -> dict[str, View]:
        """The views of one workspace or of all, as of the transaction."""
        t = tables.workspaces
        teams = [team] if team is not None else sorted(connection.scalars(select(t.c.team)))
        with self._lock:
            self._refresh(connection, [known for known in teams if known in self._views])
            for new in teams:
                if new not in self._views:
                    self._views[new] = self._read(connection, new)
            return {known: self._views[known] for known in teams}

    def _refresh(self, connection: Connection, teams: Collection[str]) -> None:
        if not teams:
            return
        t, changed = tables.revisions, defaultdict[str, dict[tuple[str, str], int]](dict)
        since = or_(*(and_(t.c.team == team, t.c.revision >= self._views[team].revision) for team in teams))
        for row in connection.execute(select(t.c.team, t.c.kind, t.c.id, t.c.revision).where(since)):
            changed[row.team][row.kind, row.id] = row.revision
        for team in teams:
            view, rows = self._views[team], changed[team]
            # Where the last change isn't there any more the database is another, as one that was restored.
            is_known = view.last in rows or view.revision == 0
            later = {key: revision for key, revision in rows.items() if revision > view.revision}
            if not is_known or len(later) > _MANY or any(kind == Kind.WORKSPACE for kind, _ in later):
                self._views[team] = self._read(connection, team)
            elif later:
                self._views[team] = self._changed(connection, team, view, later)

    def _read(self, connection: Connection, team: str) -> View:
        t = tables.revisions
        newest = select(t.c.kind, t.c.id, t.c.revision).where(t.c.team == team).order_by(t.c.revision.desc()).limit(1)
        row = connection.execute(newest).one_or_none()
        revision, last = (row.revision, (row.kind, row.id)) if row else (0, ("", ""))
        users = {user.id: user for user in reading.users(connection, team)}
        known = View(revision, last, "", users, {}, {}, 0, Roster.of(team, users.values()))
        channels = reading.channels(connection, team, names=_KeyedNames({team: known}))
        consent = _by_person(consent_records(connection, team=team))
        url = self._url or reading.workspace_url(connection, team)
        clean = clean_revision(connection, team)
        return replace(known, url=url, channels=_by_id(channels), consent=consent, clean=clean)

    def _changed(self, connection: Connection, team: str, view: View, rows: Mapping[tuple[str, str], int]) -> View:
        ids = {kind: [id_ for of, id_ in rows if of == kind] for kind in Kind}
        persons, places = ids[Kind.PERSON], {*ids[Kind.CHANNEL]}
        last = max(rows, key=lambda key: rows[key])
        new = replace(view, revision=rows[last], last=last)
        if persons:
            users = {user.id: user for user in reading.users(connection, team, persons)}
            roster = view.roster.changed(persons, Roster.of(team, users.values()))
            new = replace(new, users=_put(view.users, persons, users), roster=roster)
            # They are called after their people.
            direct = (channel for channel in view.channels.values() if channel.kind is ChannelKind.IM)
            places |= {channel.id for channel in direct if not set(persons).isdisjoint(channel.members)}
        if places:
            found = reading.channels(connection, team, places, _KeyedNames({team: new}))
            new = replace(new, channels=_put(view.channels, places, _by_id(found)))
        if ids[Kind.CONSENT]:
            new = replace(new, consent=_by_person(consent_records(connection, team=team)))
        if ids[Kind.FORGOTTEN]:
            new = replace(new, clean=clean_revision(connection, team))
        return new


def _put(known: Mapping[str, T], ids: Iterable[str], found: Mapping[str, T]) -> dict[str, T]:
    """`known` with what was found of `ids`, without those of them that are gone."""
    merged = {**known, **found}
    for gone in set(ids) - found.keys():
        merged.pop(gone, None)
    return merged


def _by_id(channels: Iterable[Channel]) -> dict[str, Channel]:
    return {channel.id: replace(channel, members=frozenset(channel.members)) for channel in channels}


def _by_person(records: Iterable[ConsentRecord]) -> dict[str, Sequence[ConsentRecord]]:
    found = defaultdict[str, list[ConsentRecord]](list)
    for record in records:
        found[record.user_id].append(record)
    return dict(found)
