"""Ids are ids: checked where they come in, and no name leads out of the data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from doppel.adapters import AdapterStore
from doppel.archive import Archive, database, tables
from doppel.artifacts import VersionedFolder
from doppel.bot.question_parser import question_of
from doppel.config import load_settings
from doppel.errors import ArtifactError
from doppel.ids import is_id, is_team
from doppel.ingest import open_archive
from doppel.jobs.state import JobFiles
from doppel.paths import within
from doppel.records import User
from doppel.slack.events import changes_of
from tests.end_to_end import archive_at, doppel, environment
from tests.fakes.export_builder import ExportBuilder, small_team
from tests.fakes.slack import FakeSlack, Workspace
from tests.syncing import sync
from tests.taking_in import take_in

BAD = ["/srv/victim", "../../victim", "U1/../U2", "u0ines", "U 1", "U1\n", "..", "U\0", "Ü1", "1U", "U" * 80, "-U1"]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that is none of Doppel's."""
    made = tmp_path / "victim"
    (made / "papers").mkdir(parents=True)
    (made / "papers" / "letter.txt").write_text("dear")
    return made


def is_whole(victim: Path) -> bool:
    return (victim / "papers" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    "id_", ["U0INES", "U1", "W012A3CDE", "USLACKBOT", "C01DWCFP8CE", "G1", "D032R701KMP", "E0ACME"]
)
def test_what_slack_gives_is_an_id(id_: str) -> None:
    assert is_id(id_)
    assert is_team("local")
    assert not is_id("local")


@pytest.mark.parametrize("bad", ["", *BAD])
def test_anything_else_is_none(bad: str) -> None:
    assert not is_id(bad)
    assert not is_team(bad)


@pytest.mark.parametrize("bad", BAD)
def test_an_import_counts_unusable_ids_and_reads_the_rest(archive: Archive, bad: str) -> None:
    builder = small_team().user(bad, "mallory").channel(bad, "trap").channel("G9", "odd", list_="groups")
    builder.say("general", "1700000300.000100", "hello", user=bad).user("U7", "lin", team_id=bad)
    report = take_in(archive, builder)
    assert report.skipped == {"unusable id": 2}
    assert (report.added, report.users) == (8, 5)
    assert [message.user for message in archive.messages() if message.text == "hello"] == [None]
    assert {user.id for user in archive.users()} == {"U1", "U2", "U3", "U7", "U9"}
    assert {user.team for user in archive.users()} == {"T1"}
    assert bad not in {channel.id for channel in archive.channels()}


def test_a_workspace_with_an_unusable_id_is_read_as_one_without(archive: Archive) -> None:
    take_in(archive, ExportBuilder("../..").user("U1", "ada").channel("C1", "general").say("general", "1.1", "x"))
    assert {user.team for user in archive.users()} == {"local"}


def test_a_sync_and_events_leave_unusable_ids_out(archive: Archive) -> None:
    workspace = Workspace()
    workspace.user("ada", id="U1")
    workspace.user("mallory", id="../../victim")
    workspace.channel("general", "U1", id="C1")
    workspace.post("general", "../../victim", "hello")
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
    assert {user.id for user in archive.users()} == {"U1", workspace.bot_user}
    assert archive.counts().users == 2
    bad: list[dict[str, Any]] = [
        {"type": "team_join", "user": {"id": "../x"}},
        {"type": "member_joined_channel", "channel": "C1", "user": "../x"},
        {"type": "member_joined_channel", "channel": "../x", "user": "U1"},
        {"type": "channel_archive", "channel": "../x"},
        {"type": "message", "channel": "../x", "channel_type": "channel", "ts": "1.1", "text": "hi"},
    ]
    assert [changes_of(event, "U0") for event in bad] == [[]] * len(bad)
    asked = {"type": "app_mention", "channel": "C1", "ts": "1.1", "text": "why?"}
    assert question_of(asked | {"user": "../x"}, "U0") is None
    assert question_of(asked | {"user": "U1", "channel": "../x"}, "U0") is None


