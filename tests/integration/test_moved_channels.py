"""A channel whose id changed is one channel, whichever of its ids it is named by, in whatever order that is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from doppel.archive import Archive
from doppel.archive.channels import merge_channels, take_members
from doppel.archive.database import writing
from doppel.archive.restrictions import Limit, Restriction
from doppel.bot.question_parser import question_of
from doppel.ingest import EventStore, import_export
from doppel.records import ChannelKind
from doppel.slack.events import (
    Change,
    ChannelLost,
    ChannelMoved,
    ChannelPrivate,
    Deleted,
    Membership,
    Reacted,
    Said,
)
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import BOT, TEAM, FakeSlack, Limits, Workspace
from tests.syncing import sync

OLD, NEW, LATER = "C2", "C9", 4_000_000_000.0
SECRET = "1700000000.000100"


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    made = Workspace()
    made.user("ada", "Ada Lovelace", id="U1")
    made.user("grace", "Grace Hopper", id="U2")
    made.channel("general", "U1", "U2", id="C1")
    made.channel("layoffs", "U1", id=OLD, kind="private")
    made.post("general", "U2", f"Nobody asks in <#{OLD}|layoffs>.", ts="1700000100.000100")
    made.post(OLD, "U1", "Who goes?", ts=SECRET)
    with FakeSlack(made, limits=Limits.none()) as running:
        yield running


@pytest.fixture
def synced(slack: FakeSlack, archive: Archive) -> Archive:
    sync(slack, archive)
    return archive


def take(archive: Archive, *changes: Change, at: float = LATER) -> None:
    EventStore(archive, TEAM).take([(change, round(at * 1_000_000)) for change in changes])


def texts(archive: Archive, channel: str) -> list[str]:
    return [m.text for m in archive.messages([(TEAM, channel)]) if m.text]


def said(ts: str, text: str) -> dict[str, str]:
    return {"type": "message", "ts": ts, "user": "U1", "text": text}


def test_its_name_stays_secret_where_it_is_mentioned_by_the_id_it_had(synced: Archive) -> None:
    assert texts(synced, "C1") == ["Nobody asks in #private-channel."]
    take(synced, ChannelMoved(OLD, NEW))
    assert texts(synced, "C1") == ["Nobody asks in #private-channel."]


def test_what_comes_late_under_the_id_it_had_is_of_it(synced: Archive) -> None:
    take(synced, ChannelMoved(OLD, NEW))
    take(synced, Said(OLD, said("1700000200.000100", "Late.")), Reacted(OLD, SECRET, "U1", "eyes", added=True))
    assert texts(synced, NEW) == ["Who goes?", "Late."]
    take(synced, Deleted(OLD, SECRET), Membership(OLD, "U1", joined=False), at=LATER + 1)
    assert texts(synced, NEW) == ["Late."]
    (now,) = [c for c in synced.channels() if c.id in (OLD, NEW)]
    assert (now.id, now.kind, "U1" in now.members) == (NEW, ChannelKind.PRIVATE, False)


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 1, 0, 1]])
def test_two_moves_come_to_the_same_in_any_order(synced: Archive, order: list[int]) -> None:
    moves = [ChannelMoved(OLD, "C8"), ChannelMoved("C8", NEW)]
    take(synced, *(moves[number] for number in order))
    take(synced, Deleted(OLD, SECRET), Said("C8", said("1700000200.000100", "Late.")))
    assert [c.id for c in synced.channels() if c.kind is ChannelKind.PRIVATE] == [NEW]
    assert texts(synced, NEW) == ["Late."]


def test_what_was_deleted_under_one_id_stays_so(synced: Archive) -> None:
    take(synced, Said(NEW, said(SECRET, "Who goes?")), at=1.0)
    take(synced, Deleted(OLD, SECRET))
    take(synced, ChannelMoved(OLD, NEW))
    assert texts(synced, NEW) == []


def test_an_export_from_before_goes_where_it_is_now(tmp_path: Path, synced: Archive) -> None:
    take(synced, ChannelMoved(OLD, NEW))
    builder = ExportBuilder(TEAM).user("U1", "ada").channel("C1", "general").channel(OLD, "layoffs", list_="groups")
    builder.say("layoffs", SECRET, "Who goes?").say("layoffs", "1690000000.000100", "Long ago.")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        import_export(synced, export)
    assert texts(synced, NEW) == ["Long ago.", "Who goes?"]
    assert OLD not in {c.id for c in synced.channels()}


def test_what_is_uncertain_of_it_under_the_id_it_had_is_uncertain(synced: Archive) -> None:
    take(synced, ChannelMoved(OLD, NEW))
    synced.waiting.keep([Restriction(TEAM, Limit.LOST, OLD)])
    assert next(c.kind for c in synced.channels() if c.id == NEW) is ChannelKind.UNKNOWN


def test_what_was_asked_there_is_answered_where_it_is_now(synced: Archive) -> None:
    asked = {"type": "app_mention", "channel": OLD, "user": "U1", "ts": "1700000300.000100", "text": "why?"}
    synced.bot(TEAM).accept([("E1", asked)], 1)
    take(synced, ChannelMoved(OLD, NEW))
    (question,) = [question_of(found.event, "U0BOT") for found in synced.bot(TEAM).open_questions()]
    assert question is not None
    assert question.channel == NEW


def listed(archive: Archive, kind: ChannelKind, *members: str) -> None:
    """A sync saw the channel under its new id before it was told that it moved."""
    at = 3_000_000_000_000_000
    with writing(archive._engine, archive.backend) as connection:
        fields = {"id": NEW, "name": "layoffs", "kind": kind, "archived": False}
        merge_channels(connection, TEAM, [fields], at)
        take_members(connection, TEAM, NEW, members, at)


def as_it_is(archive: Archive) -> tuple[ChannelKind, set[str]]:
    (found,) = [channel for channel in archive.channels() if channel.id in (OLD, NEW)]
    assert found.id == NEW
    return found.kind, set(found.members) - {BOT}


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("moved_first", [True, False])
@pytest.mark.parametrize(
    ("change", "kind", "members"),
    [
        (Membership(OLD, "U2", joined=False), ChannelKind.PRIVATE, {"U1"}),
        (Membership(NEW, "U2", joined=False), ChannelKind.PRIVATE, {"U1"}),
        (ChannelPrivate(OLD), ChannelKind.PRIVATE, {"U1", "U2"}),
        (ChannelLost(OLD), ChannelKind.UNKNOWN, {"U1", "U2"}),
    ],
)
def test_what_is_told_of_either_id_stands_whether_it_comes_before_the_move_or_after(
    synced: Archive, change: Change, kind: ChannelKind, members: set[str], moved_first: bool, is_listed: bool
) -> None:
    was = ChannelKind.PUBLIC if isinstance(change, ChannelPrivate | ChannelLost) else ChannelKind.PRIVATE
    if is_listed:
        listed(synced, was, "U1", "U2")
    else:
        take(synced, Membership(OLD, "U2", joined=True), at=LATER - 10)
    both = [(ChannelMoved(OLD, NEW), LATER - 5), (change, LATER)]
    for told, at in both if moved_first else reversed(both):
        take(synced, told, at=at)
    assert as_it_is(synced) == (kind, members)


def test_a_move_that_is_told_again_does_not_undo_a_later_one(synced: Archive) -> None:
    take(synced, ChannelMoved(OLD, NEW), at=LATER)
    take(synced, ChannelMoved(NEW, OLD), at=LATER + 1)
    take(synced, ChannelMoved(OLD, NEW), at=LATER)
    assert texts(synced, OLD) == ["Who goes?"]
    take(synced, Said(OLD, {"ts": "1700000001.000100", "user": "U1", "text": "And now?"}))
    assert texts(synced, OLD) == ["Who goes?", "And now?"]


def test_a_channel_that_slack_lists_under_its_former_id_has_it_again(slack: FakeSlack, synced: Archive) -> None:
    take(synced, ChannelMoved(OLD, NEW), at=time.time() - 60)
    assert texts(synced, NEW) == ["Who goes?"]
    sync(slack, synced)
    assert texts(synced, OLD) == ["Who goes?"]
    take(synced, Said(OLD, {"ts": "1700000001.000100", "user": "U1", "text": "And now?"}))
    assert texts(synced, OLD) == ["Who goes?", "And now?"]
    kinds = {channel.id: channel.kind for channel in synced.channels()}
    assert (kinds.get(OLD), kinds.get(NEW)) == (ChannelKind.PRIVATE, None)
