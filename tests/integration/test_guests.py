"""Who is not known to be a full member sees only the channels they are in, whichever way they became known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import select

from doppel.access import Readership
from doppel.archive import Archive, database, tables
from doppel.archive.channels import UNSEEN
from doppel.bot.writing import Audiences
from doppel.ingest import EventStore, open_archive
from doppel.records import Channel, ChannelKind, User
from doppel.slack.events import PersonChanged
from doppel.slack.export import open_export
from doppel.slack.members import user_of
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import TEAM, FakeSlack, Workspace
from tests.integration.test_migrations import config, put_rows
from tests.syncing import sync
from tests.taking_in import take_in

OTHER = "T0CLIENT01"
STRANGER = "U0STRANGER"


@pytest.mark.parametrize(
    ("raw", "is_guest"),
    [
        ({"team_id": "T1"}, False),
        ({"profile": {"team": "T1"}}, False),
        ({"team_id": "T1", "is_admin": True, "is_restricted": False}, False),
        ({"team_id": "E0ORG", "enterprise_user": {"teams": ["T7", "T1"]}}, False),
        ({"team_id": "T7", "enterprise_user": {"teams": ["T7", "T1"]}}, False),
        ({}, True),
        ({"team_id": ""}, True),
        ({"team_id": 5}, True),
        ({"team_id": "T2"}, True),
        ({"team_id": "E0ORG"}, True),
        ({"team_id": "T2", "profile": {"team": "T1"}}, True),
        ({"team_id": "T1", "enterprise_user": {"teams": ["T7"]}}, True),
        ({"team_id": "T1", "enterprise_user": {"teams": "T1"}}, True),
        ({"team_id": "T1", "is_restricted": True}, True),
        ({"team_id": "T1", "is_ultra_restricted": True}, True),
        ({"team_id": "T1", "is_stranger": True}, True),
        ({"team_id": "T1", "is_invited_user": True}, True),
        ({"team_id": "T1", "profile": {"is_restricted": True}}, True),
        ({"team_id": "E0ORG", "is_stranger": True, "enterprise_user": {"teams": ["T1"]}}, True),
    ],
)
def test_a_full_member_is_who_slack_says_is_one(raw: dict[str, Any], is_guest: bool) -> None:
    assert user_of({"id": "U1", **raw}, "T1").is_guest is is_guest
    assert user_of({"id": "U1", **raw, "team_id": ""}, "local").is_guest


def guests(archive: Archive) -> set[str]:
    return {user.id for user in archive.users() if user.is_guest}


def readable(archive: Archive, user: str, team: str = TEAM) -> set[str]:
    place = Readership.of_person(team, user, archive.users(team))
    return {id_ for _, id_ in place.readable(archive.channels())}


@pytest.fixture
def shared() -> Workspace:
    """A workspace with a public channel, and another that is shared with somebody whom no list names."""
    made = Workspace()
    made.user("ada", "Ada Lovelace", id="U1")
    made.channel("plans", "U1", id="C1")
    made.channel("with-client", "U1", STRANGER, id="C2")
    made.post("plans", "U1", "The price is 40 million.")
    profile = {"display_name": "Sam", "team": OTHER}
    made.post("with-client", STRANGER, "Hello!", user_team=OTHER, source_team=OTHER, user_profile=profile)
    return made


def test_whom_a_sync_knows_by_a_message_alone_is_a_guest(archive: Archive, shared: Workspace) -> None:
    with FakeSlack(shared) as slack:
        sync(slack, archive)
        assert guests(archive) == {STRANGER}
        assert readable(archive, STRANGER) == {"C2"}
        shared.user("sam", id=STRANGER)
        sync(slack, archive)
        assert guests(archive) == set()
        assert readable(archive, STRANGER) == {"C1", "C2"}


def test_where_strangers_read_along_only_what_they_see_is_used(archive: Archive, shared: Workspace) -> None:
    with FakeSlack(shared) as slack:
        sync(slack, archive)
        snapshot, channels = archive.snapshot(TEAM), archive.channels()
        for where, asker, seen in (("C2", STRANGER, {"C2"}), ("C2", "U1", {"C2"}), ("C1", "U1", {"C1", "C2"})):
            place = Audiences.of(snapshot, TEAM, where, asker, direct=False).everybody
            assert {id_ for _, id_ in place.readable(channels)} == seen
        # Somebody asks who is in the channel since the last sync.
        place = Audiences.of(snapshot, TEAM, "C1", "U0NEW", direct=False).everybody
        assert {id_ for _, id_ in place.readable(channels)} == {"C1"}


def test_who_asks_in_a_private_channel_reads_there_too() -> None:
    people = [User("T1", "U1", "ada"), User("T1", "U2", "grace")]
    here = Channel("T1", "G1", "secret", ChannelKind.PRIVATE, ("U1",))
    other = Channel("T1", "G2", "deals", ChannelKind.PRIVATE, ("U1",))
    place = Readership.of_channel(here, "T1", people, "U2")
    assert place.readable([here, other]) == {("T1", "G1")}
    assert Readership.of_channel(here, "T1", people, "U1").readable([here, other]) == {("T1", "G1"), ("T1", "G2")}


def test_whom_slack_lists_no_more_is_a_guest_until_it_does(archive: Archive, shared: Workspace) -> None:
    shared.user("lin", id="U3")
    with FakeSlack(shared) as slack:
        sync(slack, archive)
        gone = shared.users.pop("U3")
        sync(slack, archive)
        assert guests(archive) == {STRANGER, "U3"}
        shared.users["U3"] = gone
        sync(slack, archive)
        assert guests(archive) == {STRANGER}


@pytest.mark.parametrize(
    ("raw", "is_guest"),
    [
        ({"team_id": TEAM}, False),
        ({"team_id": OTHER}, True),
        ({}, True),
        ({"team_id": "E0ORG", "enterprise_user": {"teams": [TEAM]}}, False),
        ({"team_id": TEAM, "is_stranger": True}, True),
    ],
)
def test_an_event_makes_nobody_a_full_member_who_is_none(
    archive: Archive, shared: Workspace, raw: dict[str, Any], is_guest: bool
) -> None:
    with FakeSlack(shared) as slack:
        sync(slack, archive)
    EventStore(archive, TEAM).take([(PersonChanged({"id": STRANGER, "name": "sam", **raw}), 2 * 10**15)])
    assert (STRANGER in guests(archive)) is is_guest


def test_an_import_lists_members_and_everybody_else_is_a_guest(archive: Archive) -> None:
    builder = ExportBuilder().user("U1", "ada").channel("C1", "general", "U1").say("general", "1700000000.1", "hi")
    builder.say("general", "1700000001.1", "hello", user="U0X", user_team="T2").say(
        "general", "1700000002.1", "x", "U0Y"
    )
    take_in(archive, builder)
    assert guests(archive) == {"U0X", "U0Y"}
    take_in(archive, builder.user("U0Y", "yun").user("U0Z", "zoe", team_id=""))
    assert guests(archive) == {"U0X", "U0Z"}


def test_without_users_json_people_are_found_and_nobody_is_a_full_member(archive: Archive) -> None:
    profile = {"real_name": "Ada Lovelace", "name": "ada"}
    builder = ExportBuilder().without("users").channel("C1", "general", "U1").channel("C2", "other")
    take_in(archive, builder.say("general", "1700000000.1", "hi", team="T1", user_profile=profile))
    ada = archive.find_user("Ada Lovelace")
    assert (ada.id, ada.is_guest) == ("U1", True)
    assert readable(archive, "U1", "T1") == {"C1"}


def test_whom_an_older_archive_knows_by_messages_alone_is_a_guest(bare: Path | str) -> None:
    place, migrations = database.backend_of(bare), config()
    engine = place.engine()
    with place.writing(engine) as connection:
        migrations.attributes["connection"] = connection
        command.upgrade(migrations, "0007")
        put_rows(connection)
        t = tables.users
        row = dict(connection.execute(select(t)).one()._mapping)
        connection.execute(t.insert().values(**row | {"id": STRANGER, "as_of": UNSEEN}))
    engine.dispose()
    with open_archive(bare) as archive:
        assert guests(archive) == {STRANGER}


NATIVES = ({"id": "U1", "name": "ada"}, {"id": "U2", "name": "erik"})


def crowded(**hints: Any) -> ExportBuilder:
    """An export of T1 in which people of T2 are in the majority; `hints` go into what T1's people are or say."""
    builder = ExportBuilder("T1").channel("C1", "general", *hints.get("members", ()))
    for number, native in enumerate(NATIVES):
        builder.user(native["id"], native["name"], **(hints.get("users", {}) if not number else {}))
        builder.say("general", f"170000000{number}.1", "hi", native["id"], **hints.get("said", {}))
    for number in range(5):
        builder.user(f"U0X{number}", f"x{number}", team_id="T2", **hints.get("strangers", {}))
    return builder


