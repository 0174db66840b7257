"""What a sync keeps: how far each channel and thread was read, written with the messages in one transaction.

Times are microseconds since the epoch, as Slack's timestamps are.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, and_, exists, func, or_, select

from doppel.archive import Archive, tables
from doppel.archive.changes import note_change
from doppel.archive.channels import (
    channel_values,
    has_news_since,
    hide_channels,
    merge_channels,
    moved_channels,
    settle_moves,
    take_members,
)
from doppel.archive.directory import doubt_unlisted, merge_groups, merge_people, merge_team, rekey_named, take_url
from doppel.archive.forgotten import read_tombstones
from doppel.archive.messages import mark_deleted
from doppel.archive.reading import AnyRow
from doppel.archive.upsert import put_row
from doppel.ingest.event_store import Listening, listening
from doppel.ingest.forgetting import clean_messages
from doppel.ingest.merge import Merger, merge_authors
from doppel.ingest.names import Directory, read_directory
from doppel.ingest.render import render_again
from doppel.records import Channel, Raw, User
from doppel.slack.messages import timestamp
from doppel.timestamps import micros

NO_GROUPS: Mapping[str, str] = {}
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

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._directory: Directory | None = None
        self._people: Sequence[User] = ()

    @property
    def team(self) -> str:
        """The workspace that is being synced."""
        return self._names.team

    @property
    def _names(self) -> Directory:
        if self._directory is None:
            raise RuntimeError("take_directory comes first")
        return self._directory

    def take_directory(
        self,
        team: str,
        url: str,
        users: Sequence[User],
        channels: Sequence[Channel],
        as_of: int,
        groups: Mapping[str, str] = NO_GROUPS,
    ) -> None:
        """Take in everybody and every channel that Slack listed when it was asked, at `as_of`, and user groups' names.

        A channel that was synced before and isn't listed any more can't be seen by the app: who may read it is unknown.
        Members stay as they are known.
        """
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
            merge_team(connection, [team], channels)
            rekey_named(connection, team, channels)
            moved = settle_moves(connection, team, {channel.id for channel in channels}, as_of)
            changed = moved | merge_people(connection, team, users, as_of)
            doubt_unlisted(connection, team, {user.id for user in users}, as_of)
            tombstones = read_tombstones(connection, team, users)
            places = [channel_values(tombstones.channel(channel, users)) for channel in channels]
            changed |= merge_channels(connection, team, places, as_of)
            changed |= hide_channels(connection, team, _unlisted(connection, team, channels), as_of)
            changed |= merge_groups(connection, team, groups, as_of)
            take_url(connection, team, url.rstrip("/"), as_of)
            self._directory, self._people = read_directory(connection, team), users
            render_again(connection, team, changed)
            if changed:
                note_change(connection, team)

    def cursors(self) -> dict[str, Cursor]:
        """How far each channel was read, by its id."""
        with self._archive.reading() as connection:
            t = tables.sync_channels
            rows = connection.execute(select(t).where(t.c.team == self.team))
            return {row.channel: Cursor(**_without_team(row._mapping)) for row in rows}

    def listening(self) -> Listening | None:
        """How long events have kept the archive current."""
        with self._archive.reading() as connection:
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
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
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
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
            taken = self._take(connection, thread.channel, raws, as_of)
            if gone:
                deleted = self._delete(connection, thread.channel, _replies(thread.thread_ts), gone, raws, as_of)
                taken = replace(taken, deleted=deleted)
            key = {"channel": thread.channel, "thread_ts": thread.thread_ts}
            self._put(connection, tables.sync_threads, key, asdict(thread))
            self._note(connection, taken)
        return taken

    def close_thread(self, thread: Thread) -> None:
        """Slack has this thread no more: nothing of it is left to be read. That isn't to say that it was deleted."""
        key = {"channel": thread.channel, "thread_ts": thread.thread_ts}
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
            self._put(connection, tables.sync_threads, key, asdict(thread))

    def held_channels(self) -> set[str]:
        """The channels of which there is any message."""
        c, m = tables.channels, tables.messages
        held = exists().where(m.c.team == c.c.team, m.c.channel == c.c.id)
        with self._archive.reading() as connection:
            return set(connection.scalars(select(c.c.id).where(c.c.team == self.team, held)))

    def has_message(self, channel: str, thread_ts: str | None, where: Gone) -> bool:
        """Whether there is a message that would count as deleted: of a channel itself, or of one of its threads."""
        with self._archive.reading() as connection:
            query = self._known(channel, _replies(thread_ts) if thread_ts else _top_level(), where)
            return connection.scalar(query.limit(1)) is not None

    def take_members(self, cursor: Cursor, members: Sequence[str], as_of: int) -> None:
        """Who was in a channel when Slack was asked, at `as_of`.

        Where somebody joined or left since, the next sync asks again.
        """
        channel = cursor.channel
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
            is_news = take_members(connection, self.team, channel, members, as_of)
            is_over = has_news_since(connection, self.team, channel, as_of)
            values = {"members_at": 0 if is_over else cursor.members_at, "num_members": cursor.num_members}
            self._put(connection, tables.sync_channels, {"channel": channel}, values)
            if is_news:
                note_change(connection, self.team)

    def finish(self, began: int | None) -> None:
        """Name those whom no list names, by what their messages say; take out copies that came before what they copy
        was found to be forgotten.

        What events forbade before is over where all was read since `began`; None where it wasn't.
        """
        with self._lock, self._archive.exclusive(WAIT_SECONDS), self._archive.writing() as connection:
            tombstones = read_tombstones(connection, self.team, self._people)
            if tombstones.until and clean_messages(connection, self._names, tombstones):
                note_change(connection, self.team)
            merge_authors(connection, self._names)
        if began is not None:
            self._archive.waiting.drop_before(self.team, began)

    def _threads(self, channels: Collection[str], condition: Any) -> list[Thread]:
        t = tables.sync_threads
        with self._archive.reading() as connection:
            rows = connection.execute(select(t).where(t.c.team == self.team, condition).order_by(t.c.latest.desc()))
            return [Thread(**_without_team(row._mapping)) for row in rows if row.channel in channels]

    def _take(self, connection: Connection, channel: str, raws: Iterable[Raw], as_of: int) -> Taken:
        merger = Merger(connection, self._names, as_of, people=self._people)
        # It may have moved since it was listed.
        merger.take(moved_channels(connection, self.team, [channel]).get(channel, channel), raws)
        return Taken(merger.added, merger.updated)

    def _delete(
        self, connection: Connection, channel: str, kind: Any, gone: Gone, raws: Iterable[Raw], as_of: int
    ) -> int:
        read = {micros(ts) for raw in raws if (ts := timestamp(raw.get("ts")))}
        missing = [ts for (ts,) in connection.execute(self._known(channel, kind, gone)) if micros(ts) not in read]
        return mark_deleted(connection, self.team, channel, missing, as_of)

    def _known(self, channel: str, kind: Any, where: Gone) -> Select[*tuple[Any, ...]]:
        """The timestamps of what was known before, and isn't deleted."""
        t = tables.messages
        query = select(t.c.ts).where(t.c.team == self.team, t.c.channel == channel, kind)
        query = query.where(t.c.at.between(where.low, where.high), t.c.as_of < where.before)
        return query.where(or_(t.c.subtype.is_(None), t.c.subtype != "tombstone"))

    def _note_thread(self, connection: Connection, channel: str, raw: Raw) -> Thread:
        """Remember the thread under `raw`; what an export already brought needs no reading."""
        ts, told, t = str(timestamp(raw["ts"])), timestamp(raw.get("latest_reply")), tables.sync_threads
        here = (t.c.team == self.team, t.c.channel == channel, t.c.thread_ts == ts)
        known = connection.execute(select(t).where(*here)).one_or_none()
        latest = micros(told) if told else self._latest(connection, channel, ts, raw, known)
        fetched = known.fetched if known else self._archived_to(connection, channel, ts, raw)
        thread = Thread(channel, ts, latest, min(fetched, latest), known.looked_at if known else 0)
        if known is None or known.latest != latest:
            self._put(connection, t, {"channel": channel, "thread_ts": ts}, asdict(thread))
        return thread

    def _latest(self, connection: Connection, channel: str, ts: str, raw: Raw, known: AnyRow | None) -> int:
        """The newest reply that there can be of a thread of which Slack says only how many there are."""
        t = tables.messages
        query = select(func.count(), func.max(t.c.at)).where(t.c.team == self.team, t.c.channel == channel)
        query = query.where(_replies(ts), or_(t.c.subtype.is_(None), t.c.subtype != "tombstone"))
        count, newest = connection.execute(query).one()
        newest = max(newest or micros(ts), known.latest if known else 0)
        return int(newest + (count != raw.get("reply_count")))

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


def _unlisted(connection: Connection, team: str, listed: Iterable[Channel]) -> set[str]:
    s = tables.sync_channels
    synced = set(connection.scalars(select(s.c.channel).where(s.c.team == team)))
    return synced - {channel.id for channel in listed}


def _top_level() -> Any:
    """What a channel's history shows: not the replies, unless they were sent to the channel too."""
    t = tables.messages
    return or_(t.c.thread_ts.is_(None), t.c.thread_ts == t.c.ts, t.c.subtype == "thread_broadcast")


def _replies(thread_ts: str) -> Any:
    t = tables.messages
    return and_(t.c.thread_ts == thread_ts, t.c.ts != thread_ts)


def _has_replies(raw: Raw) -> bool:
    return isinstance(raw.get("ts"), str) and bool(raw.get("reply_count") or timestamp(raw.get("latest_reply")))


def _without_team(row: RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "team"}
