"""An export of one workspace of an organisation: its people stand in org_users.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doppel.ingest import import_export, open_archive
from doppel.records import User
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder

ADA: dict[str, Any] = {"team_id": "T1"}
AT_BOTH: dict[str, Any] = {
    "team_id": "T2",
    "enterprise_user": {"id": "W1", "enterprise_id": "E1", "teams": ["T2", "T1"]},
}
ELSEWHERE: dict[str, Any] = {"team_id": "T2", "enterprise_user": {"id": "W2", "enterprise_id": "E1", "teams": ["T2"]}}
OF_THE_ORGANISATION: dict[str, Any] = {
    "team_id": "E1",
    "enterprise_user": {"id": "W3", "enterprise_id": "E1", "teams": ["T1"]},
}


def organisation() -> ExportBuilder:
    """A workspace of three people who write there; a fourth is of another one."""
    return (
        ExportBuilder()
        .without("users")
        .channel("C1", "general", "U1", "W1", "W3")
        .person("U1", "ada", "Ada Lovelace", **ADA)
        .person("W1", "grace", "Grace Hopper", **AT_BOTH)
        .person("W2", "jean", "Jean Bartik", **ELSEWHERE)
        .person("W3", "alan", "Alan Turing", **OF_THE_ORGANISATION)
        .say("general", "1700000000.000100", "Ask <@W1>.")
        .say("general", "1700000060.000100", "It is done.", "W1")
        .say("general", "1700000090.000100", "Thanks.", "W3")
    )


def take_in(where: Path | str, export: Path) -> tuple[dict[str, int], str, dict[str, User], dict[str, str]]:
    """What was skipped, the workspace, its people, and who said what."""
    with open_archive(where) as archive, open_export(export) as exported:
        report = import_export(archive, exported)
        people = {user.id: user for user in archive.users()}
        return report.skipped, exported.team, people, {m.text: m.author for m in archive.messages()}


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_the_organisations_people_have_their_names_and_rights(tmp_path: Path, where: Path | str, kind: str) -> None:
    skipped, team, people, said = take_in(where, getattr(organisation(), kind)(tmp_path / "export"))
    assert skipped == {}
    assert team == "T1"
    assert said == {"Ask @Grace Hopper.": "Ada Lovelace", "It is done.": "Grace Hopper", "Thanks.": "Alan Turing"}
    assert {id_: user.is_guest for id_, user in people.items()} == {"U1": False, "W1": False, "W2": True, "W3": False}


def test_what_the_workspaces_own_list_says_counts(tmp_path: Path, where: Path | str) -> None:
    builder = organisation().user("W1", "grace", "Rear Admiral Hopper", is_restricted=True)
    skipped, _, people, said = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert skipped == {}
    assert people["W1"].is_guest
    assert said["It is done."] == "Rear Admiral Hopper"
    assert said["Thanks."] == "Alan Turing"


def test_what_either_list_says_against_somebody_counts_and_one_fills_what_the_other_lacks(
    tmp_path: Path, where: Path | str
) -> None:
    builder = organisation().user("W1", "grace").user("W3", "", team_id="")
    builder.lists["org_users"][1] |= {"is_ultra_restricted": True, "deleted": True}
    _, team, people, said = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (team, people["W1"].is_guest, people["W1"].deleted) == ("T1", True, True)
    assert (people["W3"].handle, people["W3"].is_guest) == ("alan", False)
    assert said["It is done."] == "grace"


@pytest.mark.parametrize("said_in", ["T1", ""])
def test_an_organisation_is_no_workspace_and_its_people_are_nobodys_members(
    tmp_path: Path, where: Path | str, said_in: str
) -> None:
    builder = ExportBuilder("E1").without("users").channel("C1", "general").person("W1", "ada", "Ada")
    builder.say("general", "1700000000.1", "hi", "W1", team=said_in)
    _, team, people, _ = take_in(where, builder.zip(tmp_path / "export.zip"))
    assert (team, people["W1"].is_guest) == (said_in or "local", True)


def test_what_else_an_export_lists_is_known(tmp_path: Path) -> None:
    builder = organisation()
    for name in ("canvases", "file_conversations", "huddle_transcripts", "integration_logs", "lists"):
        builder.put(f"{name}.json", "[]").put(f"{name}/F1.json", "{}")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        assert (len(list(export.messages())), +export.skipped) == (3, {})


@pytest.mark.parametrize("list_", ["{", '{"members": []}'])
def test_a_broken_list_of_the_workspace_leaves_the_organisations(tmp_path: Path, where: Path | str, list_: str) -> None:
    skipped, _, _, said = take_in(where, organisation().put("users.json", list_).zip(tmp_path / "export.zip"))
    assert skipped == {"users.json broken": 1}
    assert said["It is done."] == "Grace Hopper"


def test_the_organisations_list_may_stand_above_its_workspaces(tmp_path: Path, where: Path | str) -> None:
    files = organisation().contents()
    builder = ExportBuilder().without("users").without("channels")
    for name, data in files.items():
        builder.put(name if name == "org_users.json" else f"teams/analytical/{name}", data)
    assert take_in(where, builder.zip(tmp_path / "export.zip"))[3]["It is done."] == "Grace Hopper"
