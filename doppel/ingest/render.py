"""Stored messages read again: after people or channels got other names, or where an earlier Doppel read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Update, bindparam, select, update

from doppel.archive import Archive, tables
from doppel.archive.changes import note_change
from doppel.archive.channels import former_ids
from doppel.archive.messages import Position, rows_after, rows_where
from doppel.archive.reading import AnyRow
from doppel.ingest.names import Directory, directory_for, ids_in, read_directory
from doppel.slack.messages import translate
from doppel.slack.nesting import stored_raw

WAIT_SECONDS = 60.0
"""How long it is waited for an import that is under way."""
_READ = ("author", "text", "said", "kind")
"""What is read out of a message as Slack wrote it, and depends on what ids read as."""
_FEW = 20
"""So many ids the database looks for; for more, every message is read."""


def render_again(connection: Connection, team: str, changed: Collection[str]) -> None:
    """Render those messages anew that name one of the `changed` ids, or one that such a channel had before."""
    if not changed:
        return
    changed = {*changed, *former_ids(connection, team, changed)}

    def is_concerned(row: AnyRow) -> bool:
        return not ids_in(row.raw).isdisjoint(changed)

    for found in rows_where(connection, team, is_concerned, changed if len(changed) <= _FEW else ()):
        _render(connection, directory_for(connection, team, (row.raw for row in found)), found)


def render_outdated(archive: Archive) -> None:
    """Read the messages again that an earlier Doppel read otherwise, page by page; killed, it goes on the next time."""
    if not _outdated(archive):
        return
    with archive.exclusive(WAIT_SECONDS):
        for team in _outdated(archive):
            _render_team(archive, team)


def _render_team(archive: Archive, team: str) -> None:
    with archive.reading() as connection:
        directory = read_directory(connection, team)
    after: Position | None = None
    while True:
        with archive.writing() as connection:
            found, after = rows_after(connection, team, lambda _row: True, after)
            _render(connection, directory, found)
            if after is None:
                w = tables.workspaces
                connection.execute(update(w).where(w.c.team == team).values(rendering=tables.RENDERING))
                note_change(connection, team)
                return


def _outdated(archive: Archive) -> Sequence[str]:
    w = tables.workspaces
    with archive.reading() as connection:
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