def test_forgetting_somebody_with_a_path_for_an_id_deletes_nothing(tmp_path: Path, victim: Path) -> None:
    path = small_team().user(str(victim), "mallory", "Mallory").zip(tmp_path / "export.zip")
    data = tmp_path / "data"
    assert doppel(data, "import", str(path)).data["skipped"] == {"unusable id": 1}
    for name in (str(victim), "mallory"):
        done = doppel(data, "forget", name)
        assert (done.status, "Nobody is called" in done.data["error"]) == (1, True)
    assert is_whole(victim)


def test_ids_that_an_older_archive_holds_do_no_harm(tmp_path: Path, victim: Path) -> None:
    data = tmp_path / "data"
    assert doppel(data, "import", str(small_team().zip(tmp_path / "export.zip"))).status == 0
    with open_archive(archive_at(data)) as archive, database.writing(archive._engine, archive.backend) as connection:
        other = {
            "handle": "mallory",
            "real_name": "",
            "display_name": "",
            "is_bot": False,
            "deleted": False,
            "as_of": 1,
        }
        for team, id_ in (("T1", str(victim)), ("..", "U1"), (str(victim.parent), victim.name)):
            connection.execute(insert(tables.users).values(team=team, id=id_, **other))
            said = {"team": team, "user_id": id_, "action": "revoke", "at": "2026-01-01T00:00:00+00:00", "by": "x"}
            connection.execute(insert(tables.consent).values(**said))
    for words in (("forget", "mallory"), ("forget", str(victim)), ("consent", "revoke", "mallory")):
        assert doppel(data, *words).status == 1
    for command in ("adapters list", "personas", "consent list"):
        assert doppel(data, *command.split()).status == 0
    assert is_whole(victim)


@pytest.mark.parametrize("bad", ["", ".", "..", "/etc", "a/b", "../x", "a\\b", "a\0"])
def test_a_name_that_leads_elsewhere_makes_no_path(tmp_path: Path, bad: str) -> None:
    assert within(tmp_path, "a", "b") == tmp_path / "a" / "b"
    for names in ((bad,), ("a", bad), (bad, "a")):
        with pytest.raises(ArtifactError, match="leads out of"):
            within(tmp_path, *names)


def test_adapters_and_jobs_stay_in_their_folders(tmp_path: Path, victim: Path) -> None:
    store = AdapterStore(tmp_path / "adapters")
    for team, user in (("T1", str(victim)), ("T1", "../../victim"), (str(tmp_path), "victim"), ("..", "victim")):
        with pytest.raises(ArtifactError, match="leads out of"):
            store.retire(User(team, user, "mallory"))
    with pytest.raises(ArtifactError):
        JobFiles.of(load_settings(environment(tmp_path)), "../../victim/papers/letter.txt")
    assert is_whole(victim)


def test_links_out_of_the_adapters_are_not_followed(tmp_path: Path, victim: Path) -> None:
    store, ada = AdapterStore(tmp_path / "adapters"), User("T1", "U1", "ada")
    (store.root / "T1").mkdir(parents=True)
    (store.root / "T1" / "U1").symlink_to(victim)
    with pytest.raises(ArtifactError, match="leads out of"):
        store.retire(ada)
    (store.root / "T1" / "U1").unlink()
    folder = store.folder(ada).root
    folder.mkdir()
    (folder / "work").symlink_to(victim)
    store.retire(ada)
    assert not (folder / "work").is_symlink()
    assert is_whole(victim)


def test_what_stands_in_a_version_leads_nowhere_else(tmp_path: Path) -> None:
    folder = VersionedFolder(tmp_path / "index", "index", "build it again")
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / "data").write_text("x")
        version = writer.publish(draft, {})
    (tmp_path / "secret").write_text("x")
    for name in ("../../secret", "../secret", str(tmp_path / "secret"), "/etc/passwd"):
        (folder.root / "CURRENT").write_text(name)
        with pytest.raises(ArtifactError, match="missing"):
            folder.current()
    manifest = json.loads((version.path / "manifest.json").read_text())
    for name in ("../../../secret", str(tmp_path / "secret")):
        changed = manifest | {"files": {name: manifest["files"]["data"]}}
        (version.path / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(ArtifactError, match="damaged"):
            folder.load(version.name)
    (version.path / "manifest.json").write_text(json.dumps(manifest))
    (version.path / "data").unlink()
    (version.path / "data").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="damaged"):
        folder.load(version.name)
