"""Stored messages read again: after people or channels got other names, or where an earlier Doppel read them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Connection, Engine, Update, bindparam, select, tuple_, update

from doppel.archive import tables
from doppel.archive.changes import note_change
from doppel.archive.database import exclusive, reading, writing
from doppel.archive.directory import Directory, read_directory
from doppel.archive.place import Place
from doppel.archive.reading import AnyRow
from doppel.slack.messages import translate

WAIT_SECONDS = 60.0
"""How long it is waited for an import that is under way."""
_PAGE = 1000
_READ = ("author", "text", "said", "kind")
"""What is read out of a message as Slack wrote it, and depends on what ids read as."""
_ID = re.compile(r'[@#"]([A-Z][A-Z0-9]+)[>|"]')


def render_again(connection: Connection, directory: Directory, changed: Collection[str]) -> None:
    """Render those messages anew that name one of the `changed` ids."""
    for page in _pages(connection, directory.team) if changed else ():
        _render(connection, directory, [row for row in page if not set(_ID.findall(row.raw)).isdisjoint(changed)])


def render_outdated(engine: Engine, place: Place) -> None:
    """Read the messages again that an earlier Doppel read otherwise, page by page; killed, it goes on the next time."""
    if not _outdated(engine, place):
        return
    with exclusive(place, WAIT_SECONDS):
        for team in _outdated(engine, place):
            _render_team(engine, place, team)


def _render_team(engine: Engine, place: Place, team: str) -> None:
    with reading(engine, place) as connection:
        directory = read_directory(connection, team, {})
    after: AnyRow | None = None
    while True:
        with writing(engine, place) as connection:
            page = _page(connection, team, after)
            _render(connection, directory, page)
            if not page:
                w = tables.workspaces
                connection.execute(update(w).where(w.c.team == team).values(rendering=tables.RENDERING))
                note_change(connection, team)
                return
        after = page[-1]


def _outdated(engine: Engine, place: Place) -> Sequence[str]:
    w = tables.workspaces
    with reading(engine, place) as connection:
        return connection.scalars(select(w.c.team).where(w.c.rendering < tables.RENDERING).order_by(w.c.team)).all()


def _render(connection: Connection, directory: Directory, rows: Sequence[AnyRow]) -> None:
    if updates := [values for row in rows if (values := _update(row, directory))]:
        connection.execute(_REPLACE, updates)


def _replace() -> Update:
    t = tables.messages
    key = [t.c[name] == bindparam(f"key_{name}") for name in ("team", "channel", "ts")]
    return update(t).where(*key).values({name: bindparam(f"new_{name}") for name in _READ})


_REPLACE = _replace()


def _pages(connection: Connection, team: str) -> Iterator[Sequence[AnyRow]]:
    page = _page(connection, team, None)
    while page:
        yield page
        page = _page(connection, team, page[-1])


def _page(connection: Connection, team: str, after: AnyRow | None) -> Sequence[AnyRow]:
    t = tables.messages
    query = select(t.c.channel, t.c.ts, t.c.raw, *(t.c[name] for name in _READ)).where(t.c.team == team)
    if after is not None:
        query = query.where(tuple_(t.c.channel, t.c.ts) > (after.channel, after.ts))
    return connection.execute(query.order_by(t.c.channel, t.c.ts).limit(_PAGE)).all()


def _update(row: AnyRow, directory: Directory) -> dict[str, str | None] | None:
    try:
        raw = json.loads(row.raw)
    except (ValueError, RecursionError):
        return None
    message = translate(raw, directory.team, row.channel, directory.names, directory.bots)
    if message is None or all(getattr(message.record, name) == getattr(row, name) for name in _READ):
        return None
    key = {"key_team": directory.team, "key_channel": row.channel, "key_ts": row.ts}
    return key | {f"new_{name}": getattr(message.record, name) for name in _READ}
