"""The archive as Slack's events keep it current, and since when they do without a gap.

Times are microseconds since the epoch, as Slack's timestamps are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from doppel.archive import Archive, tables
from doppel.archive.changes import note_change
from doppel.archive.channels import (
    UNSEEN,
    merge_channels,
    move_channel,
    moved_channels,
    narrow_channel,
    take_membership,
)
from doppel.archive.directory import merge_people
from doppel.archive.messages import encoded, mark_deleted, tombstone
from doppel.archive.restrictions import Limit, Restriction
from doppel.archive.upsert import put_row
from doppel.archive.waiting import exclusive_or
from doppel.ingest.forgetting import clean_messages
from doppel.ingest.merge import Merger
from doppel.ingest.names import directory_for, read_directory
from doppel.ingest.render import render_again
from doppel.records import ChannelKind, Raw
from doppel.slack.block_text import dicts
from doppel.slack.events import (
    Change,
    ChannelChanged,
    ChannelLost,
    ChannelMoved,
    ChannelNarrower,
    ChannelPrivate,
    ChannelUnread,
    Deleted,
    Membership,
    PersonChanged,
    Reacted,
    Said,
    missing_of,
)
from doppel.slack.members import user_of
from doppel.slack.messages import timestamp
from doppel.slack.nesting import stored_raw
from doppel.timestamps import micros

WAIT_SECONDS = 600.0
"""How long events wait for an import that holds the archive."""
_KEPT = (ChannelKind.PUBLIC, ChannelKind.PRIVATE, ChannelKind.MPIM)


@dataclass(frozen=True, slots=True)
class Listening:
    """From `since` to `until` no event was missed."""

    since: int
    until: int


@dataclass(slots=True)
class _Outcome:
    changed: bool = False
    unread: bool = False


class EventStore:
    """One workspace's archive as events write it. Safe from several threads; every method is one transaction."""

    def __init__(self, archive: Archive, team: str) -> None:
        self._archive, self.team, self._waiting = archive, team, archive.waiting
        self._lock = threading.Lock()

    def take(self, changes: Sequence[tuple[Change, int]]) -> bool:
        """Take in changes, each with when it was; whether a sync must read what no event told of.

        A workspace is known after its first sync, which reads all that events told of before. Doing it twice, or in
        another order, comes to the same, but for reactions, which the next sync sets right. While it waits for an
        import, what the changes forbid is not used: see `waiting`.
        """
        limits, kept = self._limits(changes), list[int]()

        def keep() -> None:
            kept.extend(self._waiting.keep(limits))

        with self._heard(limits), self._lock:
            with exclusive_or(self._archive.backend, WAIT_SECONDS, keep), self._archive.writing() as connection:
                unread = self._take(connection, changes)
            if kept:
                self._waiting.drop(kept)
        return unread

    def hear(self, changes: Sequence[tuple[Change, int]]) -> None:
        """Use nothing any more that the changes forbid, until as many are `written`."""
        self._waiting.hear(self._limits(changes))

    def written(self, changes: Sequence[tuple[Change, int]]) -> None:
        """The changes are written."""
        self._waiting.let_go(self._limits(changes))

    def listen(self, since: int, until: int) -> None:
        """Record that no event was missed from `since` to `until`."""
        with self._archive.writing() as connection:
            put_row(connection, tables.listening, {"team": self.team}, {"since": since, "until": until})

    def stop_listening(self) -> None:
        """From now on events are missed."""
        t = tables.listening
        with self._archive.writing() as connection:
            connection.execute(delete(t).where(t.c.team == self.team))

    def _limits(self, changes: Sequence[tuple[Change, int]]) -> list[Restriction]:
        return [limit for change, _ in changes for limit in restrictions_of(self.team, change)]

    @contextmanager
    def _heard(self, limits: Sequence[Restriction]) -> Iterator[None]:
        self._waiting.hear(limits)
        try:
            yield
        finally:
            self._waiting.let_go(limits)

    def _take(self, connection: Connection, changes: Sequence[tuple[Change, int]]) -> bool:
        outcome = _Outcome()
        if not self._is_known(connection):
            return True
        for change, at in changes:
            self._apply(connection, self._where_it_is_now(connection, change), at, outcome)
        if outcome.changed:
            note_change(connection, self.team)
        return outcome.unread

    def _where_it_is_now(self, connection: Connection, change: Change) -> Change:
        """The change, of the channel under the id that it has now: Slack's events may overtake each other."""
        if isinstance(change, PersonChanged):
            return change
        if isinstance(change, ChannelMoved):
            now = moved_channels(connection, self.team, [change.now]).get(change.now, change.now)
            return change if now == change.channel else replace(change, now=now)
        moved = moved_channels(connection, self.team, [change.channel])
        return replace(change, channel=moved[change.channel]) if change.channel in moved else change

    def _apply(self, connection: Connection, change: Change, at: int, outcome: _Outcome) -> None:
        match change:
            case Said(channel, raw, held=True) if not self._concerns(connection, channel, str(raw["ts"])):
                pass
            case Said(channel, raw, changed):
                # The news of a message may come again after its deletion: it tells how it was when it was written.
                self._say(
                    connection, channel, raw, changed, at if changed else min(at, micros(str(raw["ts"]))), outcome
                )
            case Deleted(channel, ts, held=True) if not self._concerns(connection, channel, ts):
                pass
            case Deleted(channel, ts):
                self._delete(connection, channel, ts, at, outcome)
            case Reacted():
                self._react(connection, change, at, outcome)
            case ChannelChanged(channel):
                self._change_channel(connection, channel, _values(change), at, outcome)
            case ChannelPrivate(channel):
                self._change_channel(connection, channel, {"kind": ChannelKind.PRIVATE}, at, outcome)
                self._update_sync(connection, channel, checked_at=0, members_at=0)
                outcome.unread = True
            case ChannelNarrower(channel, kind):
                if narrow_channel(connection, self.team, channel, kind, at):
                    self._read_again(connection, {channel}, outcome)
                    self._update_sync(connection, channel, checked_at=0, members_at=0)
                    outcome.unread = True
            case ChannelLost(channel):
                self._change_channel(connection, channel, {"kind": ChannelKind.UNKNOWN}, at, outcome)
                self._update_sync(connection, channel, checked_at=0)
            case ChannelMoved(channel, now):
                outcome.unread = True
                if move_channel(connection, self.team, channel, now, at):
                    self._read_again(connection, {channel, now}, outcome)
                    outcome.changed = True
                self._update_sync(connection, now, checked_at=0, members_at=0)
            case ChannelUnread(channel):
                self._update_sync(connection, channel, checked_at=0)
                outcome.unread = True
            case Membership(channel, user, joined):
                self._change_members(connection, channel, user, joined, at, outcome)
            case PersonChanged(raw):
                people = [user_of(raw, self.team)]
                self._read_again(connection, merge_people(connection, self.team, people, at), outcome)

    def _concerns(self, connection: Connection, channel: str, ts: str) -> bool:
        """Whether a channel is one whose messages are kept, or the message is there from elsewhere, as an export."""
        c, m = tables.channels, tables.messages
        kept = select(c.c.id).where(c.c.team == self.team, c.c.id == channel, c.c.kind.in_(_KEPT))
        there = select(m.c.ts).where(m.c.team == self.team, m.c.channel == channel, m.c.ts == ts)
        return any(connection.execute(query).first() is not None for query in (kept, there))

    def _say(self, connection: Connection, channel: str, raw: Raw, changed: bool, at: int, outcome: _Outcome) -> None:
        if merge_channels(connection, self.team, [{"id": channel}], UNSEEN):
            outcome.unread = outcome.changed = True
        if changed:
            raw = self._attributed(connection, channel, raw)
        merger = self._merged(connection, channel, raw, at)
        if merger.erased:
            clean_messages(connection, read_directory(connection, self.team), merger.tombstones)
        outcome.changed |= merger.changed
        thread = timestamp(raw.get("thread_ts"))
        if merger.added and thread not in (None, timestamp(raw.get("ts"))):
            self._note_reply(connection, channel, str(thread), micros(str(raw["ts"])))

    def _attributed(self, connection: Connection, channel: str, raw: Raw) -> Raw:
        """What somebody said as it reads now: theirs also where that isn't said, for them to be forgotten."""
        stored = self._stored(connection, channel, str(raw["ts"])) if missing_of(raw) else None
        return {**raw, **{key: stored[key] for key in missing_of(raw) if key in stored}} if stored else raw

    def _stored(self, connection: Connection, channel: str, ts: str) -> Raw | None:
        t = tables.messages
        here = (t.c.team == self.team, t.c.channel == channel, t.c.ts == ts)
        stored = connection.scalar(select(t.c.raw).where(*here))
        return None if stored is None else stored_raw(stored)

    def _delete(self, connection: Connection, channel: str, ts: str, at: int, outcome: _Outcome) -> None:
        """Remove a message; one that is still to come is deleted beforehand."""
        if mark_deleted(connection, self.team, channel, [ts], at):
            outcome.changed = True
            return
        self._merged(connection, channel, tombstone(ts), at)

    def _note_reply(self, connection: Connection, channel: str, thread_ts: str, at: int) -> None:
        """A thread has a later reply; it counts as read to there if no event of it can have been missed."""
        t = tables.sync_threads
        here = (t.c.team == self.team, t.c.channel == channel, t.c.thread_ts == thread_ts)
        known = connection.execute(select(t).where(*here)).one_or_none()
        latest = max(known.latest, at) if known else at
        whole_at = (known.looked_at if known.fetched >= known.latest else 0) if known else micros(thread_ts)
        current = listening(connection, self.team)
        is_whole = current is not None and whole_at >= current.since
        start = known.fetched if known else micros(thread_ts)
        values = {"latest": latest, "fetched": latest if is_whole else start}
        key = {"team": self.team, "channel": channel, "thread_ts": thread_ts}
        put_row(connection, t, key, values, {"looked_at": whole_at if is_whole else 0})

    def _react(self, connection: Connection, change: Reacted, at: int, outcome: _Outcome) -> None:
        stored = self._stored(connection, change.channel, change.ts)
        if stored is None:
            return
        outcome.changed |= self._merged(connection, change.channel, with_reaction(stored, change), at).changed

    def _merged(self, connection: Connection, channel: str, raw: Raw, at: int) -> Merger:
        """A message taken in, with the names that it needs."""
        merger = Merger(connection, directory_for(connection, self.team, _encoded(raw)), at)
        merger.take(channel, [raw])
        return merger

    def _change_channel(
        self, connection: Connection, channel: str, values: dict[str, Any], at: int, outcome: _Outcome
    ) -> None:
        """Change what is known of a channel; one that a sync has still to bring is known by that alone."""
        outcome.unread |= bool(merge_channels(connection, self.team, [{"id": channel}], UNSEEN))
        if merge_channels(connection, self.team, [{"id": channel, **values}], at):
            self._read_again(connection, {channel} if values.keys() & {"name", "kind"} else set(), outcome)
            outcome.changed = True

    def _change_members(
        self, connection: Connection, channel: str, user: str, joined: bool, at: int, outcome: _Outcome
    ) -> None:
        outcome.changed |= take_membership(connection, self.team, channel, user, joined, at)
        # Who is in is read again at the next sync: an event that came late may have been the wrong one to believe.
        self._update_sync(connection, channel, members_at=0)

    def _update_sync(self, connection: Connection, channel: str, **values: int) -> None:
        t = tables.sync_channels
        connection.execute(update(t).where(t.c.team == self.team, t.c.channel == channel).values(**values))

    def _read_again(self, connection: Connection, changed: Iterable[str], outcome: _Outcome) -> None:
        if found := set(changed):
            render_again(connection, self.team, found)
            outcome.changed = True

    def _is_known(self, connection: Connection) -> bool:
        t = tables.workspaces
        return connection.scalar(select(t.c.team).where(t.c.team == self.team)) is not None


