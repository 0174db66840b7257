"""Stored messages read again: after people or channels got other names, or where an earlier Doppel read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import Connection, Engine, Update, bindparam, select, tuple_, update

from doppel.archive import tables
from doppel.archive.changes import note_change
from doppel.archive.database import exclusive, reading, writing
from doppel.archive.directory import Directory, read_directory
from doppel.archive.place import Place
from doppel.archive.reading import AnyRow
from doppel.slack.messages import translate
from doppel.slack.nesting import stored_raw

WAIT_SECONDS = 60.0
"""How long it is waited for an import that is under way."""
_PAGE = 1000
_READ = ("author", "text", "said", "kind")
"""What is read out of a message as Slack wrote it, and depends on what ids read as."""
_AT_ONCE = 50
_PAGE_CHARS = 2 * 2**20
_Place = tuple[str, str]
"""A channel and a timestamp."""
_ID = re.compile(r'[@#"^]([A-Z][A-Z0-9]+)[>|"]')


def render_again(connection: Connection, directory: Directory, changed: Collection[str]) -> None:
    """Render those messages anew that name one of the `changed` ids, or one that such a channel had before."""
    changed = {*changed, *(old for old, now in directory.moved.items() if now in changed)}

    def is_concerned(row: AnyRow) -> bool:
        return not set(_ID.findall(row.raw)).isdisjoint(changed)

    for found in rows_where(connection, directory.team, is_concerned) if changed else ():
        _render(connection, directory, found)


def render_outdated(engine: Engine, place: Place) -> None:
    """Read the messages again that an earlier Doppel read otherwise, page by page; killed, it goes on the next time."""
    if not _outdated(engine, place):
        return
    with exclusive(place, WAIT_SECONDS):
        for team in _outdated(engine, place):
            _render_team(engine, place, team)


def rows_where(connection: Connection, team: str, chosen: Callable[[AnyRow], bool]) -> Iterator[list[AnyRow]]:
    """The chosen messages of a workspace, group by group; a group may be written to before the next is read.

    Of what isn't chosen little is in memory at once, however large the messages are.
    """
    found, last = _group(connection, team, chosen, None)
    while last is not None:
        if found:
            yield found
        found, last = _group(connection, team, chosen, last)


def _group(
    connection: Connection, team: str, chosen: Callable[[AnyRow], bool], after: _Place | None
) -> tuple[list[AnyRow], _Place | None]:
    """The next chosen messages, and where the last was that was read; None where there were none."""
    t = tables.messages
    query = select(t).where(t.c.team == team).order_by(t.c.channel, t.c.ts).limit(_PAGE)
    if after is not None:
        query = query.where(tuple_(t.c.channel, t.c.ts) > after)
    found: list[AnyRow] = []
    size, last = 0, None
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for row in rows:
            last = row.channel, row.ts
            if chosen(row):
                found.append(row)
                size += len(row.raw)
            if size >= _PAGE_CHARS:
                break
    return found, last


def _render_team(engine: Engine, place: Place, team: str) -> None:
    with reading(engine, place) as connection:
        directory = read_directory(connection, team, {})
    after: _Place | None = None
    while True:
        with writing(engine, place) as connection:
            found, after = _group(connection, team, lambda _row: True, after)
            _render(connection, directory, found)
            if after is None:
                w = tables.workspaces
                connection.execute(update(w).where(w.c.team == team).values(rendering=tables.RENDERING))
                note_change(connection, team)
                return


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


def _update(row: AnyRow, directory: Directory) -> dict[str, str | None] | None:
    message = translate(stored_raw(row.raw), directory.team, row.channel, directory.names, directory.bots)
    if message is None or all(getattr(message.record, name) == getattr(row, name) for name in _READ):
        return None
    key = {"key_team": directory.team, "key_channel": row.channel, "key_ts": row.ts}
    return key | {f"new_{name}": getattr(message.record, name) for name in _READ}
