"""What a sync may believe to be deleted, and what comes back: a sync can't destroy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from doppel.archive import Archive, database, tables
from doppel.errors import SlackError
from doppel.ingest import forget_person, import_export
from doppel.ingest.cursor import leads_nowhere, spanned
from doppel.ingest.sync_store import Gone
from doppel.records import ChannelKind, MessageKind
from doppel.slack.events import Deleted, Said
from doppel.slack.export import open_export
from tests.fakes.slack import TEAM, FakeSlack, Workspace
from tests.fakes.slack.channels import Json
from tests.syncing import sync
from tests.taking_in import take

MINUTE = 60.0


class Clock:
    """A time that begins six days ago; every message takes five minutes."""

    def __init__(self) -> None:
        self.now, self.step = time.time() - 6 * 86_400, 0.001

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace(clock=Clock())
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.channel("general", ada, grace, id="C1")
    return made


@pytest.fixture(params=[False, True], ids=["newest-first", "oldest-first"])
def slack(workspace: Workspace, request: pytest.FixtureRequest) -> Iterator[FakeSlack]:
    """In both orders in which Slack's history may begin where it is told the oldest message alone."""
    with FakeSlack(workspace) as running:
        running.behaviour.oldest_without_latest = request.param
        yield running


def say(slack: FakeSlack, number: int, thread_ts: str | None = None) -> list[str]:
    """Post as many messages, or replies; returns their timestamps."""
    clock = slack.workspace._clock
    assert isinstance(clock, Clock)
    clock.step = 5 * MINUTE
    stamps = [slack.workspace.post("general", "U1", f"Note {n}", thread_ts=thread_ts) for n in range(number)]
    clock.step = 0.001
    return stamps


def alive(archive: Archive) -> set[str]:
    return {m.ts for m in archive.messages() if m.text and m.kind is MessageKind.HUMAN}


def vanish(slack: FakeSlack, ts: str) -> dict[str, Any]:
    """Take a message out of what Slack shows, without a word."""
    raw = dict(slack.workspace.message("general", ts))
    slack.workspace.find("general").log.remove(ts)
    return raw


@pytest.mark.parametrize("short", [False, True], ids=["two-pages", "four-pages"])
def test_of_a_busy_week_a_second_sync_deletes_what_was_deleted_alone(
    slack: FakeSlack, archive: Archive, short: bool
) -> None:
    slack.behaviour.short_pages = short
    stamps = say(slack, 1500)
    sync(slack, archive)
    assert sync(slack, archive).deleted == 0
    assert alive(archive) == set(stamps)
    # The newest, the oldest, one in the middle of a page, and those about where pages end.
    gone = {stamps[index] for index in (-1, 0, 400, -499, -500, -998, -999, -1000)}
    for ts in gone:
        vanish(slack, ts)
    assert sync(slack, archive).deleted == len(gone)
    assert alive(archive) == set(stamps) - gone


def test_of_a_long_thread_what_was_deleted_goes_alone(slack: FakeSlack, archive: Archive) -> None:
    slack.behaviour.short_pages = True
    (root,) = say(slack, 1)
    stamps = say(slack, 1100, thread_ts=root)
    sync(slack, archive)
    leave_alone(archive)
    assert sync(slack, archive).deleted == 0
    gone = {stamps[index] for index in (0, 1, 498, 499, 500, 700, -1)}
    for ts in gone:
        vanish(slack, ts)
    leave_alone(archive)
    assert sync(slack, archive).deleted == len(gone)
    assert alive(archive) == {root, *stamps} - gone


def test_what_slack_shows_again_is_alive_again(slack: FakeSlack, archive: Archive) -> None:
    stamps = say(slack, 3)
    sync(slack, archive)
    raw = vanish(slack, stamps[1])
    assert sync(slack, archive).deleted == 1
    slack.workspace.find("general").log.add(raw)
    assert sync(slack, archive).updated == 1
    assert alive(archive) == set(stamps)
    assert sync(slack, archive).updated == 0


def test_an_edit_that_slack_tells_later_brings_a_message_back(slack: FakeSlack, archive: Archive) -> None:
    stamps = say(slack, 1)
    sync(slack, archive)
    raw = vanish(slack, stamps[0])
    sync(slack, archive)
    now = time.time()
    take(archive, (Said("C1", raw), now))
    assert alive(archive) == set()
    take(archive, (Said("C1", raw | {"text": "Note"}, changed=True), now))
    assert alive(archive) == set(stamps)
    take(archive, (Deleted("C1", stamps[0]), now + 1), (Said("C1", raw, changed=True), now))
    assert alive(archive) == set()


