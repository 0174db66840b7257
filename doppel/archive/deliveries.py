"""What Slack sends that must be done once, however often it comes: by an id of each, never what it says.

Times are microseconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import Engine, delete, insert, select

from doppel.archive import tables
from doppel.archive.backend import Backend
from doppel.archive.database import writing
from doppel.archive.upsert import put_row

LEASE = 60_000_000
"""How long something may take before another may do it: whoever began may have died."""
KEPT = 900_000_000
"""How long it is known that something was done: a signature of Slack's is valid for five minutes."""


class Deliveries:
    """Those of one workspace. Safe from several threads and processes; every method is one transaction."""

    def __init__(self, engine: Engine, backend: Backend, team: str) -> None:
        self._engine, self._backend, self.team = engine, backend, team

    def begin(self, id_: str, now: int) -> bool:
        """Take the right to do something; False where it was done, or another does it now."""
        t = tables.deliveries
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(t).where(t.c.team == self.team, t.c.until <= now))
            known = connection.scalar(select(t.c.until).where(t.c.team == self.team, t.c.id == id_))
            if known is None:
                connection.execute(insert(t).values(team=self.team, id=id_, until=now + LEASE))
            return known is None

    def finish(self, id_: str, now: int, kept: int = KEPT) -> None:
        """It was done, which is known for the time `kept`."""
        with writing(self._engine, self._backend) as connection:
            put_row(connection, tables.deliveries, {"team": self.team, "id": id_}, {"until": now + kept})

    def give_up(self, id_: str) -> None:
        """It was not done, and may be."""
        t = tables.deliveries
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(t).where(t.c.team == self.team, t.c.id == id_))
