"""What only a Postgres server does to an archive: it refuses, goes away, is shared. One sentence, and no password."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from doppel import doctor
from doppel.access import ConsentAction
from doppel.archive import Archive, database
from doppel.archive.postgres import PostgresDatabase
from doppel.config import load_settings
from doppel.errors import ArchiveError, BadInputError, BusyError, ConfigError, DoppelError, StorageError
from doppel.ingest import import_export, open_archive
from doppel.records import User
from doppel.slack.export import open_export
from tests.end_to_end import ROOT, SAMPLE, doppel
from tests.fakes.export_builder import small_team
from tests.postgres import PASSWORD, SERVER, USER, PostgresServer

ADA = User("T1", "U1", "ada")


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.emptied("test")


@pytest.fixture
def archive(url: str) -> Iterator[Archive]:
    with open_archive(url) as opened:
        yield opened


def other_connections_end(name: str = "test") -> None:
    """The server closes every connection to a database but the one that asks."""
    SERVER.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


def sentence(error: pytest.ExceptionInfo[DoppelError]) -> str:
    text = str(error.value)
    assert text.endswith((".", "?"))
    assert "\n" not in text
    assert PASSWORD not in text
    return text


def test_a_wrong_password_is_one_sentence_without_it(postgres: PostgresServer, url: str) -> None:
    postgres.require_password()
    right = url.replace("postgres@", f"{USER}:{PASSWORD}@")
    open_archive(right).close()
    for wrong in (
        right.replace(PASSWORD, "wr0ng"),
        right.replace(f":{PASSWORD}", ""),
        url.replace("postgres@", "eve@"),
    ):
        with pytest.raises(ArchiveError, match="does not take that user and password") as error:
            open_archive(wrong)
        assert "wr0ng" not in sentence(error)


def test_the_password_may_come_from_where_libpq_looks(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.require_password()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_archive(url.replace("postgres@", f"{USER}@")).close()


def test_a_database_that_is_not_there_is_one_sentence(postgres: PostgresServer) -> None:
    with pytest.raises(ArchiveError, match="does not exist; create the database with `createdb nowhere`") as error:
        open_archive(postgres.url("nowhere"))
    sentence(error)


@pytest.mark.parametrize(
    "address", ["localhost:1/x", "/x?host=/nowhere", "no.such.host.invalid/x", "localhost:1/x?sslmode=perhaps", ":1/"]
)
def test_a_server_that_is_not_there_is_one_sentence(address: str) -> None:
    at = "" if address.startswith(("/", ":")) else "@"
    with pytest.raises(ArchiveError, match="Can't reach postgresql://") as error:
        open_archive(f"postgresql://{f'{USER}:{PASSWORD}' if at else ''}{at}{address}")
    sentence(error)


@pytest.mark.parametrize(
    "address",
    ["mysql://u:{}@host/db", "postgresql://u:x@{}@host/db", "postgresql://u:{}@host:port/db", "postgresql:/u:{}@x"],
)
def test_an_address_that_cannot_be_read_is_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as error:
        database.backend_of(address.format(PASSWORD))
    sentence(error)


def test_a_place_is_named_without_user_and_password() -> None:
    place = database.backend_of(f"postgresql://{USER}:{PASSWORD}@db.example.org:5433/doppel?sslmode=require")
    assert str(place) == "postgresql://db.example.org:5433/doppel"
    assert PASSWORD not in repr(place)


def test_a_user_who_may_not_write_is_told_so(postgres: PostgresServer) -> None:
    postgres.run("DROP ROLE IF EXISTS reader")
    postgres.run("CREATE ROLE reader LOGIN")
    url = postgres.empty("guarded")
    with pytest.raises(StorageError, match="does not let that user write"):
        open_archive(url.replace("postgres@", "reader@"))
    postgres.drop("guarded")


def test_a_server_that_only_reads_is_said_to(archive: Archive, url: str) -> None:
    with (
        open_archive(url + "&options=-cdefault_transaction_read_only%3Don") as replica,
        pytest.raises(StorageError, match="read-only"),
    ):
        replica.record_consent(ADA, ConsentAction.GRANT, by="root")
    assert archive.consent_records() == []


def test_a_database_of_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.run("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(ArchiveError, match="stores text as SQL_ASCII"):
        open_archive(postgres.url("ascii"))
    postgres.drop("ascii")


def test_an_id_that_no_index_holds_is_refused_whole(archive: Archive, tmp_path: Path) -> None:
    odd = "".join(chr(0x4E00 + i * 7 % 20000) for i in range(4000))
    export = small_team().say(odd, "1700000900.1", "hello", "U1").zip(tmp_path / "odd.zip")
    with pytest.raises(BadInputError, match="longer than") as error, open_export(export) as opened:
        import_export(archive, opened)
    sentence(error)
    assert archive.counts().messages == 0


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (psycopg.errors.DiskFull, StorageError, "can't store more (no space)"),
        (psycopg.errors.TooManyConnections, BusyError, "no connection left"),
        (psycopg.errors.DeadlockDetected, BusyError, "wait for it to end"),
        (psycopg.errors.DataCorrupted, ArchiveError, "is damaged (no space)"),
        (psycopg.errors.IoError, ArchiveError, "is damaged (no space)"),
        (psycopg.errors.QueryCanceled, ArchiveError, "broke the work off"),
        (psycopg.errors.CrashShutdown, ArchiveError, "went away in the middle"),
        (psycopg.errors.UndefinedColumn, type(None), "None"),
    ],
)
def test_what_the_server_says_is_one_sentence(raised: type[psycopg.Error], kind: type[DoppelError], words: str) -> None:
    place = database.backend_of(f"postgresql://{USER}:{PASSWORD}@host/db")
    mapped = place.mapped(DBAPIError("SELECT 1", None, raised("no space\nDETAIL: more")))
    assert isinstance(mapped, kind)
    assert words in str(mapped)


def test_a_connection_lost_in_the_middle_leaves_the_archive_as_it_was(archive: Archive) -> None:
    archive.record_consent(ADA, ConsentAction.GRANT, by="root")
    before = archive.consent_records()

    def lose() -> None:
        with database.writing(archive._engine, archive.backend) as connection:
            connection.exec_driver_sql("DELETE FROM consent")
            other_connections_end()
            connection.exec_driver_sql("DELETE FROM users")

    with pytest.raises(ArchiveError, match="went away in the middle; what was not finished is undone") as error:
        lose()
    sentence(error)
    assert archive.consent_records() == before


def test_a_connection_lost_before_the_commit_leaves_the_archive_as_it_was(archive: Archive, tmp_path: Path) -> None:
    def lose(done: int, total: int) -> None:
        if done == total:
            other_connections_end()

    with pytest.raises(ArchiveError, match="went away"), open_export(small_team().zip(tmp_path / "x.zip")) as export:
        import_export(archive, export, lose)
    assert archive.counts().messages == 0


def test_connections_that_ended_between_two_questions_are_made_anew(archive: Archive) -> None:
    assert archive.counts().messages == 0
    other_connections_end()
    assert archive.counts().messages == 0


def test_a_reader_whose_connection_is_lost_is_told_so(archive: Archive, tmp_path: Path) -> None:
    builder = small_team()
    for i in range(5000):
        builder.say("general", f"{1_700_100_000 + i}.1", f"message {i} " + "x" * 500)
    with open_export(builder.zip(tmp_path / "x.zip")) as export:
        import_export(archive, export)
    messages = archive.messages()
    next(messages)
    other_connections_end()
    with pytest.raises(ArchiveError, match="went away"):
        list(messages)
    assert len(list(archive.messages())) == 5007


def test_a_crash_of_the_server_leaves_the_archive_as_it_was() -> None:
    server = PostgresServer(oddly=False)
    try:
        with open_archive(server.fresh("crash")) as archive:
            archive.record_consent(ADA, ConsentAction.GRANT, by="root")
            before = archive.consent_records()

            def crash() -> None:
                with database.writing(archive._engine, archive.backend) as connection:
                    connection.exec_driver_sql("DELETE FROM consent")
                    server.crash()

            with pytest.raises(ArchiveError, match="went away in the middle"):
                crash()
            with pytest.raises(ArchiveError, match="Can't reach"):
                archive.counts()
            server.start_again()
            assert archive.consent_records() == before
    finally:
        server.stop()


def test_a_writer_waits_for_the_one_before_and_sees_what_it_left(archive: Archive, url: str) -> None:
    inside, seen = threading.Event(), []

    def second() -> None:
        with open_archive(url) as other, database.writing(other._engine, other.backend) as connection:
            seen.append(connection.exec_driver_sql("SELECT count(*) FROM consent").scalar_one())

    thread = threading.Thread(target=second)
    with database.writing(archive._engine, archive.backend) as connection:
        thread.start()
        inside.wait(0.3)
        assert seen == []
        connection.exec_driver_sql(
            "INSERT INTO consent (team, user_id, action, at, by) VALUES ('T1', 'U1', 'grant', 'now', 'root')"
        )
    thread.join()
    assert seen == [1]


def test_two_processes_import_at_once_and_one_is_told_to_wait(url: str, tmp_path: Path) -> None:
    builder = small_team()
    for i in range(2000):
        builder.say("general", f"{1_700_100_000 + i * 60}.1", f"message {i}")
    export = builder.zip(tmp_path / "many.zip")
    command = [sys.executable, "app.py", "import", str(export), "--data-dir", str(tmp_path / "data"), "--json"]
    environ = {"PATH": "/usr/bin:/bin", "DOPPEL_DATABASE_URL": url}
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    said = [json.loads(process.communicate()[0]) for process in processes]
    refused = [told["error"] for told in said if "error" in told]
    assert all("Another process is importing" in error for error in refused)
    with open_archive(url) as archive:
        assert archive.counts().messages == 2007
    assert sum(told.get("added", 0) for told in said) == 2007


def test_commands_use_the_database_of_the_setting_and_never_show_its_password(
    postgres: PostgresServer, url: str, tmp_path: Path
) -> None:
    postgres.require_password()
    environ = {"DOPPEL_DATABASE_URL": url.replace("postgres@", f"{USER}:{PASSWORD}@")}
    done = doppel(tmp_path, "import", str(SAMPLE), environ=environ)
    assert done.status == 0, done.stderr
    assert not (tmp_path / "archive.db").exists()
    wrong = doppel(tmp_path, "personas", environ={"DOPPEL_DATABASE_URL": environ["DOPPEL_DATABASE_URL"] + "&x=1"})
    assert wrong.status == 1
    for run in (done, wrong):
        assert PASSWORD not in run.stderr + json.dumps(run.data)
    check = doctor._archive(load_settings(environ, data_dir=tmp_path))
    assert check.ok
    assert check.detail.endswith("channels in postgresql:///test")


def test_the_password_is_in_no_text_of_the_engine() -> None:
    place = database.backend_of(f"postgresql://{USER}:{PASSWORD}@host/db")
    assert isinstance(place, PostgresDatabase)
    engine = place.engine()
    assert PASSWORD not in f"{engine} {engine!r} {engine.url} {place} {place!r}"
    engine.dispose()
