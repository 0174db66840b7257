"""Reading exports in all their untidiness."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.errors import BadInputError
from doppel.records import Channel, ChannelKind
from doppel.slack import export_files
from doppel.slack.export import Export, open_export
from doppel.slack.members import channel_of, narrower
from tests.fakes.export_builder import ExportBuilder, small_team


def read(export: Export) -> list[tuple[str, str]]:
    return [(channel.id, raw["text"]) for channel, raw in export.messages()]


def skipped(export: Export) -> dict[str, int]:
    list(export.messages())
    return dict(+export.skipped)


@pytest.mark.parametrize("wrapped_in", ["", "Acme Slack export/", "a/b/"])
def test_a_zip_and_its_unpacked_folder_read_the_same(tmp_path: Path, wrapped_in: str) -> None:
    path = small_team().zip(tmp_path / "export.zip", wrapped_in)
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "folder")
    with open_export(path) as zipped, open_export(tmp_path / "folder") as folder:
        assert read(zipped) == read(folder)
        assert len(read(zipped)) == 7
        assert [*zipped.users()] == [*folder.users()]
        assert (zipped.channels, zipped.as_of) == (folder.channels, folder.as_of)


def test_people_and_channels_are_records(tmp_path: Path) -> None:
    builder = small_team().channel("D1", "", "U1", "U2", list_="dms").channel("G2", "mpdm-1", "U1", list_="mpims")
    builder.say("D1", "1700000000.1", "psst").say("mpdm-1", "1700000000.2", "hello all")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        kinds = {channel.id: channel.kind for channel in export.channels}
        assert kinds == {
            "C1": ChannelKind.PUBLIC,
            "G1": ChannelKind.PRIVATE,
            "D1": ChannelKind.IM,
            "G2": ChannelKind.MPIM,
        }
        assert [user.name for user in export.users()] == ["Ada", "Grace Hopper", "Alan Turing", "Deploy Bot"]
        assert ("D1", "psst") in read(export)
        assert ("G2", "hello all") in read(export)


def test_private_channels_among_the_public_ones_stay_private(tmp_path: Path) -> None:
    builder = ExportBuilder().channel("C1", "plans", is_private=True).channel("C2", "pair", is_im=True)
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert [channel.kind for channel in export.channels] == [ChannelKind.PRIVATE, ChannelKind.IM]


PUBLIC, PRIVATE, MPIM, IM = ChannelKind.PUBLIC, ChannelKind.PRIVATE, ChannelKind.MPIM, ChannelKind.IM
FLAGS = ("is_channel", "is_group", "is_private", "is_mpim", "is_im")


@pytest.mark.parametrize(
    ("id_", "name", "flags", "kind"),
    [
        ("C1", "plans", {}, PUBLIC),
        ("G1", "plans", {}, PRIVATE),
        ("G1", "plans", {"is_channel": True}, PRIVATE),
        ("G1", "plans", {"is_channel": True, "is_private": False}, PUBLIC),
        ("G1", "plans", {"is_group": True, "is_private": False}, PRIVATE),
        ("C1", "mpdm-ada--grace-1", {}, MPIM),
        ("C1", "mpdm-ada--grace-1", {"is_private": True}, MPIM),
        ("C1", "mpdm-ada--grace-1", {"is_private": False}, PUBLIC),
        ("C1", "mpdm-ada--grace-1", {"is_private": True, "is_mpim": False}, PRIVATE),
        ("G1", "mpdm-ada--grace-1", {"is_mpim": False}, PRIVATE),
        ("D1", "plans", {"is_private": False, "is_im": False}, IM),
    ],
)
def test_what_no_flag_says_of_a_channel_its_id_and_name_do(
    id_: str, name: str, flags: dict[str, bool], kind: ChannelKind
) -> None:
    assert channel_of({"id": id_, "name": name, **flags}, "T1", PUBLIC).kind is kind


@given(
    st.sampled_from(["C1", "G1", "D1"]),
    st.sampled_from(["plans", "mpdm-ada--grace-1"]),
    st.dictionaries(st.sampled_from(FLAGS), st.sampled_from([True, False, None, "true", 1])),
    st.sampled_from(list(ChannelKind)),
)
def test_no_list_makes_a_channel_wider_than_it_says(
    id_: str, name: str, flags: dict[str, Any], listed: ChannelKind
) -> None:
    kinds = list(ChannelKind)
    kind = channel_of({"id": id_, "name": name, **flags}, "T1", listed).kind
    said = {"is_im": IM, "is_mpim": MPIM, "is_private": PRIVATE, "is_group": PRIVATE}
    for least in (listed, *(of_flag for flag, of_flag in said.items() if flags.get(flag))):
        assert kinds.index(kind) >= kinds.index(least)
    if kind is PUBLIC and (id_ != "C1" or name != "plans"):
        assert False in flags.values()


MEMBERS = st.lists(st.sampled_from([f"U{number}" for number in range(9)]), unique=True)


@given(MEMBERS, MEMBERS)
def test_of_a_channel_that_is_listed_twice_those_are_members_whom_both_lists_name(
    ones: list[str], others: list[str]
) -> None:
    one, other = (Channel("T1", "C1", "plans", PUBLIC, tuple(members)) for members in (ones, others))
    assert narrower(one, other).members == tuple(member for member in ones if member in others)


def test_members_are_compared_without_asking_each_of_each() -> None:
    class Person(str):
        asked = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Person.asked += 1
            return str.__eq__(self, other)

    one, other = (Channel("T1", "C1", "plans", PUBLIC, tuple(Person(f"U{n}") for n in range(2000))) for _ in range(2))
    assert len(narrower(one, other).members) == 2000
    assert Person.asked < 10 * 2000


def test_a_folder_that_no_list_names_is_unknown(tmp_path: Path) -> None:
    builder = small_team().say("core-outreach", "1700000000.1", "hi").say("C0ABCDEFGH", "1700000000.1", "ho")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        unknown = {(c.id, c.name) for c in export.channels if c.kind is ChannelKind.UNKNOWN}
        assert unknown == {("name:core-outreach", "core-outreach"), ("C0ABCDEFGH", "C0ABCDEFGH")}


def test_junk_is_passed_over_and_the_rest_counted(tmp_path: Path) -> None:
    canvases = [{"id": "F1", "permalink": "https://acme.slack.com/docs/T1/F1"}, {"id": "F2"}]
    builder = (
        small_team()
        .put("__MACOSX/general/._2024-01-01.json", b"\0\1")
        .put(".DS_Store", b"\0")
        .put("general/.DS_Store", b"\0")
        .put("integration_logs.json", "[]")
        .put("general/canvas_in_the_conversation.json", json.dumps(canvases))
        .put("general/notes.txt", "hello")
        .put("readme.html", "hello")
        .put("general/attachments/a.png", b"\0")
    )
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert len(read(export)) == 7
        assert dict(+export.skipped) == {"canvas": 2, "other file": 3}
        assert export.url == "https://acme.slack.com"


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        ({"files": [{"permalink": "https://acme.slack.com/files/U1/F1/x"}]}, "https://acme.slack.com"),
        ({"files": [{"permalink": "https://acme.enterprise.slack.com/files/1"}]}, "https://acme.enterprise.slack.com"),
        ({"files": [{"permalink": "https://files.slack.com/x"}, {"permalink": "https://app.slack.com/x"}]}, ""),
        ({"files": [{"permalink": "https://evil.org/acme.slack.com/"}]}, ""),
        ({"text": "look at https://other.slack.com/archives/C1/p1"}, ""),
        ({"attachments": [{"from_url": "https://other.slack.com/archives/C1/p1"}]}, ""),
        (
            {"attachments": [{"is_msg_unfurl": True, "channel_team": "T1", "from_url": "https://acme.slack.com/a"}]},
            "https://acme.slack.com",
        ),
        (
            {"attachments": [{"is_msg_unfurl": True, "channel_team": "T2", "from_url": "https://other.slack.com/a"}]},
            "",
        ),
    ],
)
def test_the_address_is_what_slack_wrote_itself(tmp_path: Path, raw: dict[str, Any], url: str) -> None:
    builder = small_team().say("general", "1700000001.1", raw.pop("text", ""), **raw)
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        read(export)
        assert export.url == url


def test_the_team_is_that_of_most_members(tmp_path: Path) -> None:
    builder = small_team().user("U7", "guest", team_id="T2")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert export.team == "T1"
        assert {user.team for user in export.users()} == {"T1"}


def test_without_members_the_team_is_that_of_most_messages(tmp_path: Path) -> None:
    builder = small_team().without("users").say("general", "1700000001.1", "x", team="T5").say("general", "1.1", "y")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert (export.team, export.team_is_known) == ("T5", True)


def test_without_any_team_there_is_a_stable_stand_in(tmp_path: Path) -> None:
    with open_export(small_team().without("users").zip(tmp_path / "export.zip")) as export:
        assert (export.team, export.team_is_known) == ("local", False)


def test_as_of_is_the_newest_message_even_behind_a_broken_day(tmp_path: Path) -> None:
    builder = small_team().put("general/2099-01-01.json", "[").put("general/2098-01-01.json", '[{"ts": "soon"}]')
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert export.as_of == "1700090000.000100"


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with open_export(small_team().zip(tmp_path / "export.zip")) as export:
        list(export.messages(lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_names_that_other_tools_wrote_are_understood(tmp_path: Path) -> None:
    """Windows' separators, and UTF-8 without the flag that says so, decomposed as macOS does it."""
    decomposed = "gro\u0308ße".encode()
    builder = ExportBuilder().channel("C1", "größe").say("x" * len(decomposed), "1700000000.1", "hi")
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in builder.contents().items():
            file.writestr(name.replace("/", "\\"), data)
    path.write_bytes(path.read_bytes().replace(b"x" * len(decomposed), decomposed))
    with open_export(path) as export:
        assert read(export) == [("C1", "hi")]


