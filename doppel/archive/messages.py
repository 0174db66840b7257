"""Messages as they are stored: one row for each (team, channel, ts), with what Slack said of it as it came.

Every function is to be called in a transaction in which nobody else writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, tuple_, update

from doppel.archive import tables
from doppel.archive.forgotten import DELETED, FORGOTTEN
from doppel.archive.reading import AnyRow
from doppel.records import MessageKind, Raw

Values = dict[str, Any]
Position = tuple[str, str]
"""A channel and a timestamp."""

_PAGE = 1000
_AT_ONCE = 50
_PAGE_CHARS = 2 * 2**20

encoded = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
"""What Slack said of a message, as it is stored."""

_KEY = and_(*(tables.messages.c[name] == bindparam(f"key_{name}") for name in ("team", "channel", "ts")))
_REPLACE = update(tables.messages).where(_KEY).values({c.name: bindparam(c.name) for c in tables.messages.c})
_SEEN = update(tables.messages).where(_KEY).values(as_of=bindparam("as_of"))


def replace_rows(connection: Connection, rows: Iterable[Values]) -> None:
    """Put rows in the place of those with the same key."""
    if keyed := [_keyed(row) for row in rows]:
        connection.execute(_REPLACE, keyed)


def mark_seen(connection: Connection, rows: Iterable[Values]) -> None:
    """Keep that these rows still said the same at their `as_of`."""
    if keyed := [_keyed(row) for row in rows]:
        connection.execute(_SEEN, keyed)


def _keyed(row: Values) -> Values:
    return row | {f"key_{name}": row[name] for name in ("team", "channel", "ts")}


def take_back(connection: Connection, team: str, stand_in: str, channels: Iterable[str]) -> None:
    """Take what nobody can tell whose it is out of the `channels` that an older Doppel gave it to.

    Of those that Slack's API was asked for the messages are known.
    """
    t, s, m = tables.messages, tables.sync_channels, tables.messages.alias()
    read = set(connection.scalars(select(s.c.channel).where(s.c.team == team)))
    known = select(m.c.ts).where(m.c.team == team, m.c.channel == stand_in)
    for channel in sorted(set(channels) - read):
        connection.execute(delete(t).where(t.c.team == team, t.c.channel == channel, t.c.ts.in_(known)))


def tombstone(ts: str) -> Raw:
    """What is left of a deleted message."""
    return {"subtype": "tombstone", "ts": ts, "type": "message"}


def blank(ts: str, edited: int = DELETED) -> Values:
    """What a row holds instead of what was said: of a message that is DELETED, or was written by who is FORGOTTEN."""
    gone = {"text": "", "said": None, "author": "", "user": None, "subtype": "tombstone", "kind": MessageKind.SYSTEM}
    raw = tombstone(ts) if edited < FORGOTTEN else {**tombstone(ts), "forgotten": True}
    return {**gone, "edited": edited, "raw": encoded(raw)}


def mark_deleted(connection: Connection, team: str, channel: str, stamps: Iterable[str], as_of: int) -> int:
    """Remove what messages said, until Slack shows them again; returns how many there were."""
    alive = update(tables.messages).where(_KEY, tables.messages.c.edited < DELETED)
    key = {"key_team": team, "key_channel": channel}
    gone = [(key | {"key_ts": ts}, blank(ts, DELETED)) for ts in stamps]
    return sum(connection.execute(alive.values(**values, as_of=as_of), row).rowcount for row, values in gone)


def erase(connection: Connection, team: str, rows: Iterable[AnyRow], as_of: int) -> int:
    """Leave of each message what stays of a forgotten one, for good; `rows` are (channel, ts). Returns how many."""
    keys = [{"key_team": team, "key_channel": channel, "key_ts": ts} for channel, ts in rows]
    values = [key | {"raw": blank(key["key_ts"], FORGOTTEN)["raw"]} for key in keys]
    if values:
        gone = blank("", FORGOTTEN) | {"raw": bindparam("raw")}
        connection.execute(update(tables.messages).where(_KEY).values(**gone, as_of=as_of), values)
    return len(values)


def rows_where(
    connection: Connection, team: str, chosen: Callable[[AnyRow], bool], holding: Collection[str] = ()
) -> Iterator[list[AnyRow]]:
    """The chosen messages of a workspace, group by group; a group may be written to before the next is read.

    Of what isn't chosen little is in memory at once, however large the messages are; and where they are to be `holding`
    one of a few texts, in whatever case, the database hands out only those that do.
    """
    after: Position | None = None
    while True:
        found, after = rows_after(connection, team, chosen, after, holding)
        if found:
            yield found
        if after is None:
            return


def rows_after(
    connection: Connection,
    team: str,
    chosen: Callable[[AnyRow], bool],
    after: Position | None,
    holding: Collection[str] = (),
) -> tuple[list[AnyRow], Position | None]:
    """The next chosen messages, and where the last was that was read; None where there are no more."""
    t = tables.messages
    query = select(t).where(t.c.team == team).order_by(t.c.channel, t.c.ts).limit(_PAGE)
    if after is not None:
        query = query.where(tuple_(t.c.channel, t.c.ts) > after)
    if holding:
        query = query.where(or_(*(t.c.raw.contains(text, autoescape=True) for text in holding)))
    found: list[AnyRow] = []
    read, size, last = 0, 0, None
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for row in rows:
            read, last = read + 1, (row.channel, row.ts)
            if chosen(row):
                found.append(row)
                size += len(row.raw)
            if size >= _PAGE_CHARS:
                return found, last
    return found, last if read == _PAGE else None
