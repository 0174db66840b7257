"""What one event costs the archive: the same for ten people as for thousands. What SQLite does is counted, not time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from doppel.archive import Archive
from doppel.archive.messages import encoded
from doppel.ingest import EventStore, SyncStore, import_export, open_archive, render
from doppel.ingest.names import Directory, directory_for, read_directory
from doppel.ingest.sync_store import Cursor
from doppel.records import Channel, ChannelKind, User
from doppel.slack.events import Change, ChannelChanged, Deleted, Membership, PersonChanged, Reacted, Said
from doppel.slack.export import open_export
from doppel.slack.messages import translate

SAMPLE = Path(__file__).parents[2] / "examples" / "sample-workspace"
TEAM, AT = "T1", 1_700_000_000_000_000
STEP = 50
"""SQLite is asked after so many instructions of its virtual machine."""
CHANGES: dict[str, Change] = {
    "a message": Said("C1", {"ts": "1700000900.000100", "user": "U7", "text": "<@U1> and <#C2>, see <!subteam^S1>"}),
    "an edit": Said("C1", {"ts": "1700000001.000100", "user": "U2", "text": "<@U1> again"}, changed=True),
    "a deletion": Deleted("C1", "1700000002.000100"),
    "a reaction": Reacted("C1", "1700000003.000100", "U2", "eyes", added=True),
    "a join": Membership("C2", "U7", joined=True),
    "a leave": Membership("C1", "U5", joined=False),
    "a new person": PersonChanged({"id": "U0NEW", "team_id": TEAM, "name": "linus"}),
    "a new name": PersonChanged({"id": "U5", "team_id": TEAM, "name": "grace"}),
    "a channel's new name": ChannelChanged("C2", name="lounge"),
}


def fill(archive: Archive, people: int) -> None:
    """So many people, a channel for every five of them, everybody in one, and always the same messages."""
    ids = [f"U{number}" for number in range(people)]
    channels = [
        Channel(TEAM, f"C{number}", f"channel{number}", ChannelKind.PUBLIC) for number in range(people // 5 + 3)
    ]
    store = SyncStore(archive)
    store.take_directory(TEAM, "", [User(TEAM, id_, f"person{id_}") for id_ in ids], channels, AT)
    store.take_members(Cursor("C1", members_at=1), ids, AT)
    said = [{"ts": f"17000000{n:02}.000100", "user": f"U{n % 9}", "text": f"<@U{n % 6}> said {n}"} for n in range(60)]
    EventStore(archive, TEAM).take([(Said("C1", raw), AT) for raw in said])


@contextmanager
def counted(archive: Archive) -> Iterator[list[int]]:
    """How often SQLite was asked while this is open."""
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def watch(connection: Any, _record: object) -> None:
        connection.set_progress_handler(count, STEP)

    archive._engine.dispose()
    event.listen(archive._engine, "connect", watch)
    try:
        yield steps
    finally:
        event.remove(archive._engine, "connect", watch)
        archive._engine.dispose()


def costs(path: Path, people: int) -> dict[str, int]:
    """What each change costs in a workspace of so many people."""
    with open_archive(path) as archive:
        fill(archive, people)
        with counted(archive) as steps:
            store, found = EventStore(archive, TEAM), {}
            store.take([])
            for name, change in CHANGES.items():
                before = steps[0]
                store.take([(change, AT + 1_000_000_000)])
                found[name] = steps[0] - before
    return found


def test_an_event_costs_the_same_whatever_the_number_of_people(tmp_path: Path) -> None:
    few, many = costs(tmp_path / "few.db", 10), costs(tmp_path / "many.db", 5_000)
    assert {name for name, steps in many.items() if steps > 1.5 * few[name] + 4} == set()


def test_only_messages_that_name_the_renamed_person_are_rendered_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(archive, 50)
    rendered, update = list[str](), render._update

    def noted(row: Any, directory: Directory) -> Any:
        rendered.append(row.text)
        return update(row, directory)

    monkeypatch.setattr(render, "_update", noted)
    EventStore(archive, TEAM).take([(CHANGES["a new name"], AT + 1_000_000_000)])
    theirs = [number for number in range(60) if 5 in (number % 9, number % 6)]
    assert [int(text.split()[-1]) for text in rendered] == theirs
    assert [m.text for m in archive.messages() if "@grace" in m.text] == [
        f"@grace said {number}" for number in range(60) if number % 6 == 5
    ]


def test_a_message_needs_the_names_of_those_alone_whom_it_names(archive: Archive) -> None:
    with open_export(SAMPLE) as export:
        import_export(archive, export)
        said = [(channel.id, raw) for channel, raw in export.messages()]
        team = export.team
    with archive.reading() as connection:
        everybody = read_directory(connection, team)
        for channel, raw in said:
            some = directory_for(connection, team, [encoded(raw)])
            assert len(some.names.users) < len(everybody.names.users)
            read = [translate(raw, team, channel, known.names, known.bots) for known in (some, everybody)]
            assert read[0] == read[1]
    assert len(said) > 100
