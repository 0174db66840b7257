"""What a question is told of who may what: the same as the archive holds, whatever was changed and by whom."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.event import listen, remove

from doppel.access import ConsentAction, Readership, ReadPolicy
from doppel.archive import Archive, database, tables
from doppel.archive.snapshots import Snapshot
from doppel.errors import UnknownUserError
from doppel.ingest import EventStore, SyncStore, forget_person, open_archive
from doppel.ingest.sync_store import Cursor
from doppel.records import Channel, ChannelKind, User
from doppel.slack.events import (
    Change,
    ChannelChanged,
    ChannelLost,
    ChannelMoved,
    ChannelPrivate,
    Membership,
    PersonChanged,
    Said,
)
from tests.fakes.slack import TEAM
from tests.integration.test_membership import export, take_export

PEOPLE = [f"U{number}" for number in range(1, 7)]
CHANNELS = ["C1", "C2", "C3", "D1"]


def told(snapshot: Snapshot) -> dict[str, Any]:
    """All that a snapshot says of the workspace."""
    users = [snapshot.user(TEAM, id_) for id_ in [*PEOPLE, "U9"]]
    channels = {c.id: (c.name, c.kind, set(c.members), set(c.uncertain), c.archived) for c in snapshot.channels}
    places = [snapshot.alone(TEAM, id_) for id_ in PEOPLE] + [snapshot.together((TEAM, c), "U1") for c in CHANNELS]
    return {
        "users": users,
        "channels": channels,
        "consent": [snapshot.consent(user) for user in users if user],
        "readable": [snapshot.readable(place) for place in places],
        "clean": snapshot.clean,
        "link": snapshot.permalink((TEAM, "C1"), "1.5"),
    }


def stored(archive: Archive) -> dict[str, Any]:
    """The same, read from the archive's tables."""
    users, channels = archive.users(TEAM), [c for c in archive.channels() if c.team == TEAM]
    by_id, places = {user.id: user for user in users}, {channel.id: channel for channel in channels}
    readers = [Readership.of_person(TEAM, id_, users) for id_ in PEOPLE]
    readers += [Readership.of_channel(places.get(id_), TEAM, users, "U1") for id_ in CHANNELS]
    return {
        "users": [by_id.get(id_) for id_ in [*PEOPLE, "U9"]],
        "channels": {c.id: (c.name, c.kind, set(c.members), set(c.uncertain), c.archived) for c in channels},
        "consent": [archive.consent_records(by_id[id_]) for id_ in [*PEOPLE, "U9"] if id_ in by_id],
        "readable": [reader.readable(channels) for reader in readers],
        "clean": archive.clean_revision(),
        "link": archive.permalink((TEAM, "C1"), "1.5"),
    }


@pytest.fixture
def team(archive: Archive) -> Archive:
    """A workspace of six people in a public channel, two private ones and a direct conversation."""
    kinds = (ChannelKind.PUBLIC, ChannelKind.PRIVATE, ChannelKind.PRIVATE, ChannelKind.IM)
    listed = [Channel(TEAM, id_, id_.lower(), kind) for id_, kind in zip(CHANNELS, kinds, strict=True)]
    people = [User(TEAM, id_, id_.lower(), is_guest=id_ == "U6") for id_ in PEOPLE]
    store = SyncStore(archive)
    store.take_directory(TEAM, "https://acme.slack.com", people, listed, 100_000_000)
    for id_, there in (("C1", PEOPLE[:3]), ("C2", ["U1", "U2"]), ("C3", ["U2", "U6"]), ("D1", ["U1", "U3"])):
        store.take_members(Cursor(id_, members_at=1), there, 100_000_000)
    return archive


def person(chance: random.Random) -> PersonChanged:
    id_ = chance.choice([*PEOPLE, "U9"])
    flags = {name: chance.random() < 0.3 for name in ("is_restricted", "deleted")}
    return PersonChanged({"id": id_, "team_id": TEAM, "name": chance.choice(("ada", "grace", id_.lower())), **flags})


def changes(chance: random.Random) -> Iterator[Change]:
    """Whatever Slack may tell."""
    while True:
        channel, other = chance.choice(CHANNELS), chance.choice(["C7", "C8"])
        yield chance.choice(
            (
                Membership(channel, chance.choice(PEOPLE), joined=chance.random() < 0.5),
                Membership(channel, chance.choice(PEOPLE), joined=chance.random() < 0.5),
                person(chance),
                person(chance),
                ChannelPrivate(channel),
                ChannelLost(channel),
                ChannelMoved(channel, other),
                ChannelChanged(channel, name=chance.choice(("general", "random")), archived=chance.random() < 0.5),
                Said("C1", {"type": "message", "ts": f"{chance.random():.6f}", "user": "U1", "text": "Hm."}, False),
            )
        )


