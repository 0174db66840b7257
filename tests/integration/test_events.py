"""Slack's events into the archive: the same as a sync would read, and since when nothing is missing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import Any

import pytest

from doppel.archive import Archive
from doppel.archive.channels import merge_channels
from doppel.archive.directory import merge_team
from doppel.archive.restrictions import Limit, Restriction
from doppel.ingest import EventStore, import_export, open_archive
from doppel.ingest.event_store import restrictions_of
from doppel.records import ChannelKind, MessageKind
from doppel.slack.events import (
    Change,
    ChannelChanged,
    ChannelLost,
    ChannelMoved,
    ChannelNarrower,
    ChannelPrivate,
    ChannelUnread,
    Deleted,
    Membership,
    PersonChanged,
    Reacted,
    Said,
    changes_of,
)
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.listening import heard_since, listening
from tests.syncing import Rows, rows, sync
from tests.taking_in import take


@pytest.fixture
def workspace() -> Workspace:
    """Two people, a public and a private channel, and a thread."""
    made = Workspace()
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.channel("general", ada, grace, id="C1")
    made.channel("secret", ada, id="C2", kind="private")
    made.channel("", ada, id="D1", kind="im")
    root = made.post("general", ada, "Why did we drop Kafka?")
    made.post("general", grace, "It woke us at night.", thread_ts=root)
    made.post("general", grace, "Lunch?")
    return made


def live(workspace: Workspace, chance: random.Random) -> None:
    """A lively quarter of an hour: everything that may happen to messages, channels and people."""
    general = workspace.find("general")
    root, lunch = next(iter(general.log))["ts"], list(general.log)[-1]["ts"]
    for number in range(20):
        workspace.post("general", chance.choice(["U1", "U2"]), f"Note {number}")
    reply = workspace.post("general", "U1", "And cost us money.", thread_ts=root)
    workspace.post("general", "U2", "A broadcast.", thread_ts=root, broadcast=True)
    workspace.edit("general", reply, "And cost us a lot of money.")
    workspace.delete("general", lunch)
    gone = workspace.post("general", "U2", "Too early.", thread_ts=root)
    workspace.delete("general", gone)
    workspace.react("general", root, "U2", "+1")
    workspace.react("general", root, "U1", "+1")
    workspace.react("general", root, "U2", "+1", remove=True)
    workspace.post("secret", "U1", "The budget is cut.")
    workspace.post("general", BOT, "As an AI, I say so.", bot_id="B0FAKEBOT1", subtype="bot_message")
    workspace.post("D1", "U1", "Between us.")
    lin = workspace.user("lin", "Lin Clark", id="U3")
    workspace.join("general", lin)
    workspace.post("general", lin, f"Hello <@U2>, see <#{workspace.find('secret').id}>")
    workspace.update_user("U2", profile={"display_name": "amazing grace"})
    workspace.rename_channel("general", "everyone", "U1")
    workspace.leave("secret", "U1")
    workspace.archive_channel("secret", "U1")


def said(archive: Archive) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(m.channel, m.ts): (m.text, m.kind, m.author, m.thread_ts) for m in archive.messages() if m.text}


def living(archive: Archive) -> Rows:
    """All rows, but for what is left of deleted messages: who came later never saw those."""
    found = rows(archive)
    found["messages"] = {key: row for key, row in found["messages"].items() if row["subtype"] != "tombstone"}
    return found


def known(archive: Archive) -> tuple[Any, ...]:
    """What was said, the channels with who is in them, and the people."""
    channels = {c.id: (c.name, c.kind, c.archived, set(c.members)) for c in archive.channels()}
    return said(archive), channels, archive.users()


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_events_come_to_the_same_as_a_sync(way: str, slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    sync(slack, archive)
    with open_archive(tmp_path / "fresh.db") as fresh:
        async with listening(slack, archive, tmp_path, way, duplicates=0.3, seed=3) as doppel:
            live(slack.workspace, random.Random(1))
            await doppel.settle()
            sync(slack, fresh)
            # Bolt takes up what comes side by side, so what settles may overtake what came before it.
            with contextlib.suppress(TimeoutError):
                await doppel.until(lambda: known(archive) == known(fresh))
            assert known(archive) == known(fresh)
        # What else Slack keeps on a message, such as how many replies it has, comes with the next sync.
        assert sync(slack, archive).added == 0
        assert living(archive) == living(fresh)
    kinds = {m.text: m.kind for m in archive.messages()}
    assert kinds["As an AI, I say so."] is MessageKind.BOT
    assert "Between us." not in kinds
    assert "Lunch?" not in kinds


async def test_events_may_come_in_disorder(slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    sync(slack, archive)
    async with listening(slack, archive, tmp_path, "http", duplicates=0.5, disorder=True, seed=5) as doppel:
        for number in range(30):
            ts = slack.workspace.post("general", "U1", f"Draft {number}")
            slack.workspace.edit("general", ts, f"Final {number}")
            if number % 3 == 0:
                slack.workspace.delete("general", ts)
        await doppel.settle()
    found = [m.text for m in archive.messages() if m.text.startswith(("Draft", "Final"))]
    assert found == [f"Final {number}" for number in range(30) if number % 3]


async def test_while_events_come_a_sync_reads_no_channel(slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    sync(slack, archive)
    async with listening(slack, archive, tmp_path, "socket") as doppel:
        await doppel.until(lambda: heard_since(archive, TEAM) is not None)
        sync(slack, archive)
        root = slack.workspace.post("general", "U2", "Is anybody there?")
        slack.workspace.post("general", "U1", "Yes.", thread_ts=root)
        await doppel.settle()
        slack.calls.clear()
        assert sync(slack, archive, channels=("general", "secret")).pages == 0
        about_all = {"auth.test", "users.list", "conversations.list", "usergroups.list"}
        assert {call.method for call in slack.calls} == about_all


async def test_after_a_gap_a_sync_is_asked_for_and_reads_it(slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    sync(slack, archive)
    async with listening(slack, archive, tmp_path, "socket") as doppel:
        await doppel.until(lambda: [job.kind for job in doppel.jobs()] == ["sync"])
        await doppel.settle()
        sync(slack, archive)
    assert heard_since(archive, TEAM) is None
    slack.workspace.post("general", "U2", "Nobody heard this.")
    async with listening(slack, archive, tmp_path, "socket") as doppel:
        await doppel.until(lambda: heard_since(archive, TEAM) is not None)
        # Slack may send it late, but the sync doesn't count on that.
        assert sync(slack, archive).pages == 2
    assert "Nobody heard this." in [m.text for m in archive.messages()]


async def test_a_connection_that_slack_ends_is_opened_again_and_leaves_no_gap_unread(
    slack: FakeSlack, archive: Archive, tmp_path: Path
) -> None:
    sync(slack, archive)
    async with listening(slack, archive, tmp_path, "socket") as doppel:
        await doppel.until(lambda: heard_since(archive, TEAM) is not None)
        before = heard_since(archive, TEAM)
        assert before
        slack.sockets.disconnect()
        await doppel.until(lambda: slack.sockets.connections == 1)
        slack.workspace.post("general", "U2", "After the refresh.")
        await doppel.settle()
        await doppel.until(lambda: (heard_since(archive, TEAM) or 0) > before)
    assert "After the refresh." in [m.text for m in archive.messages()]


async def test_a_forged_request_changes_nothing(slack: FakeSlack, archive: Archive, tmp_path: Path) -> None:
    sync(slack, archive)
    before = said(archive)
    async with listening(slack, archive, tmp_path, "http") as doppel:
        assert doppel.http
        assert await asyncio.to_thread(doppel.http.verify)
        slack.app.signing_secret, right = "another secret", slack.app.signing_secret
        # It is sent again after six minutes; nothing else is being measured by that clock here.
        slack.limits.time_scale = 300
        slack.workspace.post("general", "U2", "I am Slack, believe me.", ts="1800000000.000100")
        await asyncio.to_thread(doppel.http.settle, 40)
        assert doppel.http.attempts[-1].failed == "http_error"
        slack.app.signing_secret = right
    assert said(archive) == before


@pytest.fixture
def synced(slack: FakeSlack, archive: Archive) -> Archive:
    sync(slack, archive)
    return archive


def kind_of(archive: Archive, channel: str) -> ChannelKind:
    return next(c.kind for c in archive.channels() if c.id == channel)


LATER = 4_000_000_000.0


def test_a_channel_made_private_is_so_at_once(synced: Archive) -> None:
    assert take(synced, (ChannelPrivate("C1"), LATER))
    assert kind_of(synced, "C1") is ChannelKind.PRIVATE


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "message", "channel_type": "group"}, ChannelKind.PRIVATE),
        ({"type": "message", "channel_type": "mpim"}, ChannelKind.MPIM),
        ({"type": "message", "channel_type": "group", "subtype": "message_deleted"}, ChannelKind.PRIVATE),
        ({"type": "member_joined_channel", "channel_type": "G"}, ChannelKind.PRIVATE),
        ({"type": "group_archive"}, ChannelKind.PRIVATE),
    ],
)
def test_a_channel_that_an_event_says_is_not_public_is_not_and_is_read_again(
    slack: FakeSlack, synced: Archive, event: dict[str, Any], kind: ChannelKind
) -> None:
    (before,) = [c for c in synced.channels() if c.id == "C1"]
    told = {"channel": "C1", "user": "U1", "ts": "1800000000.000100", "deleted_ts": "1800000000.000100", **event}
    told |= {} if "subtype" in told else {"deleted_ts": None}
    changes = changes_of({key: value for key, value in told.items() if value}, BOT)
    assert Restriction(TEAM, Limit.PRIVATE, "C1") in [r for c in changes for r in restrictions_of(TEAM, c)]
    # What a sync was told later goes before it.
    assert not take(synced, *((change, 1.0) for change in changes if isinstance(change, ChannelNarrower)))
    assert kind_of(synced, "C1") is ChannelKind.PUBLIC
    at = time.time() + 1
    assert take(synced, *((change, at) for change in changes))
    (now,) = [c for c in synced.channels() if c.id == "C1"]
    assert (now.kind, set(now.members) & set(before.members) - {"U1"}) == (kind, set())
    assert set(now.uncertain) >= set(before.members) - {"U1"}
    assert not take(synced, *((change, at + 1) for change in changes if isinstance(change, ChannelNarrower)))
    time.sleep(max(0, at + 1 - time.time()))
    sync(slack, synced)
    (after,) = [c for c in synced.channels() if c.id == "C1"]
    assert (after.kind, set(after.members)) == (ChannelKind.PUBLIC, set(before.members))


def test_a_channel_that_is_known_by_an_event_alone_is_not_public_by_an_older_export(archive: Archive) -> None:
    narrower, said = changes_of(MESSAGE | {"channel": "C9", "channel_type": "group"}, BOT)
    with archive.writing() as connection:
        merge_team(connection, [TEAM], [])
    take(archive, (narrower, 1_700_000_009.0), (said, 1_700_000_009.0))
    with archive.writing() as connection:
        merge_channels(connection, TEAM, [{"id": "C9", "name": "plans", "kind": ChannelKind.PUBLIC}], 1_700_000_000)
    assert kind_of(archive, "C9") is ChannelKind.PRIVATE


def test_no_event_makes_a_channel_that_is_lost_readable(synced: Archive) -> None:
    take(synced, (ChannelLost("C1"), LATER), (ChannelNarrower("C1", ChannelKind.PRIVATE), LATER + 1))
    assert kind_of(synced, "C1") is ChannelKind.UNKNOWN


def test_mentions_of_a_channel_made_private_hide_its_name(synced: Archive) -> None:
    take(synced, (Said("C1", {"type": "message", "ts": "1800000000.000100", "user": "U1", "text": "see <#C1>"}), 1.0))
    take(synced, (Said("C2", {"type": "message", "ts": "1800000000.000200", "user": "U1", "text": "see <#C1>"}), 1.0))
    take(synced, (ChannelPrivate("C1"), LATER))
    said = {m.channel: m.text for m in synced.messages() if m.text.startswith("see")}
    assert said == {"C1": "see #general", "C2": "see #private-channel"}


def test_a_channel_that_the_bot_is_put_out_of_is_read_by_nobody(synced: Archive) -> None:
    assert not take(synced, (ChannelLost("C1"), LATER))
    assert kind_of(synced, "C1") is ChannelKind.UNKNOWN


def test_a_message_of_an_unknown_channel_is_kept_for_the_operator_and_a_sync_is_asked_for(synced: Archive) -> None:
    raw = {"type": "message", "ts": "1800000000.000100", "user": "U1", "text": "hello"}
    assert take(synced, (Said("C9", raw), LATER))
    assert kind_of(synced, "C9") is ChannelKind.UNKNOWN
    assert not take(synced, (Said("C9", raw), LATER))


def test_before_the_first_sync_nothing_is_taken(archive: Archive) -> None:
    assert take(archive, (Said("C1", {"type": "message", "ts": "1.5", "user": "U1", "text": "hi"}), LATER))
    assert archive.counts().messages == 0


def test_who_left_is_out_even_if_the_news_of_joining_comes_later(synced: Archive) -> None:
    events = EventStore(synced, TEAM)
    events.take([(Membership("C2", "U2", joined=False), 20), (Membership("C2", "U2", joined=True), 10)])
    assert next(c.members for c in synced.channels() if c.id == "C2") == ("U1", BOT)


def test_a_change_counts_once(synced: Archive) -> None:
    raw = {"type": "message", "ts": "1800000000.000100", "user": "U1", "text": "hello"}
    take(synced, (Said("C1", raw), LATER))
    revision = synced.revision()
    take(
        synced, (Said("C1", raw), LATER), (Deleted("C1", "1.5"), LATER), (Reacted("C1", "1.5", "U1", "x", True), LATER)
    )
    assert synced.revision() == revision


def test_a_deletion_is_not_undone_by_a_late_event(synced: Archive) -> None:
    raw = {"type": "message", "ts": "1800000000.000100", "user": "U1", "text": "hello"}
    take(
        synced, (Said("C1", raw), LATER), (Deleted("C1", "1800000000.000100"), LATER + 1), (Said("C1", raw), LATER + 2)
    )
    assert "hello" not in [m.text for m in synced.messages()]


MESSAGE = {"type": "message", "channel": "C1", "channel_type": "channel", "ts": "2.5", "user": "U1", "text": "x"}
RAW = {"type": "message", "ts": "2.5", "user": "U1", "text": "x"}


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (MESSAGE | {"event_ts": "2.5"}, [Said("C1", RAW)]),
        (MESSAGE | {"channel_type": "im"}, []),
        (MESSAGE | {"channel_type": "mpim"}, [ChannelNarrower("C1", ChannelKind.MPIM), Said("C1", RAW)]),
        (MESSAGE | {"channel_type": "group"}, [ChannelNarrower("C1", ChannelKind.PRIVATE), Said("C1", RAW)]),
        (
            MESSAGE | {"channel_type": "group", "subtype": "message_deleted", "deleted_ts": "2.5"},
            [ChannelNarrower("C1", ChannelKind.PRIVATE), Deleted("C1", "2.5")],
        ),
        ({"type": "message", "ts": "2.5"}, []),
        (MESSAGE | {"subtype": "message_changed", "message": RAW, "ts": "3.5"}, [Said("C1", RAW)]),
        (MESSAGE | {"subtype": "message_changed", "message": "x"}, []),
        (MESSAGE | {"subtype": "message_deleted", "deleted_ts": "2.5"}, [Deleted("C1", "2.5")]),
        (MESSAGE | {"subtype": "message_deleted"}, []),
        (MESSAGE | {"subtype": "message_replied"}, []),
        (
            MESSAGE | {"subtype": "channel_convert_to_private"},
            [ChannelPrivate("C1"), Said("C1", RAW | {"subtype": "channel_convert_to_private"})],
        ),
        ({"type": "member_joined_channel", "channel": "C1", "user": "U1"}, [Membership("C1", "U1", True)]),
        (
            {"type": "member_left_channel", "channel": "C1", "user": "U1", "channel_type": "G"},
            [ChannelNarrower("C1", ChannelKind.PRIVATE), Membership("C1", "U1", False)],
        ),
        ({"type": "member_joined_channel", "channel": "C1", "user": BOT}, [ChannelUnread("C1")]),
        ({"type": "member_left_channel", "channel": "C1", "user": BOT}, [ChannelLost("C1")]),
        (
            {"type": "group_left", "channel": "C1"},
            [ChannelNarrower("C1", ChannelKind.PRIVATE), ChannelLost("C1")],
        ),
        ({"type": "channel_deleted", "channel": "C1"}, [ChannelLost("C1")]),
        ({"type": "channel_rename", "channel": {"id": "C1", "name": "new"}}, [ChannelChanged("C1", name="new")]),
        (
            {"type": "group_unarchive", "channel": "C1"},
            [ChannelNarrower("C1", ChannelKind.PRIVATE), ChannelChanged("C1", archived=False)],
        ),
        ({"type": "channel_history_changed", "channel": "C1"}, [ChannelUnread("C1")]),
        ({"type": "user_change", "user": {"id": "U1"}}, [PersonChanged({"id": "U1"})]),
        ({"type": "user_change", "user": "U1"}, []),
        (
            {
                "type": "reaction_added",
                "user": "U1",
                "reaction": "+1",
                "item": {"type": "message", "channel": "C1", "ts": "2.5"},
            },
            [Reacted("C1", "2.5", "U1", "+1", True)],
        ),
        ({"type": "reaction_added", "user": "U1", "reaction": "+1", "item": {"type": "file"}}, []),
        ({"type": "app_home_opened", "user": "U1", "channel": "D1"}, []),
        ({}, []),
    ],
)
def test_what_an_event_changes(event: dict[str, Any], changes: list[Change]) -> None:
    assert changes_of(event, BOT) == changes


def told(event: dict[str, Any], archive: Archive, at: float = LATER) -> None:
    """An event with no `channel_type`, as Slack sends some."""
    take(archive, *((change, at) for change in changes_of({"type": "message", **event}, BOT)))


def texts(archive: Archive, channel: str) -> list[str]:
    return [m.text for m in archive.messages() if m.channel == channel and m.text]


def in_channel(slack: FakeSlack, text: str) -> dict[str, Any]:
    return next(raw for raw in slack.workspace.find("C1").log if raw["text"] == text)


@pytest.mark.parametrize("channel_type", [{}, {"channel_type": ""}, {"channel_type": None}])
def test_an_edit_or_a_deletion_need_not_say_what_kind_of_channel_it_is_of(
    slack: FakeSlack, synced: Archive, channel_type: dict[str, Any]
) -> None:
    lunch, root = in_channel(slack, "Lunch?"), in_channel(slack, "Why did we drop Kafka?")
    told({"subtype": "message_deleted", "channel": "C1", "deleted_ts": lunch["ts"], **channel_type}, synced)
    edited = {**root, "text": "Why did we keep Kafka?", "edited": {"user": "U1", "ts": "4000000000.000000"}}
    told({"subtype": "message_changed", "channel": "C1", "message": edited, **channel_type}, synced)
    told({"channel": "C1", "user": "U1", "ts": "1800000000.000100", "text": "New.", **channel_type}, synced)
    assert texts(synced, "C1") == ["Why did we keep Kafka?", "It woke us at night.", "New."]


def test_a_deletion_may_tell_its_message_by_what_that_was(slack: FakeSlack, synced: Archive) -> None:
    lunch = in_channel(slack, "Lunch?")
    told({"subtype": "message_deleted", "channel": "C1", "previous_message": lunch}, synced)
    assert "Lunch?" not in texts(synced, "C1")


@pytest.mark.parametrize("channel", ["C404", "D1"])
def test_of_a_channel_that_nobody_knows_nothing_is_taken(synced: Archive, channel: str) -> None:
    before = synced.channels()
    new = {"user": "U1", "ts": "1800000000.000100", "text": "Between us."}
    told({"channel": channel, **new}, synced)
    told({"subtype": "message_changed", "channel": channel, "message": new}, synced)
    told({"subtype": "message_deleted", "channel": channel, "deleted_ts": new["ts"]}, synced)
    assert texts(synced, channel) == []
    assert synced.channels() == before


@pytest.mark.parametrize("channel_type", [{}, {"channel_type": "im"}])
def test_what_an_export_brought_of_a_direct_conversation_is_edited_and_deleted(
    tmp_path: Path, archive: Archive, channel_type: dict[str, Any]
) -> None:
    builder = ExportBuilder(TEAM).user("U1", "ada").channel("C1", "general")
    builder.channel("D1", "", "U1", "U2", list_="dms")
    builder.say("D1", "1700000000.000100", "Mine.").say("D1", "1700000060.000100", "Gone.")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        import_export(archive, export)
    told({"subtype": "message_deleted", "channel": "D1", "deleted_ts": "1700000060.000100", **channel_type}, archive)
    mine = {"user": "U1", "ts": "1700000000.000100", "text": "Ours.", "edited": {"ts": "4000000000.000000"}}
    told({"subtype": "message_changed", "channel": "D1", "message": mine, **channel_type}, archive)
    told({"channel": "D1", "user": "U1", "ts": "1800000000.000100", "text": "More.", **channel_type}, archive)
    assert texts(archive, "D1") == ["Ours."]


MOVED = {"type": "channel_id_changed", "old_channel_id": "C2", "new_channel_id": "C9", "event_ts": "4000000000.000000"}


@pytest.mark.parametrize("said_before", [False, True])
def test_a_channel_with_a_new_id_is_the_same_channel(slack: FakeSlack, archive: Archive, said_before: bool) -> None:
    slack.workspace.post("secret", "U1", "The budget is cut.")
    sync(slack, archive)
    (old,) = [c for c in archive.channels() if c.id == "C2"]
    message = {"ts": "1800000000.000100", "user": "U1", "text": "Under the new id."}
    if said_before:
        take(archive, (Said("C9", message), 1.0))
    assert take(archive, *((change, LATER) for change in changes_of(MOVED, BOT)))
    (now,) = [c for c in archive.channels() if c.id in ("C2", "C9")]
    assert (now.id, now.name, now.kind, now.members) == ("C9", old.name, old.kind, old.members)
    assert texts(archive, "C9") == ["The budget is cut.", *(["Under the new id."] if said_before else [])]
    assert texts(archive, "C2") == []
    take(archive, (Membership("C9", "U1", joined=False), LATER + 1))
    (now,) = [c for c in archive.channels() if c.id == "C9"]
    assert "U1" not in now.members
    assert take(archive, (ChannelMoved("C2", "C9"), LATER))
    assert texts(archive, "C9")[0] == "The budget is cut."


def test_a_channel_that_is_still_to_be_moved_is_read_by_nobody(synced: Archive) -> None:
    events, moved = EventStore(synced, TEAM), [(ChannelMoved("C2", "C9"), round(LATER * 1_000_000))]
    events.hear(moved)
    assert kind_of(synced, "C2") is ChannelKind.UNKNOWN
    events.take(moved)
    events.written(moved)
    assert kind_of(synced, "C9") is ChannelKind.PRIVATE


def test_a_new_id_for_a_channel_that_nobody_knows_asks_for_a_sync(synced: Archive) -> None:
    before = synced.channels()
    assert take(synced, (ChannelMoved("C404", "C405"), LATER))
    assert synced.channels() == before


@pytest.mark.parametrize("change", [{"old_channel_id": 5}, {"new_channel_id": ""}, {"new_channel_id": "C2"}])
def test_a_new_id_that_is_none_changes_nothing(change: dict[str, Any]) -> None:
    assert changes_of(MOVED | change, BOT) == []
