"""While an import holds the archive: what events forbid and what people withdraw counts at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction, Readership, has_consent, is_paused
from doppel.archive import Archive, database
from doppel.archive.restrictions import Restriction
from doppel.archive.waiting import Waiting
from doppel.errors import BusyError
from doppel.ingest import EventStore, forget_person, import_export, open_archive
from doppel.ingest.event_ingester import EventIngester
from doppel.records import Channel, ChannelKind, User
from doppel.slack.events import (
    Change,
    ChannelLost,
    ChannelPrivate,
    Deleted,
    Membership,
    PersonChanged,
    Said,
    changes_of,
)
from doppel.slack.export import open_export
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.syncing import sync

ADA = User(TEAM, "U1", "ada")
SECOND = 1_000_000


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", "Ada", id="U1"), made.user("grace", "Grace", id="U2")
    made.channel("general", ada, grace, id="C1")
    made.channel("secret", ada, grace, id="C2", kind="private")
    made.channel("plans", ada, id="C3", kind="private")
    for text in ("The first thing that was said.", "The second thing that was said."):
        made.post("general", ada, text)
    return made


@pytest.fixture
def synced(slack: FakeSlack, archive: Archive) -> Archive:
    sync(slack, archive)
    archive.record_consent(ADA, ConsentAction.GRANT, "test")
    return archive


@contextmanager
def importing(where: Path | str, folder: Path) -> Iterator[None]:
    """While this is open, another archive object at the same place is in the middle of a large import."""
    day = folder / "export" / "general"
    day.mkdir(parents=True)
    (folder / "export" / "users.json").write_text(json.dumps([{"id": "U1", "team_id": TEAM, "name": "ada"}]))
    (folder / "export" / "channels.json").write_text(json.dumps([{"id": "C1", "name": "general", "members": ["U1"]}]))
    raw = {"type": "message", "ts": "1700000000.000100", "user": "U1", "text": "Long ago.", "team": TEAM}
    (day / "2023-11-14.json").write_text(json.dumps([raw]))
    begun, go_on = threading.Event(), threading.Event()

    def stop(done: int, total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    def run() -> None:
        with open_archive(where) as other, open_export(folder / "export") as export:
            import_export(other, export, stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        go_on.set()
        thread.join()


@contextmanager
def waiting(where: Path | str, folder: Path, archive: Archive, *changes: Change) -> Iterator[None]:
    """While this is open, changes wait for an import to end; after it they are written."""
    events, at = EventStore(archive, TEAM), 4_000_000_000 * SECOND
    thread = threading.Thread(target=lambda: events.take([(change, at) for change in changes]))
    with importing(where, folder):
        thread.start()
        yield
    thread.join()


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.02)
    raise AssertionError("It never came to that.")


def channel(archive: Archive, id_: str) -> Channel:
    return next(c for c in archive.channels() if c.id == id_)


def _is_out(archive: Archive) -> bool:
    return "U2" not in channel(archive, "C2").members


def texts(archive: Archive) -> list[str]:
    return [m.text for m in archive.messages() if m.text.endswith("said.")]


def test_who_leaves_while_an_import_runs_reads_nothing_more_in_any_process(
    synced: Archive, where: Path | str, tmp_path: Path
) -> None:
    with open_archive(where) as other:
        with waiting(where, tmp_path, synced, Membership("C2", "U2", joined=False)):
            for archive in (synced, other):
                until(partial(_is_out, archive))
                readable = Readership.of_person(TEAM, "U2", archive.users()).readable(archive.channels())
                assert readable == {(TEAM, "C1")}
                assert "U2" in channel(archive, "C2").uncertain
        until(lambda: channel(other, "C2").uncertain == ())
        assert set(channel(other, "C2").members) == {"U1", BOT}


def test_who_joins_while_an_import_runs_counts_as_a_reader(synced: Archive, where: Path | str, tmp_path: Path) -> None:
    people = synced.users()
    assert channel(synced, "C3").members == ("U1", BOT)
    with waiting(where, tmp_path, synced, Membership("C3", "U2", joined=True)):
        until(lambda: "U2" in channel(synced, "C3").uncertain)
        assert "U2" in (Readership.of_channel(channel(synced, "C3"), TEAM, people).people or ())
        assert (TEAM, "C3") not in Readership.of_person(TEAM, "U2", people).readable(synced.channels())
    assert set(channel(synced, "C3").members) == {"U1", "U2", BOT}


@pytest.mark.parametrize(
    ("change", "kind"), [(ChannelPrivate("C1"), ChannelKind.PRIVATE), (ChannelLost("C1"), ChannelKind.UNKNOWN)]
)
def test_a_channel_that_is_closed_while_an_import_runs_is_closed_at_once(
    synced: Archive, where: Path | str, tmp_path: Path, change: Change, kind: ChannelKind
) -> None:
    with waiting(where, tmp_path, synced, change):
        until(lambda: channel(synced, "C1").kind is kind)
    assert channel(synced, "C1").kind is kind


def test_what_is_deleted_or_edited_while_an_import_runs_is_not_quoted(
    synced: Archive, slack: FakeSlack, where: Path | str, tmp_path: Path
) -> None:
    first, second = (m for m in synced.messages() if m.text.endswith("said."))
    edited = {
        "type": "message",
        "ts": second.ts,
        "user": "U1",
        "text": "It is edited, they said.",
        "edited": {"ts": "9.5"},
    }
    event = {"type": "message", "subtype": "message_changed", "channel": "C1", "channel_type": "channel"}
    (change,) = changes_of({**event, "message": edited}, BOT)
    with waiting(where, tmp_path, synced, Deleted("C1", first.ts), change):
        until(lambda: not texts(synced))
        assert synced.conversation(TEAM, "C1", None, first.ts, second.ts).messages == ()
        assert synced.messages_of(TEAM, "U1") == []
        assert synced.last_said(TEAM, "C1", "U2") is None
        assert synced.leading_to(TEAM, "C1", second.ts) == []
    assert texts(synced) == ["It is edited, they said."]


def test_who_becomes_a_guest_or_is_deactivated_while_an_import_runs_is_so_at_once(
    synced: Archive, where: Path | str, tmp_path: Path
) -> None:
    raw = {"id": "U2", "name": "grace", "is_restricted": True, "deleted": True}
    with waiting(where, tmp_path, synced, PersonChanged(raw)):
        until(lambda: synced.user(TEAM, "U2").is_guest)  # type: ignore[union-attr]
        found = {user.id: (user.is_guest, user.deleted) for user in synced.users(TEAM)}
        assert found["U2"] == (True, True)
        assert found["U1"] == (False, False)


async def test_an_event_counts_from_when_it_is_heard(
    synced: Archive, slack: FakeSlack, where: Path | str, tmp_path: Path
) -> None:
    feed = EventIngester(EventStore(synced, TEAM), BOT, lambda: True, lambda: asyncio.sleep(0))
    async with feed.running():
        with importing(where, tmp_path):
            feed.put({"type": "member_left_channel", "channel": "C2", "user": "U2", "event_ts": "4000000000.000000"})
            feed.put({"type": "member_left_channel", "channel": "C2", "user": "U2", "event_ts": "4000000000.000000"})
            assert "U2" not in channel(synced, "C2").members
            await asyncio.sleep(1)
            assert "U2" in channel(synced, "C2").uncertain
        await asyncio.to_thread(until, lambda: channel(synced, "C2").uncertain == ())
    assert set(channel(synced, "C2").members) == {"U1", BOT}


def test_after_a_crash_limits_stay_until_a_sync_has_read_all(
    synced: Archive, slack: FakeSlack, where: Path | str
) -> None:
    (limit,) = EventStore(synced, TEAM)._limits([(Membership("C2", "U2", joined=False), 1)])
    with open_archive(where) as crashed:
        Waiting(crashed._engine, crashed.backend).keep([limit])
    with open_archive(where) as restarted:
        assert "U2" not in channel(restarted, "C2").members
        sync(slack, restarted, channels=("general",))
        assert "U2" in channel(restarted, "C2").uncertain
        sync(slack, restarted)
        assert set(channel(restarted, "C2").members) == {"U1", "U2", BOT}


@pytest.mark.parametrize("action", [ConsentAction.REVOKE, ConsentAction.DECLINE, ConsentAction.PAUSE])
def test_what_is_withdrawn_while_an_import_runs_counts_at_once_in_every_process(
    synced: Archive, where: Path | str, tmp_path: Path, action: ConsentAction
) -> None:
    def is_stopped(archive: Archive) -> bool:
        records = archive.consent_records(ADA)
        return is_paused(records) or not has_consent(records)

    with open_archive(where) as other:
        assert not is_stopped(other)
        with importing(where, tmp_path):
            record = synced.record_consent(ADA, action, "ada")
            assert is_stopped(synced)
            assert is_stopped(other)
            assert other.consent_records()[-1] == record
        assert [r.action for r in other.consent_records(ADA)] == [ConsentAction.GRANT, action]
        with database.reading(other._engine, other.backend) as connection:
            assert not other.waiting.has_withdrawals(connection)
        other.record_consent(ADA, ConsentAction.GRANT, "ada")
        assert not is_stopped(synced)


def test_consent_itself_waits_for_an_import(
    synced: Archive, where: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doppel.archive.backend.BUSY_SECONDS", 0.2)
    with open_archive(where) as impatient, importing(where, tmp_path):
        with pytest.raises(BusyError, match="Another process is writing"):
            impatient.record_consent(User(TEAM, "U2", "grace"), ConsentAction.GRANT, "grace")
        assert impatient.consent_records(User(TEAM, "U2", "grace")) == []


def test_who_is_to_be_forgotten_while_an_import_runs_is_silent_at_once_and_forgotten_after_it(
    synced: Archive, where: Path | str, tmp_path: Path
) -> None:
    forgetting = threading.Thread(target=lambda: forget_person(synced, ADA, messages=True, by="ada"))
    with open_archive(where) as other:
        with importing(where, tmp_path):
            forgetting.start()
            until(lambda: not has_consent(other.consent_records(ADA)))
            assert texts(other)
        forgetting.join()
        assert texts(other) == []
        actions = [record.action for record in other.consent_records(ADA)]
        assert actions == [ConsentAction.GRANT, ConsentAction.REVOKE, ConsentAction.FORGET]


def test_a_withdrawal_survives_an_import_that_names_a_workspace_without_a_name(
    where: Path | str, tmp_path: Path
) -> None:
    with open_archive(where) as archive:
        folder = tmp_path / "nameless"
        (folder / "general").mkdir(parents=True)
        (folder / "users.json").write_text(json.dumps([{"id": "U1", "name": "ada"}]))
        (folder / "channels.json").write_text(json.dumps([{"id": "C1", "name": "general", "members": ["U1"]}]))
        raw = {"type": "message", "ts": "1600000000.000100", "user": "U1", "text": "Hello, they said."}
        (folder / "general" / "2020-09-13.json").write_text(json.dumps([raw]))
        with open_export(folder) as export:
            import_export(archive, export)
        (nameless,) = archive.users()
        archive.record_consent(nameless, ConsentAction.GRANT, "ada")
        with importing(where, tmp_path):
            archive.record_consent(nameless, ConsentAction.REVOKE, "ada")
            assert not has_consent(archive.consent_records(nameless))
        assert not has_consent(archive.consent_records(ADA))
        assert [r.action for r in archive.consent_records(ADA)] == [ConsentAction.GRANT, ConsentAction.REVOKE]


def test_a_backup_holds_what_was_withdrawn_while_an_import_runs(tmp_path: Path, slack: FakeSlack) -> None:
    where = tmp_path / "data" / "archive.db"
    with open_archive(where) as archive:
        sync(slack, archive)
        archive.record_consent(ADA, ConsentAction.GRANT, "ada")
        with importing(where, tmp_path):
            archive.record_consent(ADA, ConsentAction.REVOKE, "ada")
            archive.backend.back_up(tmp_path / "monday.db")
        with open_archive(tmp_path / "monday.db") as copy:
            assert [r.action for r in copy.consent_records(ADA)] == [ConsentAction.GRANT, ConsentAction.REVOKE]


def test_no_words_stand_beside_the_archive(synced: Archive, where: Path | str, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"type": "message", "ts": "1.5", "user": "U1", "text": "planted-words"}
    with waiting(where, tmp_path, synced, Said("C1", changed, changed=True)):
        until(lambda: bool(_kept(synced)))
        assert "planted-words" not in repr(_kept(synced))
        for file in tmp_path.rglob("*.waiting*"):
            assert file.stat().st_mode & 0o077 == 0
            assert b"planted-words" not in file.read_bytes()
    assert not _kept(synced)


def _kept(archive: Archive) -> frozenset[Restriction]:
    """What holds in every process."""
    others = Waiting(archive._engine, archive.backend)
    with database.reading(archive._engine, archive.backend) as connection:
        return others.standing(connection)[0].all
