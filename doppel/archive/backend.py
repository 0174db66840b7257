"""What differs between the two databases an archive can be in; everything else in this package is the same for both."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from doppel.errors import DoppelError

BUSY_SECONDS = 10
"""How long a writer waits for another one."""

WRITING_BUSY = "Another process is writing to the archive; wait for it to end and try again."
IMPORTING_BUSY = "Another process is importing into this archive; wait for it to end and try again."


class Backend(Protocol):
    """Where an archive is: a SQLite file or a Postgres database. Its text names it and holds no password."""

    @property
    def foreign(self) -> str:
        """The sentence for a database that holds another program's tables."""

    def engine(self) -> Engine:
        """An engine for it; raises StorageError where a file can't be made."""

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A connection that sees one state throughout."""

    def writing(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A transaction; nobody else writes from its first statement to its end."""

    def exclusive(self, seconds: float) -> AbstractContextManager[None]:
        """The right to import or migrate, for one process at a time; raises BusyError after `seconds`."""

    def beside(self, engine: Engine, create: bool) -> Engine | None:
        """Where `waiting` and `withdrawals` can be written while `engine`'s archive is held by an import.

        None where that has still to be made, and isn't to be.
        """

    def mapped(self, error: Exception) -> DoppelError | None:
        """What an error of SQLAlchemy or of the driver means to a user, or None where that is unknown."""

    def settle(self, connection: Connection) -> None:
        """After rows came in with ids of their own: let new ids go on behind them."""

    def scrub(self, engine: Engine) -> None:
        """Leave nothing of deleted rows in the files; raises BusyError where others don't let go of them in time."""

    def back_up(self, file: Path) -> None:
        """Write all of it to a new file as of one moment, while others write.

        Raises BadInputError where there is nothing to back up, where `file` exists, or where another tool does that.
        """