def test_several_exports_in_one_folder_are_refused(tmp_path: Path) -> None:
    small_team().folder(tmp_path / "exports" / "may")
    small_team().folder(tmp_path / "exports" / "june")
    with pytest.raises(BadInputError, match="several exports \\(june, may\\); import them one by one"):
        open_export(tmp_path / "exports")


@pytest.mark.parametrize(
    "name",
    [
        "general\\2024-01-02.json",
        "export\\general\\2024-01-02.json",
        *(f"general{mark}2024-01-02.json" for mark in ("\uff0f", "\u2571", "\uf05c", ":", "%2F", "%5c", " | ")),
    ],
)
def test_a_folder_whose_names_hold_whole_paths_reads_as_its_zip(tmp_path: Path, name: str) -> None:
    prefix = "export\\" if name.startswith("export") else ""
    (tmp_path / f"{prefix}channels.json").write_text('[{"id": "C1", "name": "general"}]')
    (tmp_path / name).write_text('[{"ts": "1700000000.1", "text": "hi"}]')
    with open_export(tmp_path) as export:
        assert read(export) == [("C1", "hi")]


def test_a_name_that_leads_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    small_team().folder(tmp_path / "export")
    (tmp_path / "export" / "..\\..\\2024-01-02.json").write_text("[]")
    with pytest.raises(BadInputError, match="leads outside"):
        open_export(tmp_path / "export")