def do(archive: Archive, folder: Path, chance: random.Random, change: Change, at: int) -> None:
    """Whatever is done to an archive."""
    user, people = User(TEAM, chance.choice(PEOPLE), ""), tuple(chance.sample(PEOPLE, 3))
    listed = Channel(TEAM, chance.choice(CHANNELS), "again", chance.choice((ChannelKind.PUBLIC, ChannelKind.MPIM)))
    match chance.randrange(8):
        case 0:
            archive.record_consent(user, chance.choice(list(ConsentAction)), "tests")
        case 1:
            forget_person(archive, user, messages=chance.random() < 0.5, by="tests")
        case 2:
            take_export(archive, export(folder / str(chance.random()), at / 1e6, people))
        case 3:
            store = SyncStore(archive)
            store.take_directory(TEAM, "https://b.slack.com", (), [listed], at)
            store.take_members(Cursor(listed.id, members_at=1), people, at)
        case _:
            EventStore(archive, TEAM).take([(change, at)])


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_says_what_is_stored_whatever_was_done(
    team: Archive, where: Path | str, tmp_path: Path, seed: int
) -> None:
    """Also to a process that only looks on, and to one that has just begun."""
    with open_archive(where) as onlooker:
        onlooker.snapshot(TEAM)
        chance, at = random.Random(seed), 200_000_000
        for change in islice(changes(chance), 60):
            at += chance.choice((0, 1_000_000, 50_000_000))
            do(team, tmp_path, chance, change, at)
            expected = stored(team)
            assert told(team.snapshot(TEAM)) == expected
            assert told(onlooker.snapshot(TEAM)) == expected
        with open_archive(where) as begun:
            assert told(begun.snapshot(TEAM)) == expected
        team.erase(TEAM)
        assert told(onlooker.snapshot(TEAM)) == stored(team)
        assert onlooker.snapshot(TEAM).channels == []
        assert onlooker.snapshot().views == {}


def test_what_was_taken_stays_as_it_is(team: Archive) -> None:
    before = team.snapshot(TEAM)
    said = told(before)
    EventStore(team, TEAM).take(
        [(Membership("C2", "U2", joined=False), 300_000_000), (ChannelPrivate("C1"), 300_000_000)]
    )
    assert told(before) == said
    assert told(team.snapshot(TEAM)) != said


def revision(archive: Archive) -> int:
    t = tables.revisions
    with database.reading(archive._engine, archive.backend) as connection:
        return connection.scalar(select(func.max(t.c.revision)).where(t.c.team == TEAM)) or 0


def test_messages_count_nothing_and_a_sync_that_brings_nothing_new_neither(team: Archive) -> None:
    people = [User(TEAM, id_, id_.lower(), is_guest=id_ == "U6") for id_ in PEOPLE]
    listed = [channel for channel in team.channels() if channel.kind is not ChannelKind.IM]
    SyncStore(team).take_directory(TEAM, "https://acme.slack.com", people, listed, 300_000_000)
    before = revision(team)
    said = {"type": "message", "ts": "1.5", "user": "U1", "text": "hello"}
    EventStore(team, TEAM).take([(Said("C1", said, changed=False), 300_000_000)])
    SyncStore(team).take_directory(TEAM, "https://acme.slack.com", people, listed, 400_000_000)
    assert revision(team) == before


NEW: dict[str, dict[str, Any]] = {
    "users": {"id": "U7", "handle": "a", "real_name": "", "display_name": "", "is_bot": False, "deleted": False},
    "channels": {"id": "C9", "name": "a", "kind": "public", "members": [], "archived": False},
    "channel_versions": {"channel": "C9", "name": 1, "kind": 1, "archived": 1, "members": 1},
    "memberships": {"channel": "C9", "user_id": "U7", "is_member": True},
    "consent": {"user_id": "U7", "action": "grant", "at": "1", "by": "a"},
    "forgotten": {"user_id": "U7", "at": 1, "messages": True, "revision": 1},
    "workspaces": {"url": "https://a"},
}
CHANGED: dict[str, dict[str, Any]] = {
    "users": {"handle": "b", "real_name": "b", "display_name": "b", "is_bot": True, "deleted": True, "is_guest": True},
    "channels": {"name": "b", "kind": "private", "members": ["U1"], "archived": True, "id": "C8"},
    "channel_versions": {"members": 2},
    "memberships": {"is_member": False, "as_of": 9},
    "consent": {"action": "revoke", "at": "2", "by": "b"},
    "forgotten": {"at": 2, "messages": False, "revision": 2},
    "workspaces": {"url": "https://b"},
}


