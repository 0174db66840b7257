"""What a sync keeps: how far each channel and thread was read, written with the messages in one transaction.

Times are microseconds since the epoch, as Slack's timestamps are.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, and_, func, or_, select, update

from doppel.archive import tables
from doppel.archive.changes import note_change
from doppel.archive.cleaning import clean_messages
from doppel.archive.database import exclusive, reading, writing
from doppel.archive.directory import (
    Directory,
    channel_values,
    merge_people,
    merge_rows,
    merge_team,
    read_directory,
    rekey_named,
)
from doppel.archive.events import Listening, listening
from doppel.archive.forgotten import read_unwanted
from doppel.archive.merging import Merger, mark_deleted, merge_authors
from doppel.archive.place import Place
from doppel.archive.putting import put_row
from doppel.archive.rendering import render_again
from doppel.moments import micros
from doppel.records import Channel, ChannelKind, User
from doppel.slack.markup import Raw

WAIT_SECONDS = 600.0
"""How long a page waits for an import that holds the archive."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one channel was read; see `tables.sync_channels`. `members_at` and `checked_at` are 0 before."""

    channel: str
    low: int | None = None
    high: int | None = None
    walk_low: int | None = None
    walk_top: int | None = None
    members_at: int = 0
    num_members: int | None = None
    checked_at: int = 0


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that has replies; `latest` is the newest that is known of, `fetched` the newest that was read."""

    channel: str
    thread_ts: str
    latest: int
    fetched: int
    looked_at: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Where what was not read any more counts as deleted: from `low` to `high`, if it was known before `before`."""

    low: int
    high: int
    before: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What one page came to."""

    added: int = 0
    updated: int = 0
    deleted: int = 0


class SyncStore:
    """The archive as a sync writes it. Safe from several threads; every method is one transaction."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine, self._place = engine, place
        self._lock = threading.Lock()
        self._directory: Directory | None = None
        self._people: Sequence[User] = ()

    @property
    def team(self) -> str:
        """The workspace that is being synced."""
        return self._known.team

    @property
    def _known(self) -> Directory:
        if self._directory is None:
            raise RuntimeError("take_directory comes first")
        return self._directory

    def take_directory(
        self, team: str, url: str, users: Sequence[User], channels: Sequence[Channel], as_of: int
    ) -> None:
        """Take in everybody and every channel that Slack lists now.

        A channel that was synced before and isn't listed any more can't be seen by the app: who may read it is unknown.
        Members stay as they are known.
        """
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            merge_team(connection, team, channels)
            rekey_named(connection, team, channels)
            changed = merge_people(connection, team, users, as_of)
            changed |= merge_rows(connection, tables.channels, team, _with_members(connection, team, channels), as_of)
            hidden = _hide_unlisted(connection, team, {channel.id for channel in channels}, as_of)
            _take_url(connection, team, url, as_of)
            self._directory, self._people = read_directory(connection, team, {}), users
            render_again(connection, self._directory, changed)
            if changed or hidden:
                note_change(connection, team)

    def cursors(self) -> dict[str, Cursor]:
        """How far each channel was read, by its id."""
        with reading(self._engine, self._place) as connection:
            t = tables.sync_channels
            rows = connection.execute(select(t).where(t.c.team == self.team))
            return {row.channel: Cursor(**_without_team(row._mapping)) for row in rows}

    def listening(self) -> Listening | None:
        """How long events have kept the archive current."""
        with reading(self._engine, self._place) as connection:
            return listening(connection, self.team)

    def unread_threads(self, channels: Collection[str]) -> list[Thread]:
        """Threads of `channels` that have replies which were not read yet."""
        t = tables.sync_threads
        return self._threads(channels, t.c.fetched < t.c.latest)

    def recent_threads(self, channels: Collection[str], since: int) -> list[Thread]:
        """Threads of `channels` whose newest known reply is not older than `since`."""
        return self._threads(channels, tables.sync_threads.c.latest >= since)

    def take_history(
        self, cursor: Cursor, raws: Sequence[Raw], as_of: int, gone: Gone | None
    ) -> tuple[Taken, list[Thread]]:
        """A page of a channel, and how far it was read with it; returns the threads on it with unread replies."""
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            taken = self._take(connection, cursor.channel, raws, as_of)
            if gone:
                deleted = self._delete(connection, cursor.channel, _top_level(), gone, raws, as_of)
                taken = replace(taken, deleted=deleted)
            places = {name: getattr(cursor, name) for name in ("low", "high", "walk_low", "walk_top", "checked_at")}
            self._put(connection, tables.sync_channels, {"channel": cursor.channel}, places)
            unread = [self._note_thread(connection, cursor.channel, raw) for raw in raws if _has_replies(raw)]
            self._note(connection, taken)
        return taken, [thread for thread in unread if thread.fetched < thread.latest]

    def take_replies(self, thread: Thread, raws: Sequence[Raw], as_of: int, gone: Gone | None) -> Taken:
        """A page of a thread, and how far it was read with it."""
        t = tables.messages
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            taken = self._take(connection, thread.channel, raws, as_of)
            if gone:
                replies = and_(t.c.thread_ts == thread.thread_ts, t.c.ts != thread.thread_ts)
                deleted = self._delete(connection, thread.channel, replies, gone, raws, as_of)
                taken = replace(taken, deleted=deleted)
            key = {"channel": thread.channel, "thread_ts": thread.thread_ts}
            self._put(connection, tables.sync_threads, key, asdict(thread))
            self._note(connection, taken)
        return taken

    def forget_thread(self, thread: Thread) -> None:
        """Slack has this thread no more: nothing of it is left to be read."""
        key = {"channel": thread.channel, "thread_ts": thread.thread_ts}
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            self._put(connection, tables.sync_threads, key, asdict(replace(thread, fetched=thread.latest)))

    def take_members(self, cursor: Cursor, members: Sequence[str]) -> None:
        """Who is in a channel now."""
        t = tables.channels
        here = (t.c.team == self.team, t.c.id == cursor.channel)
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            before = connection.scalar(select(t.c.members).where(*here))
            connection.execute(update(t).where(*here).values(members=list(members)))
            values = {"members_at": cursor.members_at, "num_members": cursor.num_members}
            self._put(connection, tables.sync_channels, {"channel": cursor.channel}, values)
            if before is not None and sorted(before) != sorted(members):
                note_change(connection, self.team)

    def finish(self) -> None:
        """Name those whom no list names, by what their messages say; take out copies that came before what they copy
        was found to be forgotten.
        """
        with self._lock, exclusive(self._place, WAIT_SECONDS), writing(self._engine, self._place) as connection:
            unwanted = read_unwanted(connection, self.team, self._people)
            if unwanted.until and clean_messages(connection, self._known, unwanted):
                note_change(connection, self.team)
            merge_authors(connection, self._known)

    def _threads(self, channels: Collection[str], condition: Any) -> list[Thread]:
        t = tables.sync_threads
        with reading(self._engine, self._place) as connection:
            rows = connection.execute(select(t).where(t.c.team == self.team, condition).order_by(t.c.latest.desc()))
            return [Thread(**_without_team(row._mapping)) for row in rows if row.channel in channels]

    def _take(self, connection: Connection, channel: str, raws: Iterable[Raw], as_of: int) -> Taken:
        merger = Merger(connection, self._known, as_of, people=self._people)
        merger.take(channel, raws)
        return Taken(merger.added, merger.updated)

    def _delete(
        self, connection: Connection, channel: str, kind: Any, gone: Gone, raws: Iterable[Raw], as_of: int
    ) -> int:
        t, read = tables.messages, {raw.get("ts") for raw in raws}
        query = select(t.c.ts).where(t.c.team == self.team, t.c.channel == channel, kind)
        query = query.where(t.c.at.between(gone.low, gone.high), t.c.as_of < gone.before)
        query = query.where(or_(t.c.subtype.is_(None), t.c.subtype != "tombstone"))
        missing = [ts for ts in connection.scalars(query) if ts not in read]
        return mark_deleted(connection, self.team, channel, missing, as_of)

    def _note_thread(self, connection: Connection, channel: str, raw: Raw) -> Thread:
        """Remember the thread under `raw`; what an export already brought needs no reading."""
        ts, latest = str(raw["ts"]), micros(str(raw["latest_reply"]))
        t = tables.sync_threads
        here = (t.c.team == self.team, t.c.channel == channel, t.c.thread_ts == ts)
        known = connection.execute(select(t).where(*here)).one_or_none()
        fetched = known.fetched if known else self._archived_to(connection, channel, ts, raw)
        thread = Thread(channel, ts, latest, min(fetched, latest), known.looked_at if known else 0)
        if known is None or known.latest != latest:
            self._put(connection, t, {"channel": channel, "thread_ts": ts}, asdict(thread))
        return thread

    def _archived_to(self, connection: Connection, channel: str, ts: str, raw: Raw) -> int:
        t = tables.messages
        query = select(func.count(), func.max(t.c.at)).where(
            t.c.team == self.team, t.c.channel == channel, t.c.thread_ts == ts, t.c.ts != ts
        )
        count, newest = connection.execute(query).one()
        return newest if count and count == raw.get("reply_count") else micros(ts)

    def _put(self, connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        defaults = {"members_at": 0} if table is tables.sync_channels else {}
        put_row(connection, table, {"team": self.team, **key}, values, defaults)

    def _note(self, connection: Connection, taken: Taken) -> None:
        if taken != Taken():
            note_change(connection, self.team)


def _with_members(connection: Connection, team: str, channels: Iterable[Channel]) -> list[dict[str, Any]]:
    t = tables.channels
    known = {row.id: row.members for row in connection.execute(select(t.c.id, t.c.members).where(t.c.team == team))}
    return [channel_values(team, channel) | {"members": known.get(channel.id, [])} for channel in channels]


def _hide_unlisted(connection: Connection, team: str, listed: Collection[str], as_of: int) -> int:
    t, s = tables.channels, tables.sync_channels
    synced = set(connection.scalars(select(s.c.channel).where(s.c.team == team)))
    here = (t.c.team == team, t.c.id.in_(sorted(synced - set(listed))), t.c.kind != ChannelKind.UNKNOWN)
    return connection.execute(update(t).where(*here).values(kind=ChannelKind.UNKNOWN, as_of=as_of)).rowcount


def _take_url(connection: Connection, team: str, url: str, as_of: int) -> None:
    t = tables.workspaces
    connection.execute(update(t).where(t.c.team == team).values(url=url.rstrip("/"), as_of=as_of))


def _top_level() -> Any:
    """What a channel's history shows: not the replies, unless they were sent to the channel too."""
    t = tables.messages
    return or_(t.c.thread_ts.is_(None), t.c.thread_ts == t.c.ts, t.c.subtype == "thread_broadcast")


def _has_replies(raw: Raw) -> bool:
    return bool(raw.get("reply_count")) and isinstance(raw.get("latest_reply"), str) and isinstance(raw.get("ts"), str)


def _without_team(row: RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "team"}