@pytest.mark.parametrize(
    "name",
    [
        "2024_01_02.json",
        "20240102.json",
        "2024-01-02 (1).JSON",
        "2024-1-2.json",
        "2024\u201301\u201302.json",
        "02.01.2024.json",
        "2024-01.json",
        "2024.json",
        "general-2024-01-02.json",
        "general.json",
        "messages.json",
    ],
)
def test_days_that_other_tools_name(tmp_path: Path, name: str) -> None:
    builder = ExportBuilder().channel("C1", "general").put(f"general/{name}", '[{"ts": "1700000000.1", "text": "hi"}]')
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert (read(export), export.as_of) == ([("C1", "hi")], "1700000000.1")


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_file_for_each_channel(tmp_path: Path, wrapped: bool) -> None:
    said = [{"ts": "1700000000.1", "text": "hi"}]
    builder = ExportBuilder().channel("C1", "general")
    builder.put("general.json", json.dumps({"messages": said} if wrapped else said)).put("other.json", json.dumps(said))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert sorted(read(export)) == [("C1", "hi"), ("name:other", "hi")]
        assert [c.id for c in export.channels if c.kind is ChannelKind.UNKNOWN] == ["name:other"]


HI: dict[str, Any] = {"type": "message", "ts": "1700000000.1", "text": "hi"}
HO: dict[str, Any] = {"type": "message", "ts": "1700000001.1", "text": "ho"}
LINES = f"{json.dumps(HI)}\n{json.dumps(HO)}\n"
_OF = {"ts": 1700000002123456789, "id": "C0GENERAL1"}
CHUNKS: list[dict[str, Any]] = [
    {"t": 5, **_OF, "ci": {"id": "C0GENERAL1", "name": "general"}},
    {"t": 0, **_OF, "n": 1, "m": [HI]},
    {"t": 1, **_OF, "r": "1700000000.1", "p": HI, "m": [HO]},
]
IN_FILES: list[tuple[str, str]] = [
    ("general.json", json.dumps([HI, HO])),
    ("general.json", json.dumps({"ok": True, "messages": [HI, HO]}, indent=1)),
    ("general.jsonl", LINES),
    ("general/2024-01-02.json", LINES),
    ("general/2024-01-02.ndjson", LINES),
    ("C0GENERAL1.json", json.dumps({"name": "", "messages": [HI, HO], "channel_id": "C0GENERAL1"})),
    ("C0GENERAL1-1700000000.1.json", json.dumps({"messages": [HI, HO], "channel_id": "C0GENERAL1"})),
    ("dump.json", json.dumps({"name": "general", "messages": [{**HI, "slackdump_thread_replies": [HO]}]})),
    ("export.json", json.dumps({"channel_info": {"id": "C0GENERAL1"}, "messages": [HI, HO]})),
    ("C0GENERAL1.json", "\n".join(map(json.dumps, CHUNKS))),
]


