"""Two channels of one name: what nobody can tell whose it is, only the operator reads."""

from __future__ import annotations

import unicodedata
from itertools import combinations_with_replacement

import pytest
from sqlalchemy import update

from doppel.access import ReadPolicy
from doppel.archive import Archive, database, tables
from doppel.records import Channel, ChannelKind
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import FakeSlack, Workspace
from tests.syncing import sync
from tests.taking_in import take_in

COMPOSED = unicodedata.normalize("NFC", "développement")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
LISTS = ("channels", "groups", "mpims", "dms")


def said(archive: Archive) -> set[tuple[str, str]]:
    """The channel and the kind of every message."""
    kinds = {channel.id: channel.kind for channel in archive.channels()}
    return {(message.channel, kinds[message.channel].value) for message in archive.messages()}


def listed(*channels: tuple[str, str, str]) -> ExportBuilder:
    """An export that has channels of an id and a name in some of its lists, and a folder called deals."""
    builder = ExportBuilder().user("U1", "ada").user("U2", "grace")
    for id_, name, list_ in channels:
        builder.channel(id_, name, "U1", "U2", list_=list_)
    return builder.say("deals", "1700000000.1", "The price is 40 million.")


@pytest.mark.parametrize("pair", list(combinations_with_replacement(LISTS, 2)))
def test_a_folder_that_two_channels_are_called_like_is_read_by_nobody(archive: Archive, pair: tuple[str, str]) -> None:
    for _ in range(2):
        take_in(archive, listed(("C1", "deals", pair[0]), ("G1", "deals", pair[1])))
        assert said(archive) == {("name:?deals", "unknown")}


