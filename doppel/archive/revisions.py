"""What changed last of people, channels and consent: numbers that ordinary messages don't move.

The database counts by itself, with triggers, so that no writer can forget to: who may read what is answered from memory
as long as nothing is counted (see `snapshots`). Each person, channel and so on has the number of its last change; the
next number of a workspace is one more than its highest. Numbers never fall.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, select

from doppel.archive import tables


class Kind(StrEnum):
    """What a row of `revisions` is about."""

    PERSON = "person"
    CHANNEL = "channel"
    CONSENT = "consent"
    FORGOTTEN = "forgotten"
    WORKSPACE = "workspace"
    """All of a workspace."""


def forget_ids(connection: Connection, team: str) -> None:
    """Leave of an erased workspace that all of it changed, and no id."""
    t = tables.revisions
    highest = connection.scalar(select(func.max(t.c.revision)).where(t.c.team == team)) or 0
    connection.execute(delete(t).where(t.c.team == team))
    connection.execute(insert(t).values(team=team, kind=Kind.WORKSPACE, id="", revision=highest + 1))
