"""Messages into the archive, wherever they come from: one row for each (team, channel, ts), the newest word wins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, bindparam, insert, select

from doppel.archive import tables
from doppel.archive.channels import UNSEEN
from doppel.archive.directory import merge_people
from doppel.archive.forgotten import DELETED, FORGOTTEN, Tombstones, read_tombstones
from doppel.archive.messages import Values, blank, encoded, mark_seen, replace_rows
from doppel.archive.reading import AnyRow
from doppel.ids import is_id
from doppel.ingest.copies import Copies
from doppel.ingest.names import Directory
from doppel.ingest.render import render_again
from doppel.plain_text import storable
from doppel.records import MessageKind, Raw, User
from doppel.slack.json_stream import MAX_ELEMENT_CHARS, Unread
from doppel.slack.messages import translate
from doppel.slack.nesting import is_too_deep
from doppel.timestamps import micros

_WITHHELD = re.compile(r'"(?:mode|subtype)":"hidden_by_limit"|"is_hidden_by_limit":(?:true|1)\b')
"""What Slack puts into a message, as it is stored, in place of what a workspace's plan doesn't show any more."""
_BATCH = 500
_BATCH_CHARS = 2 * 2**20
"""How many messages, and how much of them, are in memory at once."""
_FIELDS = ("team", "channel", "ts", "author", "text", "kind", "user", "thread_ts", "said")


@dataclass(slots=True)
class Merger:
    """Merges messages in the transaction of `connection`, and counts what became of them.

    `as_of` says, in microseconds, when Slack said so; `skipped` counts by reason what can't be used. What was forgotten
    comes in as a tombstone, and without the copies of it, which may name `people`. `erased` counts tombstones that
    were not there: of what they stand for, messages taken in before may hold copies.
    """

    connection: Connection
    directory: Directory
    as_of: int
    skipped: Counter[str] = field(default_factory=Counter)
    people: Iterable[User] = ()
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    erased: int = 0
    tombstones: Tombstones = field(init=False)
    _copies: Copies = field(init=False)

    def __post_init__(self) -> None:
        # Read in this transaction: a page, an event or an export may have been on its way when somebody was forgotten.
        self.tombstones = read_tombstones(self.connection, self.directory.team, self.people)
        self._copies = Copies(self.tombstones)
        self.directory = replace(self.directory, names=self._copies.names(self.directory.names))

    def take(self, channel: str, raws: Iterable[Raw]) -> None:
        """Messages of one channel, under the id that it has now, as Slack wrote them."""
        for batch in _batches(self._rows(channel, raws)):
            self._merge(batch)

    @property
    def changed(self) -> bool:
        """Whether the archive says anything new now."""
        return bool(self.added or self.updated)

    def _rows(self, channel: str, raws: Iterable[Raw]) -> Iterator[Values]:
        for raw in raws:
            try:
                row = self._row(raw, channel)
            except RecursionError:
                row = None
            if row is None:
                self.skipped[Unread.TOO_DEEP] += 1
            elif len(row["raw"]) > MAX_ELEMENT_CHARS:
                self.skipped[Unread.TOO_LARGE] += 1
            else:
                yield row | {"as_of": self.as_of}

    def _row(self, raw: Raw, channel: str) -> Values | None:
        row = row_of(raw, self.directory, channel)
        if row is None or not self.tombstones.until:
            return row
        if self.tombstones.covers(row["user"], row["at"]):
            return row | blank(row["ts"], FORGOTTEN)
        if not self._copies.may_be_in(row["raw"]):
            return row
        return row_of(self._copies.removed(raw, row["at"]), self.directory, channel)

    def _merge(self, batch: list[Values]) -> None:
        t, incoming = tables.messages, _unique(batch)
        stored = self._stored(incoming)
        added = [row for ts, row in incoming.items() if ts not in stored]
        differing = [(row, stored[ts]) for ts, row in incoming.items() if ts in stored and row["raw"] != stored[ts].raw]
        newer = [row for row, old in differing if _goes_before(row, old)]
        same = [row for ts, row in incoming.items() if ts in stored and row["raw"] == stored[ts].raw]
        seen = [row for row in same if row["as_of"] > stored[row["ts"]].as_of]
        if added:
            self.connection.execute(insert(t), added)
        replace_rows(self.connection, newer)
        mark_seen(self.connection, seen)
        self.skipped["duplicate"] += len(batch) - len(incoming)
        self.erased += sum(row["edited"] == FORGOTTEN for row in (*added, *newer))
        self.added += len(added)
        self.updated += len(newer)
        self.unchanged += len(incoming) - len(added) - len(newer)

    def _stored(self, incoming: dict[str, Values]) -> dict[str, AnyRow]:
        t, first = tables.messages, next(iter(incoming.values()))
        query = select(t.c.ts, t.c.raw, t.c.edited, t.c.as_of).where(t.c.team == first["team"])
        query = query.where(t.c.channel == first["channel"], t.c.ts.in_(list(incoming)))
        return {row.ts: row for row in self.connection.execute(query)}


def merge_authors(connection: Connection, directory: Directory) -> None:
    """People whom no list names go by what their messages say; they may be of another workspace, and so are guests."""
    t = tables.messages
    human = (t.c.team == directory.team, t.c.kind == MessageKind.HUMAN)
    authors = set(connection.scalars(select(t.c.user).where(*human, t.c.user.is_not(None)).distinct()))
    unlisted = sorted(filter(is_id, authors - directory.names.users.keys()))
    newest = select(t.c.author).where(*human, t.c.user == bindparam("user")).limit(1)
    newest = newest.order_by(t.c.at.desc(), t.c.channel, t.c.ts)
    named = set[str]()

    def people() -> Iterator[User]:
        for user in unlisted:
            name = connection.scalar(newest, {"user": user}) or user
            if name != user:
                named.add(user)
            yield User(directory.team, user, "", display_name=name, is_guest=True)

    merge_people(connection, directory.team, people(), UNSEEN)
    render_again(connection, directory.team, named)


def _goes_before(row: Values, old: AnyRow) -> bool:
    """Whether a message as it came in says something newer than the one that is stored."""
    if old.edited == FORGOTTEN:
        return False
    if _WITHHELD.search(row["raw"]) and not _WITHHELD.search(old.raw):
        return bool(row["edited"] > old.edited)
    if old.edited == DELETED and row["edited"] < DELETED:
        return bool(row["as_of"] > old.as_of)
    return (row["edited"], row["as_of"]) > (old.edited, old.as_of)


def row_of(raw: Raw, directory: Directory, channel: str) -> Values | None:
    """The row of a message; None for one without a valid timestamp, or nested too deep."""
    text = encoded(raw)
    if is_too_deep(raw, text):
        return None
    message = translate(raw, directory.team, channel, directory.names, directory.bots)
    if message is None:
        return None
    edited = micros(message.edited) if message.edited else 0
    return {name: getattr(message.record, name) for name in _FIELDS} | {
        "at": micros(message.record.ts),
        "subtype": message.subtype,
        "edited": DELETED if message.subtype == "tombstone" else edited,
        "raw": storable(text),
    }


def _batches(rows: Iterable[Values]) -> Iterator[list[Values]]:
    """Rows in groups that fit into memory."""
    batch: list[Values] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["raw"])
        if len(batch) == _BATCH or size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _unique(batch: list[Values]) -> dict[str, Values]:
    """By timestamp; of a message that is there twice, the one edited last."""
    incoming: dict[str, Values] = {}
    for row in batch:
        if row["ts"] not in incoming or row["edited"] > incoming[row["ts"]]["edited"]:
            incoming[row["ts"]] = row
    return incoming
