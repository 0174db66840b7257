"""Erasing a workspace: everything that the archive holds of it goes, in the transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert

from doppel.archive import tables
from doppel.archive.changes import note_change, revision
from doppel.archive.reading import counts
from doppel.archive.revisions import forget_ids
from doppel.timestamps import now_micros

_KEPT = (tables.changes, tables.forgotten, tables.revisions)
"""Numbers that must never fall, and who is to stay forgotten should the workspace come back: ids and times."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, in rows. An index of the archive before `revision` may hold their messages."""

    team: str
    messages: int
    people: int
    channels: int
    rows: int
    revision: int


def erase_team(connection: Connection, team: str) -> Erased:
    """Erase a workspace."""
    there = counts(connection, team)
    note_change(connection, team)
    before = revision(connection)
    emptied = [table for table in tables.metadata.sorted_tables if table not in _KEPT]
    rows = sum(connection.execute(delete(table).where(table.c.team == team)).rowcount for table in emptied)
    # Of nobody in particular: it makes a reindex drop every version that may hold any of it.
    at = now_micros()
    gone = {"team": team, "user_id": "", "at": at, "messages": True, "revision": before}
    t = tables.forgotten
    connection.execute(delete(t).where(t.c.team == team, t.c.user_id == ""))
    connection.execute(insert(t).values(**gone))
    forget_ids(connection, team)
    return Erased(team, there.messages, there.users, there.channels, rows, before)