@pytest.mark.parametrize(("name", "text"), IN_FILES)
@pytest.mark.parametrize("is_large", [False, True])
def test_a_channel_in_the_shape_in_which_other_tools_write_it(
    tmp_path: Path, name: str, text: str, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "_WHOLE_BYTES", 0 if is_large else 2**20)
    builder = ExportBuilder().channel("C0GENERAL1", "general").put(name, text)
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("C0GENERAL1", "hi"), ("C0GENERAL1", "ho")]
        assert (export.as_of, +export.skipped) == ("1700000001.1", {})


def test_files_of_channels_without_any_list_are_for_the_operator(tmp_path: Path) -> None:
    builder = ExportBuilder().without("users").without("channels").put("general.json", json.dumps([HI]))
    builder.put("C0GENERAL1.json", json.dumps({"messages": [HO]})).put("settings.json", '{"a": [1]}')
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert sorted(read(export)) == [("C0GENERAL1", "ho"), ("name:general", "hi")]
        assert {channel.kind for channel in export.channels} == {ChannelKind.UNKNOWN}


def test_a_file_may_write_its_channels_name_in_another_case(tmp_path: Path) -> None:
    said = {"name": "General", "messages": [HI, {**HO, "channel": "#GENERAL"}]}
    builder = ExportBuilder().channel("C0GENERAL1", "general").put("export.json", json.dumps(said))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("C0GENERAL1", "hi"), ("C0GENERAL1", "ho")]


def test_a_file_that_says_another_id_is_not_the_channels_that_is_called_so(tmp_path: Path) -> None:
    dump = {"name": "general", "channel_id": "C0PRIVATE1", "messages": [HI]}
    builder = ExportBuilder().channel("C0GENERAL1", "general").put("general.json", json.dumps(dump))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("C0PRIVATE1", "hi")]
        assert [channel.id for channel in export.channels if channel.kind is ChannelKind.UNKNOWN] == ["C0PRIVATE1"]


