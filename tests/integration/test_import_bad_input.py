"""Whatever is handed in: one clear sentence, and the archive as it was or as it should be."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from doppel.archive import Archive
from doppel.errors import ArchiveError, BadInputError, BusyError, DoppelError, StorageError
from doppel.ingest import ImportReport, forget_person, import_export, open_archive
from doppel.slack import source
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder, small_team

MANY = 3000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive in a file that holds the small team, for what fails before a database is asked."""
    archive = tmp_path / "data" / "archive.db"
    take_in(archive, small_team().zip(tmp_path / "small.zip"))
    return archive


@pytest.fixture
def filled(tmp_path: Path, where: Path | str) -> Path | str:
    """An archive that holds the small team, on either database."""
    take_in(where, small_team().zip(tmp_path / "small.zip"))
    return where


def take_in(archive: Path | str, export: Path) -> ImportReport:
    with open_archive(archive) as opened, open_export(export) as exported:
        return import_export(opened, exported)


def state(archive: Path | str) -> object:
    with open_archive(archive) as opened:
        return opened.users(), opened.channels(), list(opened.messages())


def refused(archive: Path | str, export: Path) -> str:
    """The sentence with which an import is refused; the archive is as it was."""
    before = state(archive)
    with pytest.raises(BadInputError) as raised:
        take_in(archive, export)
    assert state(archive) == before
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@contextmanager
def few_parameters(archive: Archive, number: int) -> Iterator[None]:
    """A database that takes no more parameters than so many in one statement."""

    def limit(connection: Any, _record: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, number)

    archive._engine.dispose()
    event.listen(archive._engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(archive._engine, "connect", limit)
        archive._engine.dispose()


def crowd(called: str, later: int) -> ExportBuilder:
    """More people, authors whom no list names, and channels of one name than a statement may name."""
    builder = ExportBuilder()
    for number in range(MANY):
        builder.user(f"U{number}", f"{called}{number}").channel(f"C{number}", "crowd", "U1")
        of_guest = {"user_profile": {"real_name": f"{called} {number}"}}
        text = "https://acme.slack.com/archives/CNOWHERE1/p1700000000000100"
        builder.say("crowd", f"{1_700_000_000 + later + number}.1", f"hi <@U{number}>", f"W{number}", **of_guest)
        if number < 5:
            copy = {"is_msg_unfurl": True, "from_url": text, "ts": "1700000000.000100", "text": "hi"}
            builder.say("crowd", f"{1_600_000_000 + later + number}.1", text, attachments=[copy])
    return builder


def test_no_number_of_people_authors_or_channels_is_too_large_for_the_database(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive.db") as archive:
        for later, called in enumerate(("ada", "grace")):
            with (
                few_parameters(archive, MANY - 500),
                open_export(crowd(called, later).zip(tmp_path / f"{called}.zip")) as export,
            ):
                assert import_export(archive, export).added
            if not later:
                forget_person(archive, archive.get_user("T1", "U7"), messages=True, by="tests")
        names = {user.name for user in archive.users()}
        assert {"grace9", "ada 9"} <= names
        assert len(names) == 2 * MANY


def many() -> ExportBuilder:
    """Enough messages that an import takes a while and some space."""
    builder = small_team()
    for i in range(MANY):
        builder.say("general", f"{1_700_100_000 + i * 600}.1", f"message {i} " + "x" * 500)
    return builder


@contextmanager
def edited_zip(tmp_path: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(small_team().zip(tmp_path / "bad.zip"), "a", zipfile.ZIP_DEFLATED) as file:
        yield file


@pytest.mark.parametrize("data", [b"", b"hello", b"PK", b"\x1f\x8b" + b"\0" * 100, b"PK\x05\x06"])
def test_not_a_zip(tmp_path: Path, path: Path, data: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(data)
    assert "bad.zip is no ZIP; give the ZIP that Slack's export page hands out" in refused(path, tmp_path / "bad.zip")


def test_nothing_there(tmp_path: Path, path: Path) -> None:
    assert "There is nothing at" in refused(path, tmp_path / "nowhere.zip")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_zip(tmp_path: Path, path: Path, share: float) -> None:
    whole = small_team().zip(tmp_path / "bad.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(whole[: int(len(whole) * share)])
    assert "is cut off or damaged; download the export again" in refused(path, tmp_path / "bad.zip")


def test_a_zip_with_a_damaged_entry(tmp_path: Path, filled: Path | str) -> None:
    export = many().zip(tmp_path / "bad.zip")
    with zipfile.ZipFile(export) as file:
        victim = file.infolist()[-3]
    data = bytearray(export.read_bytes())
    middle = victim.header_offset + 30 + len(victim.filename) + victim.compress_size // 2
    data[middle : middle + 8] = b"\xff" * 8
    export.write_bytes(data)
    assert "The ZIP is damaged at" in refused(filled, export)


@pytest.mark.parametrize("name", ["../evil.json", "general/../../evil.json", "/etc/evil.json", "C:\\evil", "..\\evil"])
def test_a_zip_that_reaches_outside(tmp_path: Path, path: Path, name: str) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr(name, "[]")
    assert "outside of itself" in refused(path, tmp_path / "bad.zip")


def test_a_zip_with_a_link(tmp_path: Path, path: Path) -> None:
    with edited_zip(tmp_path) as file:
        link = zipfile.ZipInfo("general/2024-01-01.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    assert "holds a link" in refused(path, tmp_path / "bad.zip")


def test_a_folder_with_a_link(tmp_path: Path, path: Path) -> None:
    folder = small_team().folder(tmp_path / "export")
    (folder / "general" / "2024-01-01.json").symlink_to("/etc/passwd")
    assert "holds a link" in refused(path, folder)


@pytest.mark.parametrize("name", ["general/2024-01-01.json", "general/canvas_1.json", "mpims.json"])
def test_a_zip_bomb(tmp_path: Path, path: Path, name: str) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr(name, b" " * 50_000_000)
    assert "far more than an export does" in refused(path, tmp_path / "bad.zip")


@pytest.mark.parametrize("name", ["__uploads/F1/log.json", "canvases.json", "general/photo.png", "bomb"])
def test_what_is_not_read_may_be_packed_however_well(tmp_path: Path, where: Path | str, name: str) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr(name, b" " * 50_000_000)
    assert take_in(where, tmp_path / "bad.zip").added == 7


def test_a_zip_bomb_that_lies_about_its_size(tmp_path: Path, path: Path) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr("general/2024-01-01.json", b" " * 50_000_000)
        file.filelist[-1].file_size = 100
    tracemalloc.start()
    try:
        assert "The ZIP is damaged at general/2024-01-01.json" in refused(path, tmp_path / "bad.zip")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_of_entries_that_share_their_data(tmp_path: Path, path: Path) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr("general/2024-01-01.json", json.dumps(["x" * 50, *range(1_500_000)]))
        for i in range(2, 2000):
            copy = zipfile.ZipInfo(f"general/{i:04}-01-01.json")
            original = file.filelist[len(small_team().contents())]
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(copy, field, getattr(original, field))
            file.filelist.append(copy)
    assert "far more than an export does" in refused(path, tmp_path / "bad.zip")


def test_a_day_that_is_too_large(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_ENTRY_BYTES", 2**20)
    builder = small_team().put("general/2024-01-01.json", os.urandom(2**20 + 1))
    assert "is larger than 1 MiB" in refused(path, builder.zip(tmp_path / "bad.zip"))
    assert "is larger than 1 MiB" in refused(path, builder.folder(tmp_path / "bad"))


@pytest.mark.parametrize(("field", "value", "words"), [("flag_bits", 1, "encrypted"), ("compress_type", 99, "damaged")])
def test_a_zip_that_cannot_be_unpacked(tmp_path: Path, path: Path, field: str, value: int, words: str) -> None:
    with edited_zip(tmp_path) as file:
        file.writestr("general/2024-01-01.json", "[]")
        setattr(file.filelist[-1], field, value)
    assert words in refused(path, tmp_path / "bad.zip")


@pytest.mark.parametrize(
    "files", [{}, {"a.txt": "x"}, {"users.json": "[]"}, {"src/data.json": "[]"}, {"a/b.json": "[]", "c/d.json": "[]"}]
)
def test_what_is_no_slack_export(tmp_path: Path, path: Path, files: dict[str, str]) -> None:
    (tmp_path / "bad").mkdir()
    for name, text in files.items():
        (tmp_path / "bad" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bad" / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    assert "bad is no Slack export" in refused(path, tmp_path / "bad")
    assert "bad.zip is no Slack export" in refused(path, tmp_path / "bad.zip")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b'{"ts": "1.0"}',
        b"null",
        b'[{"type": "message", "ts": "1700000500.1", "text": "half a fi',
        b"\xff\xfe\0\0",
        b"[" * 100_000,
        b'[{"ts": ' + b"9" * 5000 + b"}]",
    ],
)
def test_a_broken_day_file_is_left_out_and_counted(tmp_path: Path, where: Path | str, data: bytes) -> None:
    builder = small_team().put("general/2023-12-24.json", data)
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (report.added, report.skipped) == (7, {"broken day file": 1})


def test_a_day_file_comes_whole_once_it_is_mended(tmp_path: Path, where: Path | str) -> None:
    builder = small_team()
    day = next(iter(builder.days))
    whole = builder.contents()[day]
    builder.put(day, whole[: len(whole) // 2])
    assert take_in(where, builder.zip(tmp_path / "export.zip")).messages == 1
    builder.put(day, whole)
    assert take_in(where, builder.zip(tmp_path / "export.zip")).messages == 7


@pytest.mark.parametrize("depth", [100, 500, 800, 900, 950, 960, 970, 980, 990, 5000])
def test_a_message_nested_however_deep_does_no_harm(tmp_path: Path, where: Path | str, depth: int) -> None:
    nested = '[{"ts": "1700000500.1", "text": "", "user": "U1", "x": ' + "[" * depth + "]" * depth + "}]"
    report = take_in(where, small_team().put("general/2023-12-24.json", nested).zip(tmp_path / "export.zip"))
    assert report.added + sum(report.skipped.values()) == 8


def test_entries_that_are_no_messages_are_counted(tmp_path: Path, where: Path | str) -> None:
    builder = small_team()
    bad: list[object] = ["yesterday", "1e9", True, [], "-1.0", "9" * 40]
    for ts in bad:
        builder.say("general", ts, "when?")
    for entry in ({"text": "never"}, {"ts": None}, {"ts": ""}, "text", 5, None):
        builder.entry("general", entry)
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (report.added, report.skipped) == (7, {"bad ts": 6, "no message": 3, "no ts": 3})


@pytest.mark.parametrize(("broken", "reason"), [(None, "users.json missing"), ("{", "users.json broken")])
def test_users_json_missing_or_broken(tmp_path: Path, where: Path | str, broken: str | None, reason: str) -> None:
    builder = small_team().without("users")
    if broken:
        builder.put("users.json", broken)
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (report.added, report.skipped) == (7, {reason: 1})
    with open_archive(where) as archive:
        assert {m.author for m in archive.messages()} == {"U1", "U2", "U3", "U9"}


@pytest.mark.parametrize("broken", [None, "[", '"x"'])
def test_channels_json_missing_or_broken(tmp_path: Path, where: Path | str, broken: str | None) -> None:
    builder = small_team().without("channels").without("groups")
    if broken:
        builder.put("channels.json", broken)
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert report.added == 7
    assert report.skipped == {f"channels.json {'broken' if broken else 'missing'}": 1}


def test_fields_of_any_type_do_no_harm(tmp_path: Path, where: Path | str) -> None:
    odd: list[Any] = [None, 5, [], {}, "x", True]
    builder = small_team()
    for i, value in enumerate(odd):
        builder.user(f"U5{i}", value, profile=value, deleted=value).channel(f"C5{i}", value)
        builder.entry("general", {"ts": f"170000050{i}.1", "text": value, "user": value, "thread_ts": value})
        builder.entry("general", {"ts": f"170000060{i}.1", "blocks": value, "files": value, "edited": value})
        builder.entry("general", {"ts": f"170000070{i}.1", "subtype": value, "bot_profile": value, "username": value})
    builder.lists["users"] += [{"id": 5}, {}, 5]  # type: ignore[list-item]
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (report.added, report.skipped) == (7 + 3 * len(odd), {"no id": 3})


def test_a_text_of_40_kb_passes_whole(tmp_path: Path, where: Path | str) -> None:
    text = "0123456789abcdé\n" * 2500
    take_in(where, small_team().say("general", "1700000900.1", text).zip(tmp_path / "export.zip"))
    with open_archive(where) as archive:
        assert text in [message.text for message in archive.messages()]


def test_lone_surrogates_become_replacement_characters(tmp_path: Path, where: Path | str) -> None:
    builder = ExportBuilder().user("U1", "a\ud800", "b\udfff").channel("C1", "general", "U\ud800")
    builder.say("general", "1.0", "half \ud83d of it, <@U1>", x="\udc00\0", username="\ud800")
    take_in(where, builder.zip(tmp_path / "export.zip"))
    with open_archive(where) as archive:
        (message,), (user,) = archive.messages(), archive.users()
        assert (message.text, user.handle) == ("half \ufffd of it, @b\ufffd", "a\ufffd")
        with archive._engine.connect() as connection:
            raw = connection.exec_driver_sql("SELECT raw FROM messages").scalar_one()
    assert json.loads(raw.encode())["x"] == "\ufffd\0"


def test_an_empty_workspace(tmp_path: Path, where: Path | str) -> None:
    builder = ExportBuilder().user("U1", "ada").channel("C1", "general").put("integration_logs.json", "[]")
    report = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (report.messages, report.users, report.channels, report.threads, report.skipped) == (0, 1, 1, 0, {})
    assert take_in(where, builder.folder(tmp_path / "export")).users == 1


IMPORT = """
import resource, sys
from pathlib import Path
from typing import Any
from doppel.ingest import import_export, open_archive
from doppel.slack.export import open_export

def half(done, total):
    if done * 2 > total:
        print("half", flush=True)
        sys.stdin.readline()

archive, export, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
archive = archive if "://" in archive else Path(archive)
with open_archive(archive) as opened, open_export(export) as exported:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        import_export(opened, exported, None if limit else half)
    except Exception as error:
        print(type(error).__name__, error)
"""


@contextmanager
def importing(archive: Path | str, export: Path, limit: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process that imports; without a limit on its files' size it says when it is half done, and waits."""
    command = [sys.executable, "-c", IMPORT, str(archive), str(export), str(limit)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_told_to_wait(tmp_path: Path, filled: Path | str) -> None:
    export, before = many().zip(tmp_path / "many.zip"), state(filled)
    with importing(filled, export) as process:
        assert said(process) == "half"
        with pytest.raises(BusyError, match="Another process is importing into this archive; wait for it to end"):
            take_in(filled, export)
        assert state(filled) == before
    assert take_in(filled, export).messages == MANY + 7


def test_kill_9_in_the_middle_leaves_the_archive_as_it_was(tmp_path: Path, filled: Path | str) -> None:
    export, before = many().zip(tmp_path / "many.zip"), state(filled)
    with importing(filled, export) as process:
        assert said(process) == "half"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert state(filled) == before
    report = take_in(filled, export)
    assert (report.messages, report.added) == (MANY + 7, MANY)


def test_kill_9_in_the_first_import(tmp_path: Path, bare: Path | str) -> None:
    export, archive = many().zip(tmp_path / "many.zip"), bare
    with importing(archive, export) as process:
        assert said(process) == "half"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert state(archive) == ([], [], [])
    assert take_in(archive, export).messages == MANY + 7


def test_a_full_disk_leaves_the_archive_as_it_was(tmp_path: Path, path: Path) -> None:
    export, before = many().zip(tmp_path / "many.zip"), state(path)
    with importing(path, export, limit=500_000) as process:
        sentence = said(process)
    assert sentence.startswith(f"StorageError Can't write to {path} (")
    assert sentence.endswith("free some space or check its permissions.")
    assert state(path) == before
    assert take_in(path, export).messages == MANY + 7


def test_a_database_that_may_not_grow(tmp_path: Path, path: Path) -> None:
    export, before = many().zip(tmp_path / "many.zip"), state(path)
    with open_archive(path) as archive, open_export(export) as exported:
        with archive._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=100")
        with pytest.raises(StorageError, match="full"):
            import_export(archive, exported)
    assert state(path) == before


def garbage(archive: Path) -> None:
    archive.write_bytes(b"this is no database" * 100)


def torn(archive: Path) -> None:
    size = archive.stat().st_size
    with archive.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


@pytest.mark.parametrize("harm", [garbage, torn])
def test_a_damaged_archive_is_said_to_be(path: Path, harm: Callable[[Path], None]) -> None:
    harm(path)
    with pytest.raises(ArchiveError, match="is damaged; move it away and import your export again"):
        state(path)


def test_a_folder_in_place_of_the_archive(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Can't write to"):
        open_archive(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Can't write to"):
        open_archive(tmp_path / "file" / "archive.db")


def test_an_error_of_the_caller_leaves_the_archive_as_it_was(tmp_path: Path, filled: Path | str) -> None:
    def stop(done: int, total: int) -> None:
        raise DoppelError("Stopped.")

    before = state(filled)
    with (
        open_archive(filled) as archive,
        open_export(many().zip(tmp_path / "many.zip")) as export,
        pytest.raises(DoppelError),
    ):
        import_export(archive, export, stop)
    assert state(filled) == before


UNREADABLE: list[tuple[dict[str, bytes | str], str]] = [
    ({"users.json": "{}", "channels.json": '{"ok": true}'}, "1 users.json broken, 1 channels.json broken"),
    ({"users.json": "[]", "channels.json": "[]"}, "its lists are empty"),
    ({"users.json": "[]", "channels.json": "[]", "general.json": '[{"text": "hi"}]'}, "1 other file"),
    ({"users.json": "[]", "channels.json": "[]", "general.json": '{"messages": {}}'}, "1 other file"),
    ({"users.json": "[]", "channels.json": "[]", "general_2024-05-31.json": "[]"}, "1 other file"),
    ({"users.json": "[]", "channels.json": "[]", "general\u30022024-05-31.json": "[]"}, "1 other file"),
    ({"channels.json": '[{"id": "C1", "name": "general"}]'}, "1 users.json missing"),
    (
        {"users.json": '[{"id": "U1"}]', "channels.json": '[{"id": "C1"}]', "C1/2024-05-31.json": "{"},
        "1 broken day file",
    ),
    ({"general/2024-05-31.json": '[{"text": "without a time"}, 5]'}, "no ts"),
]


@pytest.mark.parametrize(("files", "reason"), UNREADABLE)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_an_import_that_could_read_nothing_fails(
    tmp_path: Path, path: Path, files: dict[str, bytes | str], reason: str, kind: str
) -> None:
    builder = ExportBuilder().without("users").without("channels")
    for name, data in files.items():
        builder.put(name, data)
    sentence = refused(path, getattr(builder, kind)(tmp_path / "export"))
    assert sentence.startswith("No message of export could be read (")
    assert reason in sentence
    assert "channels.json and a folder for each channel" in sentence


def test_an_import_that_knows_all_already_is_none_of_those(tmp_path: Path, where: Path | str) -> None:
    export = small_team().put("general/2023-12-24.json", "{").zip(tmp_path / "export.zip")
    assert take_in(where, export).added == 7
    assert take_in(where, export).unchanged == 7


@pytest.mark.parametrize("wrap", ["", "export\\", "export/", "./", "a\\b/"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_the_separator_of_windows_parts_folders_wherever_it_stands(
    tmp_path: Path, where: Path | str, wrap: str, kind: str
) -> None:
    builder, separated = ExportBuilder().without("users").without("channels"), small_team().contents()
    for name, data in separated.items():
        builder.put(wrap + name.replace("/", "\\"), data)
    assert take_in(where, getattr(builder, kind)(tmp_path / "export")).added == 7
    with open_archive(where) as archive:
        assert {channel.name: channel.kind.value for channel in archive.channels()} == {
            "general": "public",
            "secret": "private",
        }


@pytest.mark.parametrize("name", ["..\\..\\evil\\2024-01-01.json", "\\", "general\\..\\..\\2024-01-01.json"])
def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path: Path, path: Path, name: str) -> None:
    assert "leads outside of it" in refused(path, small_team().put(name, "[]").folder(tmp_path / "export"))


def test_one_day_under_two_names_is_said(tmp_path: Path, path: Path) -> None:
    builder = small_team().put("general\\2023-11-14.json", "[]")
    assert "holds general/2023-11-14.json twice, and they differ" in refused(path, builder.folder(tmp_path / "export"))