@pytest.mark.parametrize("table", NEW)
def test_the_database_counts_every_change_by_itself(archive: Archive, table: str) -> None:
    """Whoever writes, and however: no row of these can change unseen. The time alone of what is known is no change."""
    found = tables.metadata.tables[table]
    here = {"team": TEAM} | ({"as_of": 1} if "as_of" in found.c else {})
    counted = [revision(archive)]

    def write(statement: Any, counts: bool = True) -> None:
        with database.writing(archive._engine, archive.backend) as connection:
            connection.execute(statement)
        counted.append(revision(archive))
        assert (counted[-1] > counted[-2]) is counts

    write(insert(found).values(**here, **NEW[table]))
    for name, value in CHANGED[table].items():
        write(update(found).where(found.c.team == TEAM).values({name: value}))
        write(update(found).where(found.c.team == TEAM).values({name: value}), counts=False)
    if table in ("users", "channels", "workspaces"):
        write(update(found).where(found.c.team == TEAM).values(as_of=7), counts=False)
    write(delete(found).where(found.c.team == TEAM))


def test_one_statement_is_enough_for_any_number_of_people(archive: Archive) -> None:
    people = [User(TEAM, f"U{number}", f"h{number}") for number in range(3_000)]
    listed = [Channel(TEAM, f"C{number}", f"c{number}", ChannelKind.PUBLIC) for number in range(200)]
    SyncStore(archive).take_directory(TEAM, "", people, listed, 100)
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    archive.snapshot(TEAM)
    listen(archive._engine, "before_cursor_execute", note)
    try:
        assert len(archive.snapshot(TEAM).channels) == 200
    finally:
        remove(archive._engine, "before_cursor_execute", note)
    asked = [statement for statement in said if statement.startswith("SELECT")]
    # In Postgres what waits for an import stands in the same database.
    assert len(asked) == (1 if archive._engine.dialect.name == "sqlite" else 2)


def test_several_workspaces_are_read_as_one_and_each_alone(archive: Archive) -> None:
    for number, team in enumerate(("T1", "T2")):
        listed = [Channel(team, "C1", f"general-{number}", ChannelKind.PUBLIC)]
        SyncStore(archive).take_directory(team, "", [User(team, "U1", "ada")], listed, 100)
    everywhere = ReadPolicy(public=True)
    assert archive.snapshot().readable(everywhere) == {("T1", "C1"), ("T2", "C1")}
    assert archive.snapshot("T2").readable(everywhere) == {("T2", "C1")}
    EventStore(archive, "T2").take([(ChannelPrivate("C1"), 200)])
    assert archive.snapshot().readable(everywhere) == {("T1", "C1")}
    assert archive.snapshot("T9").channels == []
    with pytest.raises(UnknownUserError):
        archive.snapshot("T1").get_user("T1", "U2")


def test_of_all_workspaces_together_it_is_known_that_one_was_erased(archive: Archive) -> None:
    for team in ("T1", "T2"):
        listed = [Channel(team, "C1", "general", ChannelKind.PUBLIC)]
        SyncStore(archive).take_directory(team, "", [User(team, "U1", "ada")], listed, 100)
    before = archive.snapshot()
    archive.erase("T1")
    after = archive.snapshot()
    assert after.clean > before.clean
    assert after.clean == archive.clean_revision()
    assert set(after.views) == {"T2"}


def test_a_database_that_went_back_in_time_is_read_anew(team: Archive) -> None:
    """As one that was restored under a running process, and counts on from a lower number."""
    t, u = tables.revisions, tables.users
    team.record_consent(User(TEAM, "U1", ""), ConsentAction.GRANT, "tests")
    team.snapshot(TEAM)
    with database.writing(team._engine, team.backend) as connection:
        newest = connection.scalar(select(func.max(t.c.revision)).where(t.c.team == TEAM))
        connection.execute(delete(tables.consent))
        connection.execute(delete(t).where(t.c.revision >= newest))
        connection.execute(update(u).where(u.c.id == "U2").values(is_guest=True))
    assert told(team.snapshot(TEAM)) == stored(team)


def test_a_workspace_that_was_erased_may_come_back_by_an_export_that_does_not_name_it(
    archive: Archive, tmp_path: Path
) -> None:
    named = export(tmp_path / "named", 200, ("U1", "U2"))
    unnamed = export(tmp_path / "unnamed", 300, ("U1", "U2"))
    for path in unnamed.rglob("*.json"):
        path.write_text(path.read_text().replace(f', "team": "{TEAM}"', "").replace(f', "team_id": "{TEAM}"', ""))
        path.write_text(path.read_text().replace(f'"team_id": "{TEAM}", ', ""))
    take_export(archive, named)
    archive.erase(TEAM)
    take_export(archive, unnamed)
    before = archive.revision()
    take_export(archive, named)
    assert {message.team for message in archive.messages()} == {TEAM}
    assert archive.revision() >= before
    assert told(archive.snapshot(TEAM)) == stored(archive)
