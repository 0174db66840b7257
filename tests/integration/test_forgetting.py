"""Forgetting a person in the archive: what goes, and that it stays gone whatever comes later."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction, has_consent
from doppel.archive import Archive
from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.errors import ConsentError
from doppel.ingest import EventStore, open_archive
from doppel.records import Message
from doppel.services import consent
from doppel.slack.events import Change, Deleted, PersonChanged, Said
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.forgetting import ROOT, SECRET, everything, forget, put_bot_rows, team, user
from tests.syncing import sync
from tests.taking_in import take_in


def texts(archive: Archive) -> list[str]:
    return [f"{m.author}: {m.text}" for m in archive.messages() if m.text]


REST = ["Grace: It woke us, @someone who was forgotten.", "Grace: Look at this.", "Grace: Lunch?"]


def test_what_somebody_wrote_is_gone_from_every_row(archive: Archive) -> None:
    take_in(archive, team())
    before = archive.counts()
    done = forget(archive)
    assert (done.messages, done.copies) == (3, 2)
    assert SECRET not in everything(archive)
    assert texts(archive) == REST
    assert archive.counts() == before
    known = user(archive)
    assert (known.handle, known.name, known.real_name) == ("", FORGOTTEN_NAME, "")
    assert "Lovelace" not in everything(archive)
    assert [record.action for record in archive.consent_records(known)] == [ConsentAction.FORGET]


def test_without_messages_what_was_said_and_the_name_stay(archive: Archive) -> None:
    take_in(archive, team())
    done = forget(archive, messages=False)
    assert (done.messages, user(archive).name) == (0, "Ada")
    assert sum(SECRET in text for text in texts(archive)) == 4
    assert archive.clean_revision() == 0


def test_an_import_of_the_same_and_of_a_later_export_brings_nothing_back(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    revision = archive.revision()
    take_in(archive, team())
    assert archive.revision() == revision
    later = team().say("general", "1700000300.000100", f"A {SECRET} that was not there before.")
    edit = {"user": "U1", "ts": "1700009000.000000"}
    later.say("general", "1700000190.000100", f"Edited: {SECRET}", edited=edit)
    take_in(archive, later.say("general", "1700000320.000100", "Dinner, <@U1>?", "U2"))
    assert SECRET not in everything(archive)
    assert texts(archive) == [*REST, "Grace: Dinner, @someone who was forgotten?"]
    assert user(archive).name == FORGOTTEN_NAME


def test_an_export_without_a_team_brings_nothing_back(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    nameless = ExportBuilder("").channel("C1", "general", "U1", "U2").say("general", ROOT, f"The {SECRET}")
    take_in(archive, nameless.without("users").say("general", "1700000190.000100", f"More {SECRET}"))
    other = ExportBuilder("").without("users").say("elsewhere", ROOT, f"The {SECRET}", "U1")
    take_in(archive, other)
    assert SECRET not in everything(archive)


def test_late_events_bring_nothing_back_and_a_new_message_counts(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    events, now = EventStore(archive, "T1"), round(time.time() * 1e6)
    old = {"type": "message", "user": "U1", "ts": ROOT, "text": f"{SECRET}, edited", "edited": {"ts": "1800000000.0"}}
    lost = {"type": "message", "user": "U1", "ts": "1700000195.000100", "text": f"{SECRET}, late"}
    person = {"id": "U1", "team_id": "T1", "name": "ada", "profile": {"real_name": "Ada Lovelace"}}
    told: list[Change] = [Said("C1", old), Said("C1", lost), PersonChanged(person), Deleted("C1", ROOT)]
    events.take([(change, now) for change in told])
    assert SECRET not in everything(archive)
    assert texts(archive) == REST
    assert user(archive).name == FORGOTTEN_NAME
    profile = {"real_name": "Ada Lovelace", "display_name": "Ada"}
    new = {
        "type": "message",
        "user": "U1",
        "ts": f"{time.time() + 60:.6f}",
        "text": "I am back.",
        "user_profile": profile,
    }
    events.take([(Said("C1", new), now)])
    assert texts(archive) == [*REST, "someone who was forgotten: I am back."]
    assert "Lovelace" not in everything(archive)


def test_a_sync_before_and_after_brings_nothing_back_and_a_new_yes_is_a_new_start(archive: Archive) -> None:
    workspace = Workspace()
    ada, grace = workspace.user("ada", "Ada Lovelace", id="U1"), workspace.user("grace", "Grace Hopper", id="U2")
    workspace.channel("general", ada, grace, id="C1")
    root = workspace.post("general", ada, f"The {SECRET} is out.")
    workspace.post("general", grace, "Is it, <@U1>?", thread_ts=root)
    workspace.post("general", ada, f"Yes, the {SECRET}.", thread_ts=root)
    with FakeSlack(workspace, limits=Limits.none(time_scale=20)) as slack:
        sync(slack, archive)
        # Slack's clock here is the workspace's: what it says now must lie before the forgetting.
        assert forget(archive).messages == 2
        workspace.edit("general", root, f"The {SECRET} was out.")
        sync(slack, archive)
        assert SECRET not in everything(archive)
        assert texts(archive) == ["grace: Is it, @someone who was forgotten?"]
        consent.grant(archive, user(archive), "ada")
        sync(slack, archive)
    assert has_consent(archive.consent_records(user(archive)))
    assert user(archive).name == "ada"
    assert texts(archive) == ["grace: Is it, @ada?"]
    assert SECRET not in everything(archive)


def test_answers_votes_and_questions_go_and_are_counted(archive: Archive) -> None:
    posted = {"subtype": "bot_message", "bot_id": "B1", "username": "Ada", "thread_ts": ROOT}
    take_in(archive, team().say("general", "1700000280.000100", f"As an AI: {SECRET}", None, **posted))
    put_bot_rows(archive)
    done = forget(archive)
    assert (done.answers, done.feedback, done.questions, done.voices, done.posts) == (2, 1, 1, 1, 1)
    store = archive.bot("T1")
    assert [answer.question for answer in store.answers("C1", ROOT)] == ["Who?"]
    assert [question.event_id for question in store.open_questions()] == ["E2"]
    assert store.accept([("E1", {"user": "U1"})], at=2) == set()
    assert [row.question for row in archive.feedback()] == ["hm"]
    assert store.default_persona("C1") is None
    assert SECRET not in everything(archive)


def test_what_was_in_flight_is_not_kept(archive: Archive) -> None:
    take_in(archive, team())
    asked_at = round(time.time() * 1e6)
    forget(archive, messages=False)
    store = archive.bot("T1")
    fields: dict[str, Any] = {
        "channel": "C1",
        "thread_ts": ROOT,
        "version": None,
        "question": "?",
        "reply": "!",
        "sources": (),
    }
    for asker, persona in (("U1", "U2"), ("U2", "U1")):
        store.add_answer(time.time_ns() // 1000, asked_at=asked_at, asker=asker, user_id=persona, **fields)
    with pytest.raises(ConsentError, match="was forgotten"):
        archive.add_feedback("T1", "U1", version=None, question="?", reply="!")
    assert store.answers("C1", ROOT) == []
    later = round((time.time() + 1) * 1e6)
    store.add_answer(later, asked_at=later, asker="U1", user_id="U2", **fields)
    assert len(store.answers("C1", ROOT)) == 1


def test_forgetting_twice_is_fine(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive, messages=False)
    assert forget(archive).messages == 3
    assert forget(archive).messages == 0
    archive.scrub()
    assert SECRET not in everything(archive)


def test_a_copied_archive_remembers_who_was_forgotten(archive: Archive, tmp_path: Path) -> None:
    take_in(archive, team())
    forget(archive)
    with open_archive(tmp_path / "copy.db") as copy:
        archive.copy_to(copy)
        take_in(copy, team())
        assert SECRET not in everything(copy)


def test_messages_of_others_are_as_they_were_but_for_copies(archive: Archive) -> None:
    take_in(archive, team())

    def of_grace() -> list[Message]:
        return [replace(m, text=m.own_text, said=None) for m in archive.messages() if m.user == "U2"]

    before = of_grace()
    forget(archive)
    assert [replace(m, text=m.text.replace(FORGOTTEN_NAME, "Ada")) for m in of_grace()] == before
