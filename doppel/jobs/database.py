"""Where the jobs of a data folder are kept, under which name, and the lock that its one worker holds."""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dbos import error as dbos_errors
from filelock import FileLock, Timeout
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from doppel.artifacts import storage_error, write_atomic
from doppel.config import Settings
from doppel.errors import JobError

ID_BYTES = 5
SCRUB_SECONDS = 30
"""How long writing the database anew waits for others."""


def worker_lock(settings: Settings) -> FileLock:
    """What the one worker of a data folder holds."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.run_dir.mkdir(exist_ok=True)
    return FileLock(settings.run_dir / "worker.lock", thread_local=False)


def is_worked(settings: Settings, seconds: float = 0) -> bool:
    """Whether a worker of this data folder is there; `seconds` outlast another that only looks."""
    try:
        with worker_lock(settings).acquire(timeout=seconds):
            return False
    except Timeout:
        return True


def quiet_logger() -> None:
    """Keep DBOS off the terminal: it brings a handler of its own to a logger that has none."""
    logger = logging.getLogger("dbos")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what the database or DBOS raise into one sentence."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, dbos_errors.DBOSException) as error:
        # Options may hold a password, too.
        place = make_url(url).set(query={}).render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
        is_file = url.startswith("sqlite")
        remedy = "if it is damaged, move it away" if is_file else "check DOPPEL_DATABASE_URL and that it runs"
        raise JobError(f"The jobs' database {place} can't be used ({reason}); {remedy}.") from error


def application_name(settings: Settings) -> str:
    """A name for the jobs of this data folder: several folders, on several machines, may share one Postgres."""
    path = settings.data_dir / "jobs.id"
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_name("jobs.id.lock")):
            if not path.is_file():
                write_atomic(path, secrets.token_hex(ID_BYTES) + "\n")
            return f"doppel-{path.read_text(encoding='utf-8').strip()}"
    except OSError as error:
        raise storage_error(error, path) from error


def database_url(settings: Settings) -> str:
    """Where the jobs are kept: the Postgres of the settings, or a file in the data folder, made if need be."""
    if url := settings.database_url.get_secret_value():
        return url
    path = (settings.data_dir / "jobs.db").absolute()
    if not path.exists():
        _create_database(path)
    return f"sqlite:///{path}"


def scrub(url: str) -> None:
    """Write the jobs' database anew. Raises what SQLAlchemy raises, also where others use it for too long."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql(f"SET lock_timeout = {SCRUB_SECONDS * 1000}")
            for table in inspect(connection).get_table_names(schema="dbos"):
                connection.exec_driver_sql(f'VACUUM FULL dbos."{table}"')


def _create_database(path: Path) -> None:
    """An empty file for its owner alone, whose readers don't wait for a writer."""
    try:
        with suppress(FileExistsError):
            path.touch(0o600, exist_ok=False)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    except (OSError, sqlite3.Error) as error:
        raise storage_error(error if isinstance(error, OSError) else OSError(str(error)), path) from error
