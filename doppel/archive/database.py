"""The database under the archive: how it is opened, migrated, read and written, wherever it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, table
from sqlalchemy import column as sql_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from doppel.archive.backend import Backend
from doppel.archive.sqlite import SqliteFile
from doppel.archive.tables import HEAD
from doppel.errors import ArchiveError, BusyError

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATE_SECONDS = 60


def backend_of(where: Path | str) -> Backend:
    """The backend of an archive: a path is a SQLite file, a text is the URL of a Postgres database.

    Raises ConfigError for a text that is no such URL.
    """
    if isinstance(where, Path):
        return SqliteFile(where)
    from doppel.archive.postgres import PostgresDatabase

    return PostgresDatabase.parse(where)


def open_engine(backend: Backend) -> Engine:
    """An engine for the archive at `backend`, which is created or migrated if need be.

    Raises ArchiveError, StorageError or BusyError.
    """
    engine = backend.engine()
    try:
        with errors_of(backend):
            _migrate(engine, backend)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine, backend: Backend) -> Iterator[Connection]:
    """A connection that sees one state of the archive throughout."""
    with errors_of(backend), backend.reading(engine) as connection:
        yield connection


@contextmanager
def writing(engine: Engine, backend: Backend) -> Iterator[Connection]:
    """A transaction that is there whole or not at all; raises BusyError where another process writes."""
    with errors_of(backend), backend.writing(engine) as connection:
        yield connection


@contextmanager
def exclusive(backend: Backend, seconds: float = 0) -> Iterator[None]:
    """The right to import or migrate, for one process at a time; raises BusyError after `seconds`."""
    with errors_of(backend), backend.exclusive(seconds):
        yield


@contextmanager
def errors_of(backend: Backend) -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except PoolTimeout as error:
        raise BusyError("Too many read the archive at once; try again in a moment.") from error
    except (DBAPIError, sqlite3.Error) as error:
        mapped = backend.mapped(error)
        if mapped is None:
            raise
        raise mapped from error


def _migrate(engine: Engine, backend: Backend) -> None:
    if _version(engine, backend) == HEAD:
        return
    with exclusive(backend, _MIGRATE_SECONDS):
        if _version(engine, backend) != HEAD:
            _upgrade(engine, backend)


def _version(engine: Engine, backend: Backend) -> str | None:
    with backend.reading(engine) as connection:
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return None
        if not {"alembic_version", "messages"} <= tables:
            raise ArchiveError(backend.foreign)
        return connection.scalar(select(sql_column("version_num")).select_from(table("alembic_version")))


def _upgrade(engine: Engine, backend: Backend) -> None:
    # Alembic takes a quarter of a second to import, so a current archive does without it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        with backend.writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ArchiveError(f"{backend} was written by a newer Doppel; update Doppel.") from error