def listening(connection: Connection, team: str) -> Listening | None:
    """How long events have kept the archive of `team` current, or None where they never did."""
    t = tables.listening
    row = connection.execute(select(t.c.since, t.c.until).where(t.c.team == team)).one_or_none()
    return Listening(row.since, row.until) if row else None


def restrictions_of(team: str, change: Change) -> list[Restriction]:
    """What a change forbids; nothing where it only adds."""
    match change:
        case Membership(channel, user):
            return [Restriction(team, Limit.MEMBERSHIP, channel, user)]
        case ChannelPrivate(channel) | ChannelNarrower(channel):
            return [Restriction(team, Limit.PRIVATE, channel)]
        case ChannelLost(channel) | ChannelMoved(channel):
            # Who leaves one that is to be moved leaves it under its other id.
            return [Restriction(team, Limit.LOST, channel)]
        case Deleted(channel, ts):
            return [Restriction(team, Limit.MESSAGE, channel, ts)]
        case Said(channel, raw, changed) if changed:
            return [Restriction(team, Limit.MESSAGE, channel, timestamp(raw.get("ts")) or "")]
        case PersonChanged(raw):
            person = user_of(raw, team)
            limits = ((Limit.GUEST, person.is_guest), (Limit.DEACTIVATED, person.deleted))
            return [Restriction(team, limit, subject=person.id) for limit, holds in limits if holds]
    return []


def with_reaction(raw: Raw, change: Reacted) -> Raw:
    """The message with one reaction more or less, as Slack lists them."""
    users = {item["name"]: list(item["users"]) for item in _reactions(raw)}
    others = [user for user in users.get(change.name, []) if user != change.user]
    users[change.name] = [*others, change.user] if change.added else others
    reactions = [{"name": name, "users": who, "count": len(who)} for name, who in users.items() if who]
    rest = {key: value for key, value in raw.items() if key != "reactions"}
    return {**rest, "reactions": reactions} if reactions else rest


def _encoded(raw: Raw) -> list[str]:
    """The message as it is stored; nothing of one that is nested too deep to be."""
    try:
        return [encoded(raw)]
    except RecursionError:
        return []


def _reactions(raw: Raw) -> list[dict[str, Any]]:
    listed = dicts(raw.get("reactions"))
    return [item for item in listed if isinstance(item.get("name"), str) and isinstance(item.get("users"), list)]


def _values(change: ChannelChanged) -> dict[str, Any]:
    values = {"name": change.name, "archived": change.archived}
    return {name: value for name, value in values.items() if value is not None}
