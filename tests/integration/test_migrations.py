"""From every released state of the tables to today's, on SQLite and on Postgres."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Connection, Integer, MetaData, Text, insert, select, text

from doppel.access import ConsentAction
from doppel.archive import Archive, database, tables
from doppel.archive.channels import take_members
from doppel.archive.forgotten import DELETED, FORGOTTEN
from doppel.errors import ArchiveError
from doppel.ingest import open_archive
from doppel.records import Message, MessageKind, User


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    return made


REVISIONS = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()]

ROWS: dict[str, dict[str, Any]] = {
    "workspaces": {"team": "T1", "url": "https://acme.slack.com"},
    "users": {"team": "T1", "id": "U1", "handle": "ada", "real_name": "Ada Lovelace", "display_name": "Ada"},
    "channels": {"team": "T1", "id": "C1", "name": "general", "kind": "public", "members": ["U1"]},
    "messages": {"team": "T1", "channel": "C1", "ts": "1.5", "user": "U1", "text": "hello", "kind": "human"},
    "consent": {"team": "T1", "user_id": "U1", "action": "grant", "at": "2026-01-01T00:00:00+00:00", "by": "root"},
    "feedback": {"team": "T1", "user_id": "U1", "question": "why?", "sources": ["https://x"]},
}


@pytest.fixture(params=REVISIONS)
def released(request: pytest.FixtureRequest, bare: Path | str) -> Path | str:
    """An archive as an earlier Doppel left it, with a row in each table that a team would miss."""
    place, migrations = database.backend_of(bare), config()
    engine = place.engine()
    with place.writing(engine) as connection:
        migrations.attributes["connection"] = connection
        command.upgrade(migrations, request.param)
        put_rows(connection)
    engine.dispose()
    return bare


def put_rows(connection: Connection, **more: dict[str, Any]) -> None:
    found = MetaData()
    found.reflect(connection)
    for name, given in ROWS.items():
        table, other = found.tables[name], {}
        for column in table.columns:
            if column.name not in given and not column.nullable and column.name != "id":
                other[column.name] = filler(column.type)
        connection.execute(insert(table).values(**other | given | more.get(name, {})))


def filler(kind: Any) -> object:
    for known, value in ((Boolean, False), (Integer, 1), (JSON, []), (Text, "")):
        if isinstance(kind, known):
            return value
    raise AssertionError(kind)


def test_every_released_archive_opens_with_all_that_was_in_it(released: Path | str) -> None:
    with open_archive(released) as archive:
        assert archive.users() == [User("T1", "U1", "ada", "Ada Lovelace", "Ada")]
        assert [(c.id, c.name, c.members) for c in archive.channels()] == [("C1", "general", ("U1",))]
        (message,) = archive.messages()
        assert message == Message("T1", "C1", "1.5", "Ada", "hello", MessageKind.HUMAN, "U1", None)
        assert [(r.action, r.by) for r in archive.consent_records()] == [(ConsentAction.GRANT, "root")]
        assert [(f.question, f.sources) for f in archive.feedback()] == [("why?", ("https://x",))]
        assert archive.permalink(("T1", "C1"), "1.5") == "https://acme.slack.com/archives/C1/p1500000"
        archive.record_consent(archive.users()[0], ConsentAction.REVOKE, by="ada")
        assert len(archive.consent_records()) == 2


def test_every_released_archive_becomes_todays(released: Path | str) -> None:
    with open_archive(released) as archive, database.reading(archive._engine, archive.backend) as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_members_and_tombstones_of_an_older_archive_are_carried_over(bare: Path | str) -> None:
    """Members are known of when they were read; what was forgotten is told from what was deleted."""
    place, migrations = database.backend_of(bare), config()
    engine, synced = place.engine(), {"team": "T1", "channel": "C1", "members_at": 70, "checked_at": 0}
    gone = {"channel": "C1", "user": None, "text": "", "subtype": "tombstone", "kind": "system", "edited": 2**62}
    with place.writing(engine) as connection:
        migrations.attributes["connection"] = connection
        command.upgrade(migrations, "0007")
        put_rows(connection, channels={"as_of": 50})
        found = MetaData()
        found.reflect(connection)
        connection.execute(insert(found.tables["sync_channels"]).values(**synced))
        forgotten = {"team": "T1", "user_id": "U2", "at": 60, "messages": True, "revision": 1}
        connection.execute(insert(found.tables["forgotten"]).values(**forgotten))
        common = {"team": "T1", "author": "", "raw": "{}", "at": 1, **gone}
        rows = [common | {"ts": "2.5", "as_of": 60}, common | {"ts": "3.5", "as_of": 61}]
        connection.execute(insert(found.tables["messages"]), rows)
    engine.dispose()
    with open_archive(bare) as archive, database.writing(archive._engine, archive.backend) as connection:
        versions = connection.execute(select(tables.channel_versions)).all()
        assert [tuple(row) for row in versions] == [("T1", "C1", 50, 50, 50, 70)]
        assert connection.scalar(select(tables.sync_channels.c.members_at)) == 0
        edited = dict(connection.execute(select(tables.messages.c.ts, tables.messages.c.edited)).all())
        assert (edited["2.5"], edited["3.5"]) == (FORGOTTEN, DELETED)
        assert not take_members(connection, "T1", "C1", ["U2"], 60)
        assert take_members(connection, "T1", "C1", ["U2"], 71)


def test_the_newest_migration_is_known() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == tables.HEAD == REVISIONS[0]


def test_on_postgres_every_key_sorts_by_its_bytes(bare: Path | str, database: str) -> None:
    if database == "sqlite":
        pytest.skip("SQLite compares bytes by itself")
    query = (
        "SELECT table_name, column_name "
        "FROM information_schema.key_column_usage NATURAL JOIN information_schema.columns "
        "WHERE table_name <> 'alembic_version' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    with open_archive(bare) as archive, archive.backend.reading(archive._engine) as connection:
        assert connection.execute(text(query)).all() == []


def test_an_archive_of_a_newer_doppel_is_left_alone(where: Path | str, archive: Archive) -> None:
    with database.writing(archive._engine, archive.backend) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ArchiveError, match="written by a newer Doppel; update Doppel"):
        open_archive(where)


def test_a_database_of_another_program_is_left_alone(bare: Path | str) -> None:
    place = database.backend_of(bare)
    engine = place.engine()
    with place.writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (x integer)")
    engine.dispose()
    with pytest.raises(ArchiveError, match=r"another program; (choose another data folder|give Doppel a database of)"):
        open_archive(bare)


def test_opening_at_once_migrates_once(bare: Path | str) -> None:
    def opened(_: int) -> int:
        with open_archive(bare) as archive:
            return archive.counts().messages

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [0] * 4


def test_opening_waits_while_another_process_writes_to_a_new_file(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        Timer(0.3, other.rollback).start()
        with open_archive(file) as archive:
            assert archive.counts().messages == 0
