"""Stored messages read again, after people or channels got other names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from sqlalchemy import Connection, bindparam, select, tuple_, update

from doppel.archive import tables
from doppel.archive.directory import Directory
from doppel.archive.reading import AnyRow
from doppel.slack.messages import translate
from doppel.slack.nesting import stored_raw

_PAGE = 1000
_AT_ONCE = 50
_PAGE_CHARS = 2 * 2**20
_ID = re.compile(r'[@#"]([A-Z][A-Z0-9]+)[>|"]')


def render_again(connection: Connection, directory: Directory, changed: Collection[str]) -> None:
    """Render those messages anew that name one of the `changed` ids."""
    t = tables.messages
    key = [t.c[name] == bindparam(f"key_{name}") for name in ("team", "channel", "ts")]
    statement = update(t).where(*key).values(text=bindparam("new_text"), kind=bindparam("new_kind"))
    if not changed:
        return

    def is_concerned(row: AnyRow) -> bool:
        return not set(_ID.findall(row.raw)).isdisjoint(changed)

    for found in rows_where(connection, directory.team, is_concerned):
        if updates := [values for row in found if (values := _update(row, directory))]:
            connection.execute(statement, updates)


def rows_where(connection: Connection, team: str, chosen: Callable[[AnyRow], bool]) -> Iterator[list[AnyRow]]:
    """The chosen messages of a workspace, group by group; a group may be written to before the next is read.

    Of what isn't chosen little is in memory at once, however large the messages are.
    """
    t = tables.messages
    query = select(t).where(t.c.team == team).order_by(t.c.channel, t.c.ts).limit(_PAGE)
    after: tuple[str, str] | None = None
    while True:
        page = query if after is None else query.where(tuple_(t.c.channel, t.c.ts) > after)
        found, size, last = [], 0, None
        with connection.execute(page.execution_options(yield_per=_AT_ONCE)) as rows:
            for row in rows:
                last = row.channel, row.ts
                if chosen(row):
                    found.append(row)
                    size += len(row.raw)
                if size >= _PAGE_CHARS:
                    break
        if found:
            yield found
        if last is None:
            return
        after = last


def _update(row: AnyRow, directory: Directory) -> dict[str, str] | None:
    message = translate(stored_raw(row.raw), directory.team, row.channel, directory.names, directory.bots)
    if message is None or (message.record.text, message.record.kind) == (row.text, row.kind):
        return None
    key = {"key_team": directory.team, "key_channel": row.channel, "key_ts": row.ts}
    return key | {"new_text": message.record.text, "new_kind": message.record.kind}
