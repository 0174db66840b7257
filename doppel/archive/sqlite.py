"""The archive in a SQLite file: how it is opened and locked, and what SQLite's errors mean to a user."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from doppel.archive import backend
from doppel.archive.tables import metadata, waiting, withdrawals
from doppel.artifacts import storage_error
from doppel.errors import ArchiveError, BadInputError, BusyError, DoppelError, StorageError

_PRAGMAS = (
    "synchronous=FULL",
    "cache_size=-32000",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A file, made for its owner alone."""

    path: Path
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def foreign(self) -> str:
        """The sentence for another program's file."""
        return f"{self.path} is a database of another program; choose another data folder."

    def engine(self) -> Engine:
        """An engine for the file, which is made if there is none; raises StorageError."""
        create_private(self.path)
        url = URL.create("sqlite", database=str(self.path))
        engine = create_engine(url, connect_args={"timeout": backend.BUSY_SECONDS}, hide_parameters=True)
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        return engine

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A deferred transaction: it sees what was there at its first statement."""
        return engine.connect()

    @contextmanager
    def writing(self, engine: Engine) -> Iterator[Connection]:
        """An immediate transaction: it has the write lock before its first statement. Raises BusyError.

        Threads of this process take turns: SQLite lets those that wait sleep up to a tenth of a second, again and
        again, while others go ahead.
        """
        if not self._turn.acquire(timeout=backend.BUSY_SECONDS):
            raise BusyError(backend.WRITING_BUSY)
        try:
            with engine.execution_options(writes=True).begin() as connection:
                yield connection
        finally:
            self._turn.release()

    @contextmanager
    def exclusive(self, seconds: float) -> Iterator[None]:
        """A lock on a file beside it; raises BusyError after `seconds`, or StorageError."""
        lock = FileLock(self.path.with_name(self.path.name + ".lock"), mode=0o600)
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            raise BusyError(backend.IMPORTING_BUSY) from None
        except OSError as error:
            raise storage_error(error, self.path) from error
        try:
            yield
        finally:
            lock.release()

    def beside(self, engine: Engine, create: bool) -> Engine | None:
        """A file of its own, as SQLite locks files."""
        file = SqliteFile(self.path.with_name(self.path.name + ".waiting"))
        if not create and not file.path.exists():
            return None
        other = file.engine()
        with file.writing(other) as connection:
            metadata.create_all(connection, tables=[waiting, withdrawals])
        return other

    def mapped(self, error: Exception) -> DoppelError | None:
        """By SQLite's result code."""
        reason = error.orig if isinstance(error, DBAPIError) else error
        match getattr(reason, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return BusyError(backend.WRITING_BUSY)
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
                return StorageError(f"Can't write to {self} ({reason}); free some space or check its permissions.")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return ArchiveError(f"The archive {self} is damaged; move it away and import your export again.")
        return None

    def settle(self, connection: Connection) -> None:
        """Nothing: AUTOINCREMENT counts on from the highest id."""

    def scrub(self, engine: Engine) -> None:
        """Write the file anew and empty the log beside it."""
        connection = engine.raw_connection()
        try:
            connection.execute("VACUUM")
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
        if is_busy:
            raise BusyError("Another process is reading the archive all the time; try again in a moment.")

    def back_up(self, file: Path) -> None:
        """Write a copy to a new file, complete before it gets its name; writers don't wait. Raises StorageError."""
        if not self.path.exists():
            raise BadInputError(f"There is no archive at {self} yet; import a Slack export first.")
        if file.exists():
            raise BadInputError(f"{file} exists; name a new file.")
        draft = file.with_name(file.name + ".part")
        draft.unlink(missing_ok=True)
        create_private(draft)
        try:
            _vacuum_into(self.path, draft)
            _add_withdrawals(draft, self.path.with_name(self.path.name + ".waiting"))
            draft.replace(file)
        except sqlite3.Error as error:
            raise self._not_backed_up(error, file) from error
        except OSError as error:
            raise storage_error(error, file) from error
        finally:
            draft.unlink(missing_ok=True)
            draft.with_name(draft.name + "-journal").unlink(missing_ok=True)

    def _not_backed_up(self, error: sqlite3.Error, file: Path) -> Exception:
        harmed = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        return (self if harmed else SqliteFile(file)).mapped(error) or error


def create_private(path: Path) -> None:
    """Make the file and the folders above it for their owner alone; raises StorageError."""
    try:
        missing = [folder for folder in path.absolute().parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(0o700, exist_ok=True)
        # Only a new file: closing a handle of a file that this process has open drops SQLite's locks on it, and then
        # another process takes itself for the last reader and removes the log that this one writes to.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise storage_error(error, path) from error


def _vacuum_into(path: Path, draft: Path) -> None:
    """Write what a reader sees at this moment to `draft`, and to the disk."""
    with closing(sqlite3.connect(path, timeout=backend.BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("VACUUM INTO ?", (str(draft),))
    with draft.open("rb") as written:
        os.fsync(written.fileno())


def _add_withdrawals(draft: Path, beside: Path) -> None:
    """Write to a copy's ledger what waits to be written to the archive's."""
    if not beside.exists():
        return
    columns = 'team, user_id, action, at, "by"'
    with closing(sqlite3.connect(draft, timeout=backend.BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS beside", (str(beside),))
        connection.execute(f"INSERT INTO consent ({columns}) SELECT {columns} FROM beside.withdrawals ORDER BY id")


def _on_connect(connection: Any, _record: object) -> None:
    # sqlite3 would begin transactions by itself, late and only before some statements.
    connection.isolation_level = None
    _use_log(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to a write-ahead log: SQLite waits for nobody where two do so at once, it fails for one."""
    deadline = time.monotonic() + backend.BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
