"""A number for each workspace that grows with every change of what people said or who may read it."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from doppel.archive import tables


def note_change(connection: Connection, team: str) -> None:
    """Count one more change, in the transaction that makes it."""
    t = tables.changes
    if not connection.execute(update(t).where(t.c.team == team).values(revision=t.c.revision + 1)).rowcount:
        connection.execute(insert(t).values(team=team, revision=1))


def revision(connection: Connection) -> int:
    """The number of all workspaces together; equal numbers mean that nothing changed in between."""
    return int(connection.scalar(select(func.coalesce(func.sum(tables.changes.c.revision), 0))) or 0)