@pytest.mark.parametrize("is_array", [False, True])
def test_a_file_of_several_channels_is_none_of_theirs(tmp_path: Path, is_array: bool) -> None:
    said = [{**HI, "channel": "C0GENERAL1"}, {**HO, "channel": "C0PRIVATE1"}]
    text = json.dumps(said) if is_array else "\n".join(map(json.dumps, said))
    builder = ExportBuilder().channel("C0GENERAL1", "general").put("general.json", text)
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert (read(export), +export.skipped) == ([], {"file of several channels": 1})


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp1252", "cp932"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_names_in_the_code_pages_of_windows(tmp_path: Path, encoding: str, kind: str) -> None:
    name = "雑談" if encoding == "cp932" else "größe"
    data = f"{name}/2024-01-02.json".encode(encoding)
    builder = ExportBuilder().channel("C1", name).put("x" * len(data), json.dumps([HI]))
    path = getattr(builder, kind)(tmp_path / "export")
    if kind == "zip":
        path.write_bytes(path.read_bytes().replace(b"x" * len(data), data))
    else:
        file = path / os.fsdecode(data)
        file.parent.mkdir()
        (path / ("x" * len(data))).rename(file)
    with open_export(path) as export:
        assert read(export) == [("C1", "hi")]


@pytest.mark.parametrize(
    ("name", "seen"), [("übung", "\u207fbung"), ("ch\xe2teau", "ch\u0192teau"), ("caf\xe9", "caf\u201a")]
)
def test_what_no_channel_is_called_is_read_in_another_code_page(tmp_path: Path, name: str, seen: str) -> None:
    builder = ExportBuilder().channel("C1", name).say(seen, "1700000000.1", "hi")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("C1", "hi")]


