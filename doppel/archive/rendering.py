"""Stored messages read again, after people or channels got other names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Connection, bindparam, select, tuple_, update

from doppel.archive import tables
from doppel.archive.directory import Directory
from doppel.archive.reading import AnyRow
from doppel.slack.messages import translate

_PAGE = 1000
_ID = re.compile(r'[@#"]([A-Z][A-Z0-9]+)[>|"]')


def render_again(connection: Connection, directory: Directory, changed: Collection[str]) -> None:
    """Render those messages anew that name one of the `changed` ids."""
    t = tables.messages
    key = [t.c[name] == bindparam(f"key_{name}") for name in ("team", "channel", "ts")]
    statement = update(t).where(*key).values(text=bindparam("new_text"), kind=bindparam("new_kind"))
    for page in _pages(connection, directory.team) if changed else ():
        concerned = [row for row in page if not set(_ID.findall(row.raw)).isdisjoint(changed)]
        if updates := [values for row in concerned if (values := _update(row, directory))]:
            connection.execute(statement, updates)


def _pages(connection: Connection, team: str) -> Iterator[Sequence[AnyRow]]:
    t = tables.messages
    query = select(t.c.channel, t.c.ts, t.c.text, t.c.kind, t.c.raw).where(t.c.team == team)
    query = query.order_by(t.c.channel, t.c.ts).limit(_PAGE)
    page = connection.execute(query).all()
    while page:
        yield page
        after = tuple_(t.c.channel, t.c.ts) > (page[-1].channel, page[-1].ts)
        page = connection.execute(query.where(after)).all()


def _update(row: AnyRow, directory: Directory) -> dict[str, str] | None:
    message = translate(json.loads(row.raw), directory.team, row.channel, directory.names, directory.bots)
    if message is None or (message.record.text, message.record.kind) == (row.text, row.kind):
        return None
    key = {"key_team": directory.team, "key_channel": row.channel, "key_ts": row.ts}
    return key | {"new_text": message.record.text, "new_kind": message.record.kind}
