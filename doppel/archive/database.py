"""The SQLite file under the archive: how it is opened, migrated and locked, and what its errors mean to a user."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, table
from sqlalchemy import column as sql_column
from sqlalchemy.exc import DBAPIError

from doppel.archive.tables import HEAD
from doppel.artifacts import storage_error
from doppel.errors import ArchiveError, BusyError, DoppelError, StorageError

BUSY_SECONDS = 10
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATE_SECONDS = 60
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-32000",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


def open_engine(path: Path) -> Engine:
    """An engine for the archive at `path`, which is created or migrated if need be.

    Raises ArchiveError, StorageError or BusyError.
    """
    create_private(path)
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        with errors_of(path):
            _migrate(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine, path: Path) -> Iterator[Connection]:
    """A connection that sees one state of the archive throughout."""
    with errors_of(path), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, path: Path) -> Iterator[Connection]:
    """A transaction that is there whole or not at all; raises BusyError where another process writes."""
    with errors_of(path), engine.execution_options(writes=True).begin() as connection:
        yield connection


@contextmanager
def exclusive(path: Path, seconds: float = 0) -> Iterator[None]:
    """The right to import or migrate, for one process at a time; raises BusyError after `seconds`."""
    lock = FileLock(path.with_name(path.name + ".lock"), mode=0o600)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise BusyError("Another process is importing into this archive; wait for it to end and try again.") from None
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        mapped = _mapped(error, path)
        if mapped is None:
            raise
        raise mapped from error


def create_private(path: Path) -> None:
    """Make the file and the folders above it for their owner alone; raises StorageError."""
    try:
        missing = [folder for folder in path.absolute().parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise storage_error(error, path) from error


def _on_connect(connection: Any, _record: object) -> None:
    # sqlite3 would begin transactions by itself, late and only before some statements.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine, path: Path) -> None:
    if _version(engine, path) == HEAD:
        return
    with exclusive(path, _MIGRATE_SECONDS):
        if _version(engine, path) != HEAD:
            _upgrade(engine, path)


def _version(engine: Engine, path: Path) -> str | None:
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return None
        if not {"alembic_version", "messages"} <= tables:
            raise ArchiveError(f"{path} is a database of another program; choose another data folder.")
        return connection.scalar(select(sql_column("version_num")).select_from(table("alembic_version")))


def _upgrade(engine: Engine, path: Path) -> None:
    # Alembic takes a quarter of a second to import, so a current archive does without it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        with engine.execution_options(writes=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ArchiveError(f"{path} was written by a newer Doppel; update Doppel.") from error


def _mapped(error: DBAPIError | sqlite3.Error, path: Path) -> DoppelError | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    match getattr(original, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return BusyError("Another process is writing to the archive; wait for it to end and try again.")
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return StorageError(f"Can't write to {path} ({original}); free some space or check its permissions.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return ArchiveError(f"The archive {path} is damaged; move it away and import your export again.")
    return None
