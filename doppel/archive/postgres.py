"""The archive in a Postgres database: how it is opened and locked, and what Postgres's errors mean to a user."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError

from doppel.archive import backend
from doppel.archive.tables import metadata
from doppel.config import POSTGRES
from doppel.errors import ArchiveError, BadInputError, BusyError, ConfigError, DoppelError, StorageError

# Numbers of our own; an advisory lock belongs to one database, so two archives on one server don't meet.
_WRITE_LOCK = 0x446F7070656C01
_IMPORT_LOCK = 0x446F7070656C02
_LOCK_NOT_AVAILABLE = "55P03"
_SCRUBBED = ("messages", "users", "channels", "imports", "answers", "feedback", "questions", "drafts")
_CONNECT = {"connect_timeout": 10, "application_name": "doppel", "client_encoding": "utf8"}
_LOST = "{backend} went away in the middle; what was not finished is undone: try again once it is back."
_SENTENCES: tuple[tuple[tuple[str, ...], type[DoppelError], str], ...] = (
    ((_LOCK_NOT_AVAILABLE, "40001", "40P01"), BusyError, backend.WRITING_BUSY),
    (("53300",), BusyError, "{backend} has no connection left; try again in a moment."),
    (("53",), StorageError, "{backend} can't store more ({reason}); free some space there."),
    (("25006",), StorageError, "{backend} is read-only; give Doppel a server that takes writes."),
    (("42501",), StorageError, "{backend} does not let that user write ({reason}); make it the owner of the database."),
    (("54",), BadInputError, "An id or a timestamp is longer than {backend} can look up; correct it and try again."),
    (("58", "XX"), ArchiveError, "{backend} is damaged ({reason}); restore a backup of it."),
    (("57014",), ArchiveError, "{backend} broke the work off ({reason}); try again."),
    (("08", "57P"), ArchiveError, _LOST),
)


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database on a server; its text leaves out user, password and options."""

    url: URL

    @classmethod
    def parse(cls, text: str) -> PostgresDatabase:
        """Read `postgresql://user:password@host:port/name?option=…`; raises ConfigError without repeating it."""
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise ConfigError("The address of the Postgres database can't be read; see docs/operations.md.") from None
        if not text.startswith(POSTGRES):
            raise ConfigError("The address of a Postgres database begins with postgresql://.")
        if "@" in f"{url.host}{url.database}":
            raise ConfigError('The address of the Postgres database has an "@" too many; in a password write %40.')
        return cls(url.set(drivername="postgresql+psycopg"))

    def __str__(self) -> str:
        host = self.url.host or _first(self.url.query.get("host"))
        port = f":{self.url.port}" if self.url.port else ""
        return f"postgresql://{'' if host.startswith('/') else host}{port}/{self._name}"

    @property
    def _name(self) -> str:
        return self.url.database or _first(self.url.query.get("dbname")) or ""

    @property
    def foreign(self) -> str:
        """The sentence for a database that others use."""
        return f"{self} holds tables of another program; give Doppel a database of its own."

    def engine(self) -> Engine:
        """An engine with a few connections; each is tried before it is used again."""
        engine = create_engine(self.url, connect_args=self.connect_args, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "connect", _require_utf8)
        return engine

    def reading(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A repeatable-read transaction: it sees what was there at its first statement."""
        return engine.execution_options(isolation_level="REPEATABLE READ").connect()

    @contextmanager
    def writing(self, engine: Engine) -> Iterator[Connection]:
        """A transaction that has the archive's write lock before its first statement."""
        # READ COMMITTED, so that what is read after the wait for the lock is what the writer before left.
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            _lock(connection, _WRITE_LOCK, backend.BUSY_SECONDS)
            yield connection

    @contextmanager
    def exclusive(self, seconds: float) -> Iterator[None]:
        """An advisory lock on a connection of its own, which the server frees if this process ends."""
        connection = _unpooled(self).connect()
        try:
            _lock_import(connection, seconds)
            yield
        finally:
            with suppress(DBAPIError):
                connection.close()

    def beside(self, engine: Engine, create: bool) -> Engine:
        """The same: an import locks none of these tables."""
        return engine

    def mapped(self, error: Exception) -> DoppelError | None:
        """By SQLSTATE, or by what libpq says where no connection came about."""
        reason, state = _reason(error), _state(error)
        for prefixes, kind, sentence in _SENTENCES:
            if state.startswith(prefixes):
                return kind(sentence.format(backend=self, reason=reason))
        if getattr(error, "connection_invalidated", False):
            return ArchiveError(_LOST.format(backend=self))
        connecting = not state and getattr(error, "statement", None) is None
        return self._refused(reason) if connecting else None

    def settle(self, connection: Connection) -> None:
        """Set every sequence to the highest id."""
        for table in metadata.sorted_tables:
            if (column := table.autoincrement_column) is not None:
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(select(func.setval(sequence, func.max(column))))

    def scrub(self, engine: Engine) -> None:
        """Write anew the tables from which rows are deleted; what the server archives or backs up is its own."""
        with _unpooled(self).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"SET lock_timeout = {backend.BUSY_SECONDS * 1000}")
            for table in _SCRUBBED:
                connection.exec_driver_sql(f'VACUUM FULL "{table}"')

    def back_up(self, file: Path) -> None:
        """Postgres's own tools do that."""
        raise BadInputError(
            f"The archive is in {self}: back it up with `pg_dump --format=custom --file={file} {self._name}`."
        )

    @property
    def connect_args(self) -> dict[str, Any]:
        """What every connection is opened with, unless the URL says otherwise."""
        return {key: value for key, value in _CONNECT.items() if key not in self.url.query}

    def _refused(self, reason: str) -> DoppelError:
        if "password" in reason or "role " in reason:
            return ArchiveError(f"{self} does not take that user and password; correct DOPPEL_DATABASE_URL.")
        if f'database "{self._name}" does not exist' in reason:
            return ArchiveError(f"{self} does not exist; create the database with `createdb {self._name}`.")
        return ArchiveError(f"Can't reach {self} ({reason}); is it running, and is DOPPEL_DATABASE_URL right?")


@functools.lru_cache
def _unpooled(at: PostgresDatabase) -> Engine:
    """An engine that keeps no connections; it is kept because the first question to an engine costs several."""
    return create_engine(at.url, connect_args=at.connect_args, poolclass=NullPool, hide_parameters=True)


def _lock(connection: Connection, number: int, seconds: float) -> None:
    """Take an advisory lock until the end of the transaction."""
    # A timeout of 0 would wait for ever.
    timeout = f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}"
    connection.exec_driver_sql(f"{timeout}; SELECT pg_advisory_xact_lock({number})")


def _lock_import(connection: Connection, seconds: float) -> None:
    try:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        _lock(connection, _IMPORT_LOCK, seconds)
    except DBAPIError as error:
        if _state(error) == _LOCK_NOT_AVAILABLE:
            raise BusyError(backend.IMPORTING_BUSY) from None
        raise


def _require_utf8(connection: Any, _record: object) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ArchiveError(f"The Postgres database stores text as {encoding}; create one with `createdb -E UTF8`.")


def _state(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _reason(error: Exception) -> str:
    """What the driver says, in one line."""
    return next(iter(str(getattr(error, "orig", error)).strip().splitlines()), "no reason given")


def _first(value: str | tuple[str, ...] | None) -> str:
    return (value if isinstance(value, str) else value[0]) if value else ""
