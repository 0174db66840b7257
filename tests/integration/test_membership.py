"""Who is in a channel and who may read it: what was known of earlier never undoes what is known of later."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen

from doppel.access import Readership
from doppel.archive import Archive
from doppel.ingest import EventStore, SyncStore, import_export, open_archive
from doppel.ingest.sync_store import Cursor
from doppel.records import Channel, ChannelKind, User
from doppel.slack.api import SlackApi
from doppel.slack.events import (
    Change,
    ChannelChanged,
    ChannelLost,
    ChannelPrivate,
    Membership,
    PersonChanged,
    changes_of,
)
from doppel.slack.export import open_export
from doppel.timestamps import micros, now_micros
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.syncing import sync
from tests.taking_in import take

PUBLIC, PRIVATE, UNKNOWN = ChannelKind.PUBLIC, ChannelKind.PRIVATE, ChannelKind.UNKNOWN
People = tuple[str, ...]
News = tuple[float, tuple[str, str | bool]]
"""When, and either a list of two or who joined or left."""


def channel(archive: Archive, id_: str = "C2") -> Channel:
    return next(c for c in archive.channels() if c.id == id_)


def directory(archive: Archive, at: float, kind: ChannelKind = PRIVATE, users: tuple[User, ...] = ()) -> SyncStore:
    """What a sync lists that asks at that time: one channel."""
    store = SyncStore(archive)
    listed = [Channel(TEAM, "C2", "secret", kind)]
    store.take_directory(TEAM, "https://acme.slack.com", users, listed, round(at * 1_000_000))
    return store


def members(archive: Archive, at: float, *people: str) -> None:
    """A list of members that a sync asked for at that time."""
    store = SyncStore(archive)
    store.take_directory(TEAM, "", (), [Channel(TEAM, "C2", "secret", PRIVATE)], 0)
    store.take_members(Cursor("C2", members_at=1), people, round(at * 1_000_000))


def export(folder: Path, at: float, people: People, kind: str = "groups.json", **more: Any) -> Path:
    """An export whose newest message is of that time: one channel with these members."""
    folder.mkdir(parents=True)
    listed = {"id": "C2", "name": "secret", "members": list(people), **more}
    everybody = [{"id": id_, "team_id": TEAM, "name": id_.lower()} for id_ in ("U1", "U2", "U3")]
    said = [{"type": "message", "ts": f"{at:.6f}", "user": "U1", "text": "The budget is cut.", "team": TEAM}]
    (folder / "secret").mkdir()
    for name, content in (("users.json", everybody), (kind, [listed]), ("secret/2026-01-01.json", said)):
        (folder / name).write_text(json.dumps(content))
    return folder


def take_export(archive: Archive, path: Path) -> None:
    with open_export(path) as opened:
        import_export(archive, opened)


@pytest.fixture
def known(archive: Archive) -> Archive:
    """U1 and U2 are in a private channel, as a sync found at 100."""
    directory(archive, 100)
    members(archive, 100, "U1", "U2")
    return archive


def test_an_export_does_not_undo_joins_and_leaves_that_came_after_it(known: Archive, tmp_path: Path) -> None:
    take(known, (Membership("C2", "U2", joined=False), 300), (Membership("C2", "U3", joined=True), 300))
    take_export(known, export(tmp_path / "export", 200, ("U1", "U2")))
    assert channel(known).members == ("U1", "U3")
    assert channel(known).uncertain == ()


def test_they_are_kept_from_an_export_by_another_process_too(known: Archive, where: Path | str, tmp_path: Path) -> None:
    take(known, (Membership("C2", "U2", joined=False), 300))
    with open_archive(where) as other:
        take_export(other, export(tmp_path / "export", 200, ("U1", "U2")))
        take(other, (Membership("C2", "U2", joined=True), 250))
        assert channel(other).members == ("U1",)
    assert channel(known).members == ("U1",)


def test_a_later_export_knows_better(known: Archive, tmp_path: Path) -> None:
    take(known, (Membership("C2", "U2", joined=False), 150))
    take_export(known, export(tmp_path / "export", 200, ("U2", "U3")))
    assert channel(known).members == ("U2", "U3")
    take_export(known, export(tmp_path / "older", 120, ("U1",)))
    assert channel(known).members == ("U2", "U3")


def test_a_sync_loses_no_join_or_leave_between_its_call_and_its_write(known: Archive) -> None:
    take(known, (Membership("C2", "U2", joined=False), 205), (Membership("C2", "U3", joined=True), 205))
    members(known, 200, "U1", "U2")
    assert channel(known).members == ("U1", "U3")
    members(known, 210, "U1", "U2")
    assert channel(known).members == ("U1", "U2")


def test_an_event_from_before_the_list_was_asked_for_says_nothing_new(known: Archive) -> None:
    revision = known.revision()
    take(known, (Membership("C2", "U2", joined=False), 90))
    assert channel(known).members == ("U1", "U2")
    assert known.revision() == revision


def test_where_two_of_one_time_differ_a_person_reads_nothing_and_counts_as_a_reader(known: Archive) -> None:
    take(known, (Membership("C2", "U2", joined=False), 100), (Membership("C2", "U3", joined=True), 100))
    found = channel(known)
    assert (found.members, set(found.uncertain)) == (("U1",), {"U2", "U3"})
    people = [User(TEAM, id_, "") for id_ in ("U1", "U2", "U3")]
    readable = {id_: Readership.of_person(TEAM, id_, people).readable([found]) for id_ in ("U1", "U2", "U3")}
    assert {id_ for id_, channels in readable.items() if channels} == {"U1"}
    here = Readership.of_channel(found, TEAM, people)
    assert set(here.people or ()) == {"U1", "U2", "U3"}
    both = Channel(TEAM, "C3", "plans", PRIVATE, ("U1", "U2"))
    assert here.readable([both]) == frozenset()


def test_a_guest_who_may_be_in_a_public_channel_counts_as_a_reader() -> None:
    here = Channel(TEAM, "C1", "general", PUBLIC, ("U1",), uncertain=("U9",))
    people = [User(TEAM, "U1", ""), User(TEAM, "U9", "", is_guest=True)]
    elsewhere = Channel(TEAM, "C4", "lounge", PUBLIC, ("U1",))
    assert Readership.of_channel(here, TEAM, people).readable([elsewhere]) == frozenset()


def test_two_lists_of_one_time_that_differ_leave_the_difference_uncertain(archive: Archive, tmp_path: Path) -> None:
    take_export(archive, export(tmp_path / "one", 200, ("U1", "U2")))
    take_export(archive, export(tmp_path / "two", 200, ("U1", "U3")))
    found = channel(archive)
    assert (found.members, set(found.uncertain)) == (("U1",), {"U2", "U3"})
    take(archive, (Membership("C2", "U3", joined=True), 201))
    assert channel(archive).members == ("U1", "U3")


def test_who_joins_a_channel_whose_members_were_never_read_opens_nothing(archive: Archive) -> None:
    directory(archive, 100)
    take(archive, (Membership("C2", "U3", joined=True), 200))
    assert channel(archive).members == ()
    assert Readership.of_channel(channel(archive), TEAM, ()).readable([channel(archive)]) == frozenset()
    members(archive, 150, "U1", "U2")
    assert channel(archive).members == ("U1", "U2", "U3")


def test_the_order_in_which_news_comes_does_not_matter(archive: Archive) -> None:
    """Lists and events of one lively minute, in many orders and some twice: who is in is always the same."""
    events = (
        *((5, "U3", True), (20, "U2", False), (30, "U4", True)),
        *((35, "U3", False), (40, "U5", True), (40, "U5", False)),
    )
    news: list[News] = [(10, ("U1", "U2")), (30, ("U1", "U3")), *((at, (who, joined)) for at, who, joined in events)]
    orders = random.Random(4).sample(list(itertools.permutations(news)), 40)
    channels = [Channel(TEAM, f"C{number}", f"room-{number}", PRIVATE) for number in range(len(orders))]
    store = SyncStore(archive)
    store.take_directory(TEAM, "", (), channels, 1)
    for place, order in zip(channels, orders, strict=True):
        for at, (first, second) in (*order, order[3], order[0]):
            if isinstance(second, bool):
                take(archive, (Membership(place.id, first, second), at))
            else:
                store.take_members(Cursor(place.id), [first, second], round(at * 1_000_000))
    assert {(c.members, c.uncertain) for c in archive.channels()} == {(("U1",), ("U4", "U5"))}


def test_a_channel_made_private_stays_so_whatever_comes_late(archive: Archive, tmp_path: Path) -> None:
    directory(archive, 100, PUBLIC)
    take(archive, (ChannelPrivate("C2"), 300))
    directory(archive, 200, PUBLIC)
    assert channel(archive).kind is PRIVATE
    take_export(archive, export(tmp_path / "export", 250, ("U1",), "channels.json"))
    assert channel(archive).kind is PRIVATE
    directory(archive, 300, PUBLIC)
    assert channel(archive).kind is PRIVATE
    directory(archive, 301, PUBLIC)
    assert channel(archive).kind is PUBLIC


def test_a_later_rename_does_not_hide_that_a_channel_was_made_private(archive: Archive) -> None:
    directory(archive, 100, PUBLIC)
    take(archive, (ChannelChanged("C2", name="secrets"), 400), (ChannelPrivate("C2"), 300))
    assert (channel(archive).kind, channel(archive).name) == (PRIVATE, "secrets")


def test_a_later_rename_does_not_keep_a_list_from_saying_that_a_channel_is_private(archive: Archive) -> None:
    directory(archive, 100, PUBLIC)
    take(archive, (ChannelChanged("C2", archived=True), 400), (ChannelChanged("C2", name="secrets"), 350))
    directory(archive, 300, PRIVATE)
    found = channel(archive)
    assert (found.kind, found.name, found.archived) == (PRIVATE, "secrets", True)


@pytest.mark.parametrize(("change", "kind"), [(ChannelPrivate("C2"), PRIVATE), (ChannelLost("C2"), UNKNOWN)])
def test_what_an_event_says_of_a_channel_that_a_sync_has_still_to_write_holds(
    archive: Archive, change: Change, kind: ChannelKind
) -> None:
    SyncStore(archive).take_directory(TEAM, "", (), (), 100)
    take(archive, (change, 201))
    directory(archive, 200, PUBLIC)
    assert (channel(archive).kind, channel(archive).name) == (kind, "secret")


def test_a_list_that_lacks_a_channel_hides_it_unless_it_is_older(known: Archive) -> None:
    store = SyncStore(known)
    store.take_directory(TEAM, "", (), (), 90_000_000)
    assert channel(known).kind is PRIVATE
    store.take_directory(TEAM, "", (), (), 100_000_000)
    assert channel(known).kind is UNKNOWN
    directory(known, 101)
    assert channel(known).kind is PRIVATE


def test_an_address_is_not_set_back(archive: Archive) -> None:
    for at, url in ((200, "https://new.slack.com/"), (100, "https://old.slack.com/")):
        SyncStore(archive).take_directory(TEAM, url, (), (), at)
    assert archive.permalink((TEAM, "C2"), "1.000002").startswith("https://new.slack.com/")


def test_a_guest_stays_one_and_who_is_deactivated_stays_so_where_two_of_one_time_differ(archive: Archive) -> None:
    directory(archive, 100, users=(User(TEAM, "U1", "ada"), User(TEAM, "U2", "grace", is_guest=True)))
    raw = {"id": "U1", "name": "ada", "is_restricted": True, "deleted": True}
    take(archive, (PersonChanged(raw), 100), (PersonChanged({"id": "U2", "name": "hopper"}), 100))
    found = {user.id: (user.handle, user.is_guest, user.deleted) for user in archive.users()}
    assert found == {"U1": ("ada", True, True), "U2": ("grace", True, False)}
    directory(archive, 99, users=(User(TEAM, "U1", "ada"),))
    assert {user.id: user.is_guest for user in archive.users()}["U1"]


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", id="U1"), made.user("grace", id="U2")
    made.user("lin", id="U3")
    made.channel("general", ada, grace, id="C1")
    made.channel("secret", ada, grace, id="C2", kind="private")
    made.post("general", ada, "Hello")
    return made


def after_call(
    monkeypatch: pytest.MonkeyPatch, method: str, happen: Callable[[], object], channel: str | None = None
) -> None:
    """Let something happen once Slack has answered a method, for a channel, before the answer is written."""
    call = SlackApi.call

    def wrapped(api: SlackApi, called: str, **params: Any) -> Any:
        answer = call(api, called, **params)
        if called == method and params.get("channel") == channel:
            happen()
        return answer

    monkeypatch.setattr(SlackApi, "call", wrapped)


def test_what_happens_while_slack_is_asked_who_is_in_holds(
    slack: FakeSlack, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(slack, archive)

    def move() -> None:
        slack.workspace.leave("secret", "U2")
        slack.workspace.join("secret", "U3")
        hear(slack, archive)

    slack.workspace.join("secret", slack.workspace.user("joan", id="U4"))
    after_call(monkeypatch, "conversations.members", move, "C2")
    sync(slack, archive)
    assert set(channel(archive).members) == {"U1", "U3", "U4", BOT}
    monkeypatch.undo()
    slack.calls.clear()
    sync(slack, archive)
    assert slack.count("conversations.members") == 1
    assert set(channel(archive).members) == {"U1", "U3", "U4", BOT}
    assert channel(archive).uncertain == ()


def test_a_channel_made_private_while_slack_lists_the_channels_stays_private(
    slack: FakeSlack, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(slack, archive)
    slack.workspace.channel("plans", "U1", id="C3")

    def convert() -> None:
        if slack.workspace.find("C3").kind == "public":
            slack.workspace.convert_to_private("C1")
            slack.workspace.convert_to_private("C3")
            hear(slack, archive)

    after_call(monkeypatch, "conversations.list", convert)
    sync(slack, archive)
    assert {channel(archive, id_).kind for id_ in ("C1", "C3")} == {PRIVATE}


def test_after_a_gap_in_the_events_members_are_read_again(slack: FakeSlack, archive: Archive) -> None:
    sync(slack, archive)
    slack.workspace.leave("secret", "U2")
    slack.workspace.join("secret", "U3")
    now = now_micros()
    EventStore(archive, TEAM).listen(now, now)
    sync(slack, archive)
    assert set(channel(archive).members) == {"U1", "U3", BOT}
    slack.calls.clear()
    EventStore(archive, TEAM).listen(now, now_micros())
    sync(slack, archive)
    assert slack.count("conversations.members") == 0


def hear(slack: FakeSlack, archive: Archive) -> None:
    """Take in every event there was."""
    events = EventStore(archive, TEAM)
    for event in list(slack.workspace.events):
        events.take([(change, micros(event["event_ts"])) for change in changes_of(event, BOT)])


def test_a_large_channel_stays_workable(archive: Archive) -> None:
    directory(archive, 100)
    people = [f"U{number}" for number in range(20_000)]
    members(archive, 100, *people)
    take(
        archive, *((Membership("C2", f"U{number}", number >= 20_000), 200 + number) for number in range(19_900, 20_100))
    )
    assert len(channel(archive).members) == 20_000
    assert list(channel(archive).members)[-1] == "U20099"


def test_an_import_reads_all_lists_of_members_at_once(archive: Archive, tmp_path: Path) -> None:
    statements: list[int] = []
    listen(archive._engine, "before_cursor_execute", lambda *_: statements.__setitem__(-1, statements[-1] + 1))
    for channels in (3, 60):
        for at, people in (("1700000000.1", ["U1"]), ("1700000001.1", ["U1", "U2"])):
            builder = ExportBuilder(f"T{channels}").user("U1", "ada")
            for number in range(channels):
                builder.channel(f"C{channels}X{number}", f"c{number}", *people)
            statements.append(0)
            with open_export(builder.say("c0", at, "hi").zip(tmp_path / "export.zip")) as export:
                import_export(archive, export)
    assert statements[2:] == statements[:2]