@pytest.mark.parametrize(
    "hints",
    [
        {"strangers": {"is_stranger": True}},
        {"users": {"is_primary_owner": True}},
        {"users": {"is_admin": True}},
        {"members": ("U1", "U2")},
        {"said": {"team": "T1"}},
        {"said": {"team": "T2", "user_team": "T1"}},
    ],
)
def test_the_workspace_is_not_that_of_many_guests(archive: Archive, hints: dict[str, Any]) -> None:
    take_in(archive, crowded(**hints))
    assert {message.team for message in archive.messages()} == {"T1"}
    assert guests(archive) == {f"U0X{number}" for number in range(5)}


def test_the_workspace_is_one_that_the_archive_knows_by_its_channels(archive: Archive) -> None:
    early = ExportBuilder("T1").user("U1", "ada").channel("C1", "general").say("general", "1700000000.1", "hi")
    take_in(archive, early)
    take_in(archive, crowded())
    assert {message.team for message in archive.messages()} == {"T1"}
    assert {user.team for user in archive.users()} == {"T1"}


def test_a_channel_that_two_workspaces_share_does_not_make_them_one(archive: Archive) -> None:
    take_in(archive, ExportBuilder("T1").user("U1", "ada").channel("C1", "shared").say("shared", "1700000000.1", "hi"))
    theirs = ExportBuilder("T2").user("U2", "bo").user("U1", "ada", team_id="T1").user("U3", "cy", team_id="T1")
    theirs.channel("C1", "shared", "U1", "U2", "U3").channel("C2", "own", "U2").channel("C3", "more", "U2")
    take_in(archive, theirs.say("own", "1700000000.1", "ours", "U2"))
    assert [(m.team, m.channel) for m in archive.messages()] == [("T1", "C1"), ("T2", "C2")]


def test_users_read_as_their_workspace_sees_them(tmp_path: Path) -> None:
    with open_export(crowded(strangers={"is_stranger": True}).zip(tmp_path / "export.zip")) as export:
        assert export.teams == ("T1",)
        assert [user.is_guest for user in export.users()] == [False, False, *[True] * 5]