def test_a_name_that_a_channel_can_have_is_that_channels_alone(tmp_path: Path) -> None:
    builder = ExportBuilder().channel("C1", "\u03b8").channel("C2", "plans").say("\xe9", "1700000000.1", "hi")
    with open_export(builder.say("PLANS", "1700000000.1", "ho").zip(tmp_path / "export.zip")) as export:
        assert sorted(read(export)) == [("C2", "ho"), ("name:\xe9", "hi")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    builder = ExportBuilder().channel("C1", "größe").say("größe", "1700000000.1", "hé")
    for name, data in builder.contents().items():
        builder.put(name, data.decode().encode(encoding))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("C1", "hé")]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"mine/slack.zip": "PK"}, "is packed once more (slack.zip), not a Slack export; unpack it"),
        ({"2024-01-02.json": "[]"}, "is the folder of one channel, not a Slack export; give the folder above it"),
        (
            {"channels.json": "[]", "teams/a/channels.json": "[]", "teams/b/channels.json": "[]"},
            "holds an organisation's workspaces (a, b); unpack it and import each folder of teams by itself",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_what_was_given_instead_of_an_export_is_said(
    tmp_path: Path, files: dict[str, str], sentence: str, kind: str
) -> None:
    builder = ExportBuilder().without("users").without("channels")
    for name, data in files.items():
        builder.put(name, data)
    with pytest.raises(BadInputError, match=re.escape(sentence)):
        open_export(getattr(builder, kind)(tmp_path / "export"))


@pytest.mark.parametrize("kind", ["zip", "folder"])
@pytest.mark.parametrize("differs", [False, True])
def test_a_list_that_is_there_twice_opens_nothing(tmp_path: Path, kind: str, differs: bool) -> None:
    builder = ExportBuilder().channel("C1", "plans", is_private=True).say("plans", "1700000000.1", "hi")
    builder.put("CHANNELS.JSON", builder.contents()["channels.json"].replace(b"true", b"false" if differs else b"true"))
    path = getattr(builder, kind)(tmp_path / "export")
    if differs:
        with pytest.raises(BadInputError, match="twice, and they differ"):
            open_export(path)
        return
    with open_export(path) as export:
        assert (read(export), export.channels[0].kind) == ([("C1", "hi")], ChannelKind.PRIVATE)


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_of_two_files_of_one_name_neither_is_lost_unsaid(tmp_path: Path, kind: str) -> None:
    builder = small_team().put("notes\\a.txt", "1").put("notes/a.txt", "2").put("empty\\", "")
    day = next(iter(builder.days))
    builder.put(day.replace("/", "\\"), builder.contents()[day])
    with open_export(getattr(builder, kind)(tmp_path / "twice")) as export:
        assert (len(read(export)), +export.skipped) == (7, {"other file": 1})
    builder.put(day.replace("/", "\\"), "[]")
    with pytest.raises(BadInputError, match="twice, and they differ"):
        open_export(getattr(builder, kind)(tmp_path / "differ"))


def test_people_of_an_organisation_have_names_and_are_guests_unless_they_are_of_the_workspace(tmp_path: Path) -> None:
    people = [
        {"id": "U1", "team_id": "T1", "name": "old"},
        {"id": "W2", "team_id": "E1", "name": "bo", "enterprise_user": {"teams": ["T1", "T2"]}},
        {"id": "W3", "team_id": "E1", "name": "cy", "enterprise_user": {"teams": ["T2"]}},
        {"id": "W4", "team_id": "E1", "name": "di"},
    ]
    builder = ExportBuilder().user("U1", "ada")
    builder.channel("C1", "general").put("org_users.json", json.dumps(people))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert export.team == "T1"
        guests = {user.handle: user.is_guest for user in export.users()}
        assert guests == {"ada": False, "bo": False, "cy": True, "di": True}


SECRET: dict[str, Any] = {"type": "message", "ts": "1700000002.1", "text": "secret"}
LISTS_OF = {
    "channels.json": [{"id": "C0GENERAL1", "name": "general", "members": ["U1"]}],
    "groups.json": [{"id": "G0SECRET01", "name": "secret", "members": ["U1"]}],
}


def written(tmp_path: Path, files: Mapping[str, object]) -> Path:
    """The folder of an export that holds these files alone; what is no text is written as JSON."""
    folder = tmp_path / "export"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def kinds_of(tmp_path: Path, files: Mapping[str, object]) -> dict[str, ChannelKind]:
    """Which kind of channel each text of an export is said to be of."""
    with open_export(written(tmp_path, {"users.json": [], **files})) as export:
        return {raw["text"]: channel.kind for channel, raw in export.messages()}


@pytest.mark.parametrize("called", ["d0private1", "D0PRIVATE1"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("D0PRIVATE1/2024-01-01.json", [SECRET]),
        ("dm.json", {"channel_id": "D0PRIVATE1", "messages": [SECRET]}),
    ],
)
def test_a_conversation_that_no_list_names_is_not_the_channel_that_is_called_like_its_id(
    tmp_path: Path, called: str, name: str, content: object
) -> None:
    listed = [*LISTS_OF["channels.json"], {"id": "C0ATTACK01", "name": called, "members": ["U1"]}]
    assert kinds_of(tmp_path, {"channels.json": listed, name: content}) == {"secret": ChannelKind.UNKNOWN}


def lines(*entries: object) -> str:
    return "\n".join(json.dumps(entry) for entry in entries)


GENERAL_FIRST = {"channel_id": "C0GENERAL1", "messages": [HI]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("all.jsonl", lines(GENERAL_FIRST, None, {"channel_id": "G0SECRET01", "messages": [SECRET]})),
        ("all.jsonl", lines(GENERAL_FIRST, [], {"channel_id": "G0SECRET01", "messages": [SECRET]})),
        ("all.jsonl", lines({"name": "general", "messages": [HI]}, {"name": "secret", "messages": [SECRET]})),
        ("all.jsonl", lines(GENERAL_FIRST, {"channel": {"name": "secret"}, "messages": [SECRET]})),
        ("all.jsonl", lines(GENERAL_FIRST, {"channel": "secret", "messages": [SECRET]})),
        ("general.json", [HI, {**SECRET, "channel": {"id": "G0SECRET01", "name": "secret"}}]),
        ("general.json", [HI, {**SECRET, "channel": "secret"}]),
        ("general.json", {"channel_id": "C0GENERAL1", "messages": [HI, {**SECRET, "channel": "#secret"}]}),
        ("general/messages.json", {"channel_id": "G0SECRET01", "name": "secret", "messages": [SECRET]}),
        ("general/general.json", {"name": "secret", "messages": [SECRET]}),
        ("general/messages.json", [HI, {**SECRET, "channel": "G0SECRET01"}]),
        ("general/2023-11-14.json", {"channel_id": "G0SECRET01", "messages": [SECRET]}),
        ("general/2023-11-14.json", {"channel": {"name": "secret"}, "messages": [SECRET]}),
        ("general/2023-11-14.jsonl", lines(HI, {**SECRET, "channel": "G0SECRET01"})),
        ("general/general-2023-11-14.json", {"channel_id": "G0NOWHERE1", "messages": [SECRET]}),
        ("general/2023-11.json", {"channel_id": "G0SECRET01", "messages": [SECRET]}),
        ("elsewhere/2023-11-14.json", [{**HI, "channel": "C0GENERAL1"}, {**SECRET, "channel": "G0SECRET01"}]),
        ("elsewhere/2023-11-14.json", {"channel_name": "secret", "messages": [SECRET]}),
        ("G0NOWHERE1/2023-11-14.json", {"channel_id": "C0GENERAL1", "messages": [SECRET]}),
    ],
)
@pytest.mark.parametrize("is_large", [False, True])
def test_a_file_of_several_channels_is_read_as_none(
    tmp_path: Path, name: str, content: object, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "_WHOLE_BYTES", 0 if is_large else 2**20)
    assert kinds_of(tmp_path, {**LISTS_OF, name: content}) == {}


