"""Group conversations that the bot was added to: heard, read and answered in as private channels are."""

from __future__ import annotations

import pytest

from doppel.access import Readership
from doppel.archive import Archive
from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.bot.question_parser import question_of
from doppel.ingest import EventStore, forget_person
from doppel.records import ChannelKind
from doppel.slack.events import changes_of
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.syncing import sync

GROUP = "C5"


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    for number, handle in enumerate(("ada", "grace", "lin"), start=1):
        made.user(handle, id=f"U{number}")
    made.channel("general", "U1", "U2", "U3", id="C1")
    made.channel("mpdm-ada--grace--doppel-1", "U1", "U2", id=GROUP, kind="mpim")
    made.channel("mpdm-ada--lin-1", "U1", "U3", id="C6", kind="mpim", bot=False)
    made.post(GROUP, "U1", "Between the three of us.")
    made.post("C6", "U1", "Not for machines.")
    return made


def texts(archive: Archive) -> list[str]:
    return [m.text for m in archive.messages() if m.text]


def test_a_sync_reads_those_that_the_bot_is_in(slack: FakeSlack, archive: Archive) -> None:
    assert sync(slack, archive).warnings == ()
    assert texts(archive) == ["Between the three of us."]
    (group,) = [c for c in archive.channels() if c.kind is not ChannelKind.PUBLIC]
    assert (group.id, group.kind, set(group.members)) == (GROUP, ChannelKind.MPIM, {"U1", "U2", BOT})
    users = archive.users()
    readable = {
        user: (TEAM, GROUP) in Readership.of_person(TEAM, user, users).readable(archive.channels())
        for user in ("U1", "U2", "U3")
    }
    assert readable == {"U1": True, "U2": True, "U3": False}
    here = Readership.of_channel(group, TEAM, users)
    assert here.readable(archive.channels()) == {(TEAM, GROUP), (TEAM, "C1")}


@pytest.mark.parametrize("channel_type", [{"channel_type": "mpim"}, {}])
def test_what_is_said_there_is_heard(slack: FakeSlack, archive: Archive, channel_type: dict[str, str]) -> None:
    sync(slack, archive)
    event = {"type": "message", "channel": GROUP, "user": "U2", "ts": "4000000000.000100", "text": "Yes."}
    EventStore(archive, TEAM).take([(change, 4 * 10**15) for change in changes_of(event | channel_type, BOT)])
    assert texts(archive) == ["Between the three of us.", "Yes."]


def test_a_mention_there_is_a_question_that_others_read(slack: FakeSlack) -> None:
    event = {"type": "app_mention", "channel": GROUP, "channel_type": "mpim", "user": "U1", "ts": "2.5"}
    question = question_of(event | {"text": f"<@{BOT}> why?"}, BOT)
    assert question is not None
    assert (question.text, question.direct) == ("why?", False)
    assert question_of(event | {"type": "message", "text": f"<@{BOT}> why?"}, BOT) is None


def test_an_app_without_the_scope_goes_on_with_the_rest(slack: FakeSlack, archive: Archive) -> None:
    slack.workspace.channel("plans", "U1", id="C2", kind="private")
    slack.workspace.post("plans", "U1", "Hidden.")
    slack.tokens[slack.bot_token].scopes -= {"mpim:read", "mpim:history"}
    (warning,) = sync(slack, archive).warnings
    assert "Group conversations are left out: The Slack app lacks mpim:read" in warning
    assert texts(archive) == ["Hidden."]


def test_its_name_doesnt_name_who_was_forgotten(slack: FakeSlack, archive: Archive) -> None:
    sync(slack, archive)
    forget_person(archive, archive.find_user("U2"), messages=True, by="tests")
    sync(slack, archive)
    assert archive.get_user(TEAM, "U2").name == FORGOTTEN_NAME
    (group,) = [c for c in archive.channels() if c.id == GROUP]
    assert "grace" not in group.name
    assert "U2" in group.name