def test_an_older_export_brings_nothing_back_and_a_later_one_does(
    slack: FakeSlack, archive: Archive, tmp_path: Path
) -> None:
    stamps = say(slack, 2)
    sync(slack, archive)
    raw = vanish(slack, stamps[0])
    sync(slack, archive)
    take_export(archive, tmp_path / "older", [raw])
    assert alive(archive) == {stamps[1]}
    later = note("Later", time.time() + 1)
    take_export(archive, tmp_path / "later", [raw, later])
    assert alive(archive) == {*stamps, later["ts"]}


def test_what_was_forgotten_never_comes_back(slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    say(slack, 2)
    workspace = slack.workspace
    asked = workspace.post("general", "U2", "What do you think?")
    posted: dict[str, Any] = {"bot_id": workspace.bot_id, "username": "ada"}
    reply = workspace.post("general", workspace.bot_user, "I like it.", thread_ts=asked, **posted)
    sync(slack, archive)
    common: dict[str, Any] = {"version": None, "question": "", "reply": "", "sources": (), "asker": "U2"}
    archive.bot(TEAM).add_answer(1, channel="C1", thread_ts=asked, user_id="U1", **common)
    assert forget_person(archive, archive.find_user("U1"), messages=True, by="U1").posts == 1
    for _ in range(2):
        leave_alone(archive)
        sync(slack, archive)
    raws = list(workspace.find("general").log)
    take(archive, *((Said("C1", raw, changed=True), time.time() + 9) for raw in raws))
    take_export(archive, tmp_path / "later", [*raws, note("Later", time.time() + 10)])
    assert [m.text for m in archive.messages() if m.text] == ["What do you think?", "Later"]
    assert {m.ts for m in archive.messages() if not m.text} > {reply}


def test_what_a_plan_hides_of_a_thread_is_not_deleted(slack: FakeSlack, archive: Archive) -> None:
    (root,) = say(slack, 1)
    stamps = say(slack, 4, thread_ts=root)
    sync(slack, archive)
    slack.behaviour.hides_before = float(stamps[2])
    leave_alone(archive)
    report = sync(slack, archive)
    assert slack.count("conversations.replies") == 2
    assert (report.deleted, alive(archive)) == (0, {root, *stamps})


def test_what_a_plan_hides_of_a_message_is_kept(slack: FakeSlack, archive: Archive) -> None:
    (ts,) = say(slack, 1)
    raw = slack.workspace.message("general", ts)
    shown = {"id": "F1", "title": "The plan.pdf", "mode": "hosted"}
    slack.workspace.replace("general", raw | {"files": [shown]}, quietly=True)
    sync(slack, archive)
    before = [m.text for m in archive.messages()]
    slack.workspace.replace("general", raw | {"files": [{"id": "F1", "mode": "hidden_by_limit"}]}, quietly=True)
    assert sync(slack, archive).updated == 0
    assert [m.text for m in archive.messages()] == before


def test_a_thread_that_slack_does_not_find_is_neither_deleted_nor_asked_for_again(
    slack: FakeSlack, archive: Archive
) -> None:
    (root,) = say(slack, 1)
    stamps = say(slack, 2, thread_ts=root)
    sync(slack, archive)
    for ts in (root, *stamps):
        vanish(slack, ts)
    leave_alone(archive)
    sync(slack, archive)
    assert alive(archive) == set(stamps)
    asked = slack.count("conversations.replies")
    sync(slack, archive)
    assert slack.count("conversations.replies") == asked


def test_a_slack_that_does_not_heed_what_is_asked_for_ends_with_a_sentence(slack: FakeSlack, archive: Archive) -> None:
    slack.behaviour.short_pages = True
    (root,) = say(slack, 1)
    stamps = say(slack, 600, thread_ts=root) + say(slack, 600)
    sync(slack, archive)
    slack.behaviour.ignores_latest = True
    leave_alone(archive)
    said: list[str] = []
    assert sync(slack, archive, said).deleted == 0
    assert [line[:45] for line in said] == ["Left out #general: Slack gave other messages "]
    assert alive(archive) == {root, *stamps}
    slack.behaviour.ignores_latest = False
    assert sync(slack, archive).warnings == ()


@pytest.mark.parametrize("method", ["users.list", "conversations.members"])
def test_a_list_that_goes_in_a_circle_ends_with_a_sentence(slack: FakeSlack, archive: Archive, method: str) -> None:
    if method == "users.list":
        for number in range(450):
            slack.workspace.user(f"user{number}")
    else:
        crowd = [f"U9{number}" for number in range(2500)]
        slack.workspace.channel("crowd", *crowd, id="C2")
    slack.behaviour.repeats_cursors = True
    said: list[str] = []
    try:
        sync(slack, archive, said)
    except SlackError as error:
        said.append(str(error))
    assert [f"the same page of {method} again and again" in line for line in said] == [True]
    assert archive.channels() == [] or not [c for c in archive.channels() if c.id == "C2" and c.members]


Spoiler = Callable[[Json], Json]
FEW = 3


def first(answer: Json, cursor: str = "next", **more: object) -> Json:
    """An answer with its first messages alone, and as much more."""
    shown = {key: value for key, value in answer.items() if key != "has_more"}
    return shown | {"messages": answer["messages"][:FEW], "response_metadata": {"next_cursor": cursor}, **more}


def half_unread(answer: Json) -> Json:
    raws = [raw | {"ts": None} if number % 2 else raw for number, raw in enumerate(answer["messages"])]
    return answer | {"messages": raws}


def with_a_stray(answer: Json) -> Json:
    """The first messages, and one that is older than what was asked for."""
    return first(answer, "", has_more=True, messages=[*answer["messages"][:FEW], {"ts": "1.000100", "text": "Stray"}])


SPOILERS: dict[str, Spoiler] = {
    "nothing": lambda answer: {"ok": True},
    "null": lambda answer: answer | {"messages": None},
    "an object": lambda answer: answer | {"messages": {}},
    "no more, with a cursor": lambda answer: first(answer, has_more=False),
    "a cursor alone": first,
    "not whether there are more": lambda answer: first(answer, ""),
    "a word for more": lambda answer: first(answer, "", has_more="no"),
    "half unread": half_unread,
    "no objects": lambda answer: answer | {"messages": ["x" for _ in answer["messages"]]},
    "a stray": with_a_stray,
    "a stray and no more": lambda answer: with_a_stray(answer) | {"has_more": False},
}


@pytest.mark.parametrize("how", SPOILERS)
def test_an_answer_that_was_not_read_whole_deletes_nothing(slack: FakeSlack, archive: Archive, how: str) -> None:
    (root,) = say(slack, 1)
    stamps = say(slack, 12, thread_ts=root) + say(slack, 25)
    sync(slack, archive)
    leave_alone(archive)
    for method in ("conversations.history", "conversations.replies"):
        slack.faults.spoilers[method] = SPOILERS[how]
    assert sync(slack, archive).deleted == 0
    assert alive(archive) >= {root, *stamps}
    slack.faults.spoilers.clear()
    vanish(slack, stamps[-2])
    assert sync(slack, archive).deleted == 1


@pytest.mark.parametrize("method", ["conversations.history", "conversations.replies"])
def test_what_is_odd_about_an_answer_keeps_nothing_that_it_holds_back(
    slack: FakeSlack, archive: Archive, method: str
) -> None:
    slack.faults.spoilers[method] = lambda answer: first(answer, has_more=False)
    (root,) = say(slack, 1)
    stamps = say(slack, 12, thread_ts=root)
    sync(slack, archive)
    assert alive(archive) == {root, *stamps}


MEMBERS: dict[str, Spoiler] = {
    "nothing": lambda answer: {"ok": True},
    "null": lambda answer: answer | {"members": None},
    "half unread": lambda answer: answer | {"members": [*answer["members"][:1], None]},
    "no ids": lambda answer: answer | {"members": [*answer["members"][:1], "../x"]},
    "an odd cursor": lambda answer: answer | {"response_metadata": {"next_cursor": 5}},
}


@pytest.mark.parametrize("how", MEMBERS)
def test_a_list_that_was_not_read_whole_puts_nobody_out(slack: FakeSlack, archive: Archive, how: str) -> None:
    sync(slack, archive)
    (before,) = archive.channels()
    people = archive.users()
    slack.workspace.join("general", slack.workspace.user("mary", "Mary Shelley", id="U3"))
    slack.faults.spoilers["conversations.members"] = MEMBERS[how]
    (warning,) = sync(slack, archive).warnings
    assert warning.startswith("Left out #general: Slack")
    assert [channel.members for channel in archive.channels()] == [before.members]
    slack.faults.spoilers = {"users.list": MEMBERS["nothing"]}
    with pytest.raises(SlackError, match=r"users\.list is none that it documents"):
        sync(slack, archive)
    assert {user.id for user in archive.users() if user.is_guest} == {user.id for user in people if user.is_guest}
    slack.faults.spoilers = {"conversations.list": lambda answer: answer | {"channels": None}}
    with pytest.raises(SlackError, match=r"conversations\.list is none that it documents"):
        sync(slack, archive)
    assert [channel.kind for channel in archive.channels()] == [before.kind]


def test_numbers_of_any_size_do_no_harm(slack: FakeSlack, archive: Archive) -> None:
    def spoil(answer: Json) -> Json:
        odd = {"num_members": 10**30, "created": 10**30}
        return answer | {"channels": [channel | odd for channel in answer["channels"]]}

    slack.faults.spoilers["conversations.list"] = spoil
    stamps = say(slack, 2)
    sync(slack, archive)
    assert alive(archive) == set(stamps)


def test_a_channel_of_which_slack_does_not_say_that_it_is_public_is_not(slack: FakeSlack, archive: Archive) -> None:
    def spoil(answer: Json) -> Json:
        return answer | {"channels": [{"id": raw["id"], "name": raw["name"]} for raw in answer["channels"]]}

    slack.faults.spoilers["conversations.list"] = spoil
    sync(slack, archive)
    assert [channel.kind for channel in archive.channels()] == [ChannelKind.PRIVATE]


def test_replies_are_read_where_a_parent_does_not_say_when_the_newest_was_written(
    slack: FakeSlack, archive: Archive
) -> None:
    slack.behaviour.names_latest_reply = False
    (root,) = say(slack, 1)
    stamps = say(slack, 2, thread_ts=root)
    sync(slack, archive)
    assert alive(archive) == {root, *stamps}
    asked = slack.count("conversations.replies")
    sync(slack, archive)
    assert slack.count("conversations.replies") == asked
    stamps += say(slack, 1, thread_ts=root)
    sync(slack, archive)
    assert alive(archive) == {root, *stamps}


def test_what_a_page_spans() -> None:
    asked = Gone(10, 90, 100)
    assert spanned(asked, [50, 30], more=False) == asked
    assert spanned(asked, [], more=False) == asked
    assert spanned(asked, [50, 30], more=True) == Gone(30, 50, 100)
    assert spanned(asked, [], more=True) is None


@given(st.lists(st.integers(0, 99)), st.booleans())
def test_a_page_spans_no_more_than_was_asked_for(stamps: list[int], more: bool) -> None:
    asked = Gone(10, 90, 100)
    found = spanned(asked, stamps, more)
    assert found is None or asked.low <= found.low <= found.high <= asked.high
    if found and more:
        assert {found.low, found.high} <= set(stamps)


def test_which_page_leads_nowhere() -> None:
    assert leads_nowhere([], more=True, latest=90)
    assert leads_nowhere([95, 80], more=True, latest=90)
    assert leads_nowhere([90], more=True, latest=90)
    assert not leads_nowhere([89, 20], more=True, latest=90)
    assert not leads_nowhere([], more=False, latest=90)


def note(text: str, at: float) -> dict[str, Any]:
    return {"type": "message", "user": "U2", "text": text, "ts": f"{at:.6f}"}


def take_export(archive: Archive, folder: Path, raws: list[dict[str, Any]]) -> None:
    """Import an export of #general with these messages."""
    (folder / "general").mkdir(parents=True)
    channel = {"id": "C1", "name": "general", "members": ["U1", "U2"]}
    everybody = [{"id": "U1", "name": "ada", "team_id": TEAM}, {"id": "U2", "name": "grace", "team_id": TEAM}]
    for name, content in (("users", everybody), ("channels", [channel]), ("general/2026-01-01", raws)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    with open_export(folder) as export:
        import_export(archive, export)


def leave_alone(archive: Archive) -> None:
    """As if the threads had last been looked at a week ago."""
    with database.writing(archive._engine, archive.backend) as connection:
        t = tables.sync_threads
        connection.execute(update(t).values(looked_at=t.c.looked_at - 7 * 86_400_000_000))