@pytest.mark.parametrize(
    "content",
    [
        [HI, {**SECRET, "channel": "G0SECRET01"}],
        [HI, {**SECRET, "channel_id": "G0NOWHERE1"}],
        [HI, {**SECRET, "channel_name": "secret"}],
        [{**HI, "channel_name": "was-called-so"}, {**SECRET, "channel": {"id": "G0SECRET01", "name": "general"}}],
        [{**HI, "slackdump_thread_replies": [{**SECRET, "channel": "G0SECRET01"}]}],
    ],
)
def test_a_message_of_a_day_that_says_another_channel_is_left_out_by_itself(tmp_path: Path, content: object) -> None:
    assert kinds_of(tmp_path, {**LISTS_OF, "general/2023-11-14.json": content}) == {"hi": ChannelKind.PUBLIC}


@pytest.mark.parametrize(
    ("name", "channel_id"),
    [
        ("general/2023-11-14.json", "C0GENERAL1"),
        ("was-called-so/2023-11-14.json", "C0GENERAL1"),
        ("nowhere/2023-11-14.json", "C0NOWHERE1"),
        ("C0NOWHERE1/2023-11.json", "C0NOWHERE1"),
    ],
)
@pytest.mark.parametrize("in_message", [False, True])
def test_a_day_that_says_of_which_channel_it_is_is_that_channels(
    tmp_path: Path, name: str, channel_id: str, in_message: bool
) -> None:
    content = [{**HI, "channel": channel_id}] if in_message else {"channel_id": channel_id, "messages": [HI]}
    with open_export(written(tmp_path, {"users.json": [], **LISTS_OF, name: content})) as export:
        assert (read(export), +export.skipped) == ([(channel_id, "hi")], {})
        known = {channel.id: channel.kind for channel in export.channels}
        assert known["C0GENERAL1"] is PUBLIC
        assert known.get("C0NOWHERE1", ChannelKind.UNKNOWN) is ChannelKind.UNKNOWN