@pytest.mark.parametrize("folder", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_an_accent_is_one_however_it_is_written(archive: Archive, name: str, folder: str) -> None:
    export = ExportBuilder().user("U1", "ada").channel("C1", name, "U1").say(folder, "1700000000.1", "Bonjour.")
    take_in(archive, export)
    assert said(archive) == {("C1", "public")}
    assert [channel.name for channel in archive.channels()] == [COMPOSED]


@pytest.mark.parametrize("folder", [COMPOSED, DECOMPOSED])
def test_two_channels_whose_names_look_the_same_are_of_one_name(archive: Archive, folder: str) -> None:
    export = ExportBuilder().user("U1", "ada").channel("C1", COMPOSED, "U1")
    take_in(archive, export.channel("G1", DECOMPOSED, "U1", list_="groups").say(folder, "1700000000.1", "Bonjour."))
    assert {kind for _, kind in said(archive)} == {"unknown"}


def test_a_folder_called_like_an_id_and_like_another_channel_is_read_by_nobody(archive: Archive) -> None:
    builder = ExportBuilder().user("U1", "ada").channel("C0DEALS", "general", "U1").channel("G1", "C0DEALS", "U1")
    take_in(archive, builder.say("C0DEALS", "1700000000.1", "hi"))
    assert {kind for _, kind in said(archive)} == {"unknown"}


def test_one_channel_that_two_lists_name_is_of_the_narrower_kind(archive: Archive) -> None:
    builder = ExportBuilder().user("U1", "ada").channel("C1", "deals", "U1", "U2", list_="groups")
    take_in(archive, builder.channel("C1", "deals", "U1", "U3").say("deals", "1700000000.1", "hi"))
    assert said(archive) == {("C1", "private")}
    assert [channel.members for channel in archive.channels()] == [("U1",)]


def test_what_came_without_a_list_goes_to_no_channel_of_two(archive: Archive) -> None:
    take_in(archive, listed())
    assert said(archive) == {("name:deals", "unknown")}
    take_in(archive, listed(("C1", "deals", "channels"), ("G1", "deals", "groups")).put("deals/1.json", "[]"))
    assert {kind for _, kind in said(archive)} == {"unknown"}
    take_in(archive, listed(("C1", "deals", "channels"), ("G1", "deals2", "groups")))
    assert ("name:?deals", "unknown") in said(archive)


def test_a_sync_gives_it_to_no_channel_of_two_either(archive: Archive) -> None:
    workspace = Workspace("T1")
    workspace.channel("deals", id="C1")
    take_in(archive, listed(("C1", "deals", "channels"), ("G1", "deals", "groups")))
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
    assert said(archive) == {("name:?deals", "unknown")}


def test_a_placeholder_stays_one_where_the_archive_knows_two(archive: Archive) -> None:
    workspace = Workspace("T1")
    workspace.channel("deals", id="C1")
    empty = ExportBuilder().user("U1", "ada").channel("G1", "deals", list_="groups").say("x", "1700000000.1", "y")
    take_in(archive, listed())
    with database.writing(archive._engine, archive.backend) as connection:
        t = tables.channels
        values = {"team": "T1", "id": "G1", "name": "deals", "kind": "private", "members": [], "archived": True}
        connection.execute(t.insert().values(**values, as_of=1))
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
    assert said(archive) == {("name:deals", "unknown")}
    take_in(archive, empty)
    assert ("name:deals", "unknown") in said(archive)


def test_an_import_takes_back_what_an_older_doppel_gave_to_one_of_two(archive: Archive) -> None:
    take_in(archive, listed(("C1", "deals", "channels")))
    assert said(archive) == {("C1", "public")}
    take_in(archive, listed(("C1", "deals", "channels"), ("G1", "deals", "groups")))
    assert said(archive) == {("name:?deals", "unknown")}


def test_what_slacks_api_said_stays_where_it_was_said(archive: Archive) -> None:
    workspace = Workspace("T1")
    workspace.channel("deals", id="C1")
    workspace.post("deals", "U1", "The price is 40 million.", ts="1700000000.100000")
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
        with database.writing(archive._engine, archive.backend) as connection:
            connection.execute(update(tables.messages).values(ts="1700000000.1"))
    take_in(archive, listed(("C1", "deals", "channels"), ("G1", "deals", "groups")))
    assert said(archive) == {("C1", "public"), ("name:?deals", "unknown")}


def channel(id_: str, name: str, kind: ChannelKind, team: str = "T1") -> Channel:
    return Channel(team, id_, name, kind)


PUBLIC, PRIVATE, IM = ChannelKind.PUBLIC, ChannelKind.PRIVATE, ChannelKind.IM


@pytest.mark.parametrize(
    ("setting", "there", "readable"),
    [
        ("deals", [channel("G1", "deals", PRIVATE)], {"G1"}),
        ("deals", [channel("G1", "deals", PRIVATE), channel("G2", "deals", PRIVATE)], set()),
        ("deals", [channel("C1", "deals", PUBLIC), channel("G2", "deals", PRIVATE)], set()),
        ("public, deals", [channel("C1", "deals", PUBLIC), channel("G2", "deals", PRIVATE)], {"C1"}),
        ("deals", [channel("G1", "deals", PRIVATE), channel("G2", "deals", PRIVATE, "T2")], set()),
        ("general", [channel("C1", "general", PUBLIC), channel("C2", "general", PUBLIC, "T2")], {"C1", "C2"}),
        ("G1", [channel("G1", "deals", PRIVATE), channel("G2", "G1", PRIVATE)], {"G1"}),
        ("G1", [channel("G2", "G1", PRIVATE), channel("G1", "deals", PRIVATE)], {"G1"}),
        ("G1", [channel("G1", "deals", PRIVATE), channel("G1", "deals", PRIVATE, "T2")], {"G1"}),
        ("deals", [channel("D1", "deals", IM)], set()),
        ("deals", [channel("G1", "deals", PRIVATE), channel("D1", "deals", IM)], {"G1"}),
        ("D1", [channel("D1", "deals", IM)], {"D1"}),
    ],
)
def test_a_name_in_a_setting_means_one_channel(setting: str, there: list[Channel], readable: set[str]) -> None:
    assert {id_ for _, id_ in ReadPolicy.parse(setting).readable(there)} == readable
