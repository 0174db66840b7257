"""Who is meant: an id is an id, and a name is what people read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.access import ConsentAction
from doppel.adapters import AdapterStore
from doppel.archive import Archive
from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.archive.people import as_read, find_person, find_user
from doppel.errors import ConsentError, UnknownUserError
from doppel.records import User
from doppel.services.ask import Engine
from tests.end_to_end import doppel
from tests.fakes.export_builder import ExportBuilder
from tests.taking_in import take_in

ERIK = User("T1", "U0ERIK", "erik", "Erik Lund", deleted=True)
IMPOSTORS = [
    User("T1", "U0EVIL", "eve", "Eve", "U0ERIK"),
    User("T1", "U0EVIL", "u0erik", "Eve"),
    User("T1", "U0EVIL", "eve", "U0ERIK"),
]


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("typed", ["U0ERIK", "@U0ERIK", " U0ERIK "])
def test_a_name_that_looks_like_an_id_never_wins_over_the_id(impostor: User, typed: str) -> None:
    assert find_user([impostor, ERIK], typed) == ERIK
    assert find_user([ERIK, impostor], typed.lower()) == ERIK


def test_what_looks_like_an_id_is_never_a_name() -> None:
    with pytest.raises(UnknownUserError, match='Nobody has the id "U0ERIK"'):
        find_user(IMPOSTORS[:1], "U0ERIK")
    assert find_user([User("T1", "U1", "ursula", display_name="URSULA")], "URSULA").id == "U1"


LEFT = User("T1", "U1", "erik", "Erik Lind", deleted=True)
MALLORY = User("T1", "U2", "mallory", "Mallory", "erik")


def test_a_handle_is_told_from_what_others_call_themselves_by_its_sign() -> None:
    for users in ([LEFT, MALLORY], [MALLORY, LEFT]):
        assert find_user(users, "@erik") == find_user(users, " @Erik") == LEFT
        for typed in ("erik", "Erik"):
            with pytest.raises(UnknownUserError, match=r"fits several people: .*; give the handle with its @"):
                find_user(users, typed)


@pytest.mark.parametrize("other", ["Erik Lind", "erik lind", "Erik\u200b  Lind"])
def test_who_left_is_meant_as_well(other: str) -> None:
    for impostor in (User("T1", "U2", "mallory", "Mallory", other), User("T1", "U2", "mallory", other)):
        for typed in ("Erik Lind", "erik lind"):
            with pytest.raises(
                UnknownUserError, match=r"fits several people: .*U1.*U2.*; give the handle with its @, or the id"
            ):
                find_user([LEFT, impostor], typed)


NAMES = st.sampled_from(["", "ada", "Ada", "A\u200bda", "ADA ", "erik", "Erik"])
USERS = st.lists(
    st.builds(
        User, st.sampled_from(["T1", "T2"]), st.sampled_from(["U1", "U2", "U3"]), NAMES, NAMES, NAMES,
        st.booleans(), st.booleans(), st.booleans(),
    ),
    max_size=5,
    unique_by=lambda user: (user.team, user.id),
)  # fmt: skip


@given(USERS, NAMES)
def test_a_name_means_one_person_in_every_workspace_or_nobody(users: list[User], typed: str) -> None:
    def called(user: User, *names: str) -> bool:
        return as_read(typed).casefold() in {as_read(name).casefold() for name in names if as_read(name)}

    meant = {user.id for user in users if called(user, user.handle, user.display_name, user.real_name)}
    if len(meant) == 1:
        found = find_person(users, typed)
        assert sorted(found, key=repr) == sorted((user for user in users if user.id in meant), key=repr)
        assert [user.is_guest for user in found] == sorted(user.is_guest for user in found)
    else:
        with pytest.raises(UnknownUserError):
            find_person(users, typed)


def test_who_is_at_home_in_several_workspaces_is_chosen_by_workspace(archive: Archive) -> None:
    for team in ("T1", "T2"):
        take_in(archive, ExportBuilder(team).user("U1", "ada").channel("C1", "general").say("general", "1.1", "x"))
    for typed in ("U1", "ada"):
        assert [user.team for user in archive.find_person(typed)] == ["T1", "T2"]
        with pytest.raises(UnknownUserError, match=r"is in several workspaces \(T1, T2\); say in which with --team"):
            archive.find_user(typed)
        assert archive.find_user(typed, "T2").team == "T2"
        assert [user.team for user in archive.find_person(typed, "T1")] == ["T1"]
        with pytest.raises(UnknownUserError, match='nobody of the workspace "T3"'):
            archive.find_person(typed, "T3")


def test_somebody_whom_two_workspaces_list_is_found_where_they_are_at_home() -> None:
    home, away = User("T2", "U1", "ada"), User("T1", "U1", "ada", is_guest=True)
    assert find_user([away, home], "U1") == find_user([home, away], "ada") == home


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("Ines Moreau ", "Ines Moreau"),
        ("Erik  Lund", "Erik Lund"),
        ("Erik Lund", " Erik   Lund "),
        ("Erik\u00a0Lund", "Erik Lund"),
        ("Erik\u3000Lund", "erik lund"),
        ("Erik\u2009Lund", "Erik Lund"),
        ("Jos\u00e9 P\u00e9rez", "Jose\u0301 Pe\u0301rez"),
        ("Jose\u0301 Pe\u0301rez", "jos\u00e9 p\u00e9rez"),
        ("E\u200brik\ufeff Lund", "Erik Lund"),
        ("Erik Lund", "\u202aErik Lund\u202c"),
        ("E\u00adrik\u3164", "Erik"),
        ("M\u00fcller-Stra\u00dfe", "MU\u0308LLER-STRASSE"),
    ],
)
def test_names_that_read_the_same_are_the_same(stored: str, typed: str) -> None:
    for user in (User("T1", "U1", "x1", stored), User("T1", "U1", "x1", "", stored)):
        assert find_user([user, User("T1", "U2", "grace", "Grace Hopper")], typed) == user


def test_who_was_forgotten_is_no_ones_nearest() -> None:
    gone = User("T1", "U03SASK", "", FORGOTTEN_NAME)
    with pytest.raises(UnknownUserError, match='Nobody is called "someone"; give a Slack id'):
        find_user([gone], "someone")
    assert find_user([gone], "U03SASK") == gone


def test_a_name_that_cannot_be_seen_is_nobodys() -> None:
    assert as_read("\u200b \u3164\u2060\ufe0f") == ""
    with pytest.raises(UnknownUserError):
        find_user([User("T1", "U1", "", display_name="\u200b")], "\u2060")


@pytest.fixture
def impersonated(archive: Archive) -> Archive:
    """Erik agreed and left; Eve calls herself by his id."""
    builder = ExportBuilder().user("U0ERIK", "erik", "Erik Lund", deleted=True).user("U0EVE", "eve", "Eve", "U0ERIK")
    take_in(archive, builder.channel("C1", "general", "U0ERIK").say("general", "1.1", "x", user="U0EVE"))
    archive.record_consent(archive.get_user("T1", "U0ERIK"), ConsentAction.GRANT, "tests")
    return archive


def test_the_engine_and_jobs_take_ids_only(impersonated: Archive, tmp_path: Path) -> None:
    nothing: Any = None
    whole = Engine(nothing, impersonated, nothing, AdapterStore(tmp_path), nothing, nothing)
    engine = whole.within("T1")
    assert asyncio.run(engine.persona("U0ERIK")).name == "Erik Lund"
    assert asyncio.run(whole.persona("U0ERIK", "T1")).name == "Erik Lund"
    with pytest.raises(ConsentError):
        asyncio.run(engine.persona("U0EVE"))
    for wrong, team in (("erik", "T1"), ("Erik Lund", "T1"), ("u0erik", "T1"), ("U0ERIK", "T2"), ("", "T1")):
        with pytest.raises(UnknownUserError):
            asyncio.run(engine.persona(wrong, team))
        with pytest.raises(UnknownUserError):
            impersonated.get_user(team, wrong)


def test_consent_goes_to_whom_the_id_names(tmp_path: Path) -> None:
    builder = ExportBuilder().user("U0ERIK", "erik", "Erik Lund", deleted=True).user("U0EVE", "eve", "Eve", "U0ERIK")
    path = builder.channel("C1", "general").say("general", "1.1", "x", user="U0EVE").zip(tmp_path / "export.zip")
    assert doppel(tmp_path / "data", "import", str(path)).status == 0
    assert doppel(tmp_path / "data", "consent", "grant", "U0ERIK").data["user_id"] == "U0ERIK"
