"""Taking an export in: people, channels, then messages in batches, all within the transaction of the caller.

A row is replaced only by what is newer: a later edit, or the same edit seen by an export of a later day. So importing
again changes nothing, a later export adds and updates, and an older one doesn't undo.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from time import monotonic
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from doppel.archive import tables
from doppel.archive.changes import note_change
from doppel.archive.directory import UNSEEN, Directory, merge_directory, merge_rows, read_directory
from doppel.archive.ledger import now
from doppel.archive.reading import AnyRow, counts, micros
from doppel.archive.rendering import render_again
from doppel.records import Channel, MessageKind, User
from doppel.slack.export import Export, Progress
from doppel.slack.markup import Raw, clean
from doppel.slack.messages import translate

_BATCH = 500
_DELETED = 2**62
"""`edited` of a tombstone: a deletion is the last that happens to a message."""
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_FIELDS = ("team", "channel", "ts", "author", "text", "kind", "user", "thread_ts")

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `messages`, `users`, `channels` and `threads` count the whole archive as it is now."""

    messages: int
    added: int
    updated: int
    unchanged: int
    skipped: dict[str, int]
    users: int
    channels: int
    threads: int
    seconds: float


def import_export(connection: Connection, export: Export, progress: Progress | None = None) -> ImportReport:
    """Take in an export within the transaction of `connection`."""
    started = monotonic()
    directory, changed = merge_directory(connection, export)
    render_again(connection, directory, changed)
    merger = _Merger(connection, export, directory)
    for _, of_channel in groupby(export.messages(progress), key=lambda pair: pair[0].id):
        rows = merger.rows(of_channel)
        while batch := list(islice(rows, _BATCH)):
            merger.merge(batch)
    _merge_authors(connection, directory)
    _merge_url(connection, directory.team, export)
    report = ImportReport(
        **asdict(counts(connection)),
        added=merger.added,
        updated=merger.updated,
        unchanged=merger.unchanged,
        skipped={reason: count for reason, count in sorted(export.skipped.items()) if count},
        seconds=round(monotonic() - started, 3),
    )
    if changed or merger.added or merger.updated:
        note_change(connection, directory.team)
    _log(connection, directory.team, export, report)
    return report


@dataclass(slots=True)
class _Merger:
    """Merges messages, a batch of one channel at a time, and counts what became of them."""

    connection: Connection
    export: Export
    directory: Directory
    added: int = 0
    updated: int = 0
    unchanged: int = 0

    def rows(self, found: Iterable[tuple[Channel, Raw]]) -> Iterator[Values]:
        as_of = micros(self.export.as_of)
        for channel, raw in found:
            try:
                row = _row(raw, self.directory, self.directory.channel_ids[channel.id])
            except RecursionError:
                row = None
            if row is None:
                self.export.skipped["nested too deep"] += 1
            else:
                yield row | {"as_of": as_of}

    def merge(self, batch: list[Values]) -> None:
        t, incoming = tables.messages, _unique(batch)
        stored = self._stored(incoming)
        added = [row for ts, row in incoming.items() if ts not in stored]
        differing = [(row, stored[ts]) for ts, row in incoming.items() if ts in stored and row["raw"] != stored[ts].raw]
        newer = [_keyed(row) for row, old in differing if (row["edited"], row["as_of"]) > (old.edited, old.as_of)]
        same = [row for ts, row in incoming.items() if ts in stored and row["raw"] == stored[ts].raw]
        seen = [_keyed(row) for row in same if row["as_of"] > stored[row["ts"]].as_of]
        if added:
            self.connection.execute(insert(t), added)
        if newer:
            self.connection.execute(_REPLACE, newer)
        if seen:
            self.connection.execute(_SEEN, seen)
        self.export.skipped["duplicate"] += len(batch) - len(incoming)
        self.added += len(added)
        self.updated += len(newer)
        self.unchanged += len(incoming) - len(added) - len(newer)

    def _stored(self, incoming: dict[str, Values]) -> dict[str, AnyRow]:
        t, first = tables.messages, next(iter(incoming.values()))
        query = select(t.c.ts, t.c.raw, t.c.edited, t.c.as_of).where(t.c.team == first["team"])
        query = query.where(t.c.channel == first["channel"], t.c.ts.in_(list(incoming)))
        return {row.ts: row for row in self.connection.execute(query)}


_KEY = and_(*(tables.messages.c[name] == bindparam(f"key_{name}") for name in ("team", "channel", "ts")))
_REPLACE = update(tables.messages).where(_KEY).values({c.name: bindparam(c.name) for c in tables.messages.c})
_SEEN = update(tables.messages).where(_KEY).values(as_of=bindparam("as_of"))


def _row(raw: Raw, directory: Directory, channel: str) -> Values | None:
    message = translate(raw, directory.team, channel, directory.names, directory.bots)
    if message is None:
        return None
    edited = micros(message.edited) if message.edited else 0
    return {name: getattr(message.record, name) for name in _FIELDS} | {
        "at": micros(message.record.ts),
        "subtype": message.subtype,
        "edited": _DELETED if message.subtype == "tombstone" else edited,
        "raw": clean(_encode(raw)),
    }


def _keyed(row: Values) -> Values:
    return row | {f"key_{name}": row[name] for name in ("team", "channel", "ts")}


def _unique(batch: list[Values]) -> dict[str, Values]:
    """By timestamp; of a message that is there twice, the one edited last."""
    incoming: dict[str, Values] = {}
    for row in batch:
        if row["ts"] not in incoming or row["edited"] > incoming[row["ts"]]["edited"]:
            incoming[row["ts"]] = row
    return incoming


def _merge_authors(connection: Connection, directory: Directory) -> None:
    """People whom no list names, such as guests of another workspace, go by what their messages say."""
    t = tables.messages
    human = (t.c.team == directory.team, t.c.kind == MessageKind.HUMAN)
    authors = set(connection.scalars(select(t.c.user).where(*human, t.c.user.is_not(None)).distinct()))
    unlisted = sorted(authors - directory.names.users.keys())
    newest = select(t.c.author).where(*human, t.c.user == bindparam("user")).limit(1)
    newest = newest.order_by(t.c.at.desc(), t.c.channel, t.c.ts)
    found = {user: connection.scalar(newest, {"user": user}) or user for user in unlisted}
    people = [asdict(User(directory.team, user, "", display_name=name)) for user, name in found.items()]
    merge_rows(connection, tables.users, directory.team, people, UNSEEN)
    named = {user for user, name in found.items() if name != user}
    render_again(connection, read_directory(connection, directory.team, directory.channel_ids), named)


def _merge_url(connection: Connection, team: str, export: Export) -> None:
    t, as_of = tables.workspaces, micros(export.as_of)
    if export.url:
        newer = update(t).where(t.c.team == team, t.c.as_of < as_of)
        connection.execute(newer.values(url=export.url, as_of=as_of))


def _log(connection: Connection, team: str, export: Export, report: ImportReport) -> None:
    entry = {"at": now(), "team": team, "name": clean(export.path.name), "as_of": micros(export.as_of)}
    connection.execute(insert(tables.imports).values(**entry, counts=asdict(report)))