def test_a_folder_that_no_list_names_is_of_the_one_channel_that_its_files_say(tmp_path: Path) -> None:
    builder = ExportBuilder().without("channels").put("plan/2023-11-14.json", json.dumps([HI]))
    builder.put("plan/2023-11-15.json", json.dumps({"channel_id": "G0SECRET01", "messages": [SECRET]}))
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert read(export) == [("G0SECRET01", "hi"), ("G0SECRET01", "secret")]
        assert {channel.kind for channel in export.channels} == {ChannelKind.UNKNOWN}
    builder.put("plan/2023-11-16.json", json.dumps({"channel_id": "G0OTHER001", "messages": [SECRET]}))
    with open_export(builder.zip(tmp_path / "two.zip")) as export:
        assert read(export) == [("name:plan", "hi")]
        assert export.skipped["file of several channels"] == 2


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"ok": True, "channels": [], "groups": [{"id": "G0SECRET01", "name": "secret"}]}, ChannelKind.PRIVATE),
        ({"channels": LISTS_OF["channels.json"], "groups": LISTS_OF["groups.json"]}, ChannelKind.PRIVATE),
        ({"ims": [{"id": "D0SECRET01", "name": "secret"}]}, ChannelKind.IM),
        ({"mpims": [{"id": "G0SECRET01", "name": "secret"}]}, ChannelKind.MPIM),
        ([{"id": "D0SECRET01", "name": "secret"}], ChannelKind.IM),
        ([{"id": "G0SECRET01", "name": "secret", "is_group": True}], ChannelKind.PRIVATE),
    ],
)
def test_what_an_api_lists_beside_public_channels_is_not_public(
    tmp_path: Path, content: object, kind: ChannelKind
) -> None:
    files = {"channels.json": content, "secret/2024-01-01.json": [SECRET]}
    assert kinds_of(tmp_path, files) == {"secret": kind}


def test_a_line_that_breaks_off_costs_no_other_however_long_the_file_is(tmp_path: Path) -> None:
    said = [{**HI, "ts": f"17000{number:05}.000100", "text": f"{number} {'x' * 3000}"} for number in range(700)]
    text = [json.dumps(raw) for raw in said]
    text[3] = text[3][:200]
    files = {"channels.json": LISTS_OF["channels.json"], "general/messages.jsonl": "\n".join(text)}
    assert len(kinds_of(tmp_path, files)) == 699


def test_a_message_that_is_nested_too_deep_costs_no_other(tmp_path: Path) -> None:
    deep = json.dumps(SECRET)[:-1] + ', "blocks": ' + "[" * 100_000 + "]" * 100_000 + "}"
    text = f'{{"messages": [{json.dumps(HI)}, {deep}, {json.dumps(HO)}]}}'
    files = {"channels.json": LISTS_OF["channels.json"], "general/messages.json": text}
    assert set(kinds_of(tmp_path, files)) == {"hi", "ho"}


def test_what_stands_outside_of_the_export_is_told(tmp_path: Path) -> None:
    files: dict[str, object] = {f"meta/{name}": content for name, content in LISTS_OF.items()}
    files |= {"meta/users.json": [], "general/2024-01-01.json": [HI]}
    with open_export(written(tmp_path, files)) as export:
        assert export.skipped["outside of the export"] == 1
        assert list(export.messages()) == []
        with pytest.raises(BadInputError, match="1 outside of the export"):
            export.require_sound()


def test_a_large_file_with_what_is_no_json_is_no_traceback(tmp_path: Path) -> None:
    text = '{"channel_id": "C0GENERAL1", "messages": [' + json.dumps({**HI, "x": "y" * 2**20}) + '], "x": undefined}'
    kinds_of(tmp_path, {"channels.json": LISTS_OF["channels.json"], "c.json": text})


def test_a_message_of_the_future_does_not_make_an_export_the_latest_for_good(tmp_path: Path) -> None:
    builder = ExportBuilder().channel("C1", "general", "U1").say("general", "1700000000.000100", "hi")
    builder.say("general", "9999999999.000100", "odd")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert export.as_of == "1700000000.000100"
        assert {text for _, text in read(export)} == {"hi", "odd"}
