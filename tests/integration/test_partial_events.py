"""Slack's events that leave out what its documentation lists: what they say is taken, and nothing is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doppel.archive import Archive
from doppel.bot.question_parser import question_of
from doppel.ingest import EventStore, forget_person, import_export
from doppel.slack.events import Deleted, Said, changes_of
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder

BOT, TEAM, LATER = "U0FAKEBOT1", "T1", 4_000_000_000
RAW = {"type": "message", "ts": "1700000000.000100", "user": "U1", "text": "x"}
EVENT = {"type": "message", "channel": "C1", "channel_type": "channel", "ts": "1700000009.000100", "hidden": True}
CHANGED = EVENT | {"subtype": "message_changed"}


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        # A reply is told of its parent as well; the Events API leaves out that subtype.
        (EVENT | {"message": RAW | {"reply_count": 1}}, []),
        (EVENT | {"subtype": "message_replied", "message": RAW}, []),
        (CHANGED | {"message": without(RAW, "ts"), "previous_message": RAW}, [Said("C1", RAW)]),
        (CHANGED | {"message": without(RAW, "user"), "previous_message": RAW}, [Said("C1", RAW)]),
        (CHANGED | {"message": without(RAW, "ts"), "previous_message": "x"}, []),
        (CHANGED | {"message": without(RAW, "user") | {"bot_id": "B1"}, "previous_message": RAW}, None),
        (EVENT | {"deleted_ts": RAW["ts"]}, [Deleted("C1", str(RAW["ts"]))]),
        (EVENT | {"subtype": "message_deleted", "deleted_ts": [], "previous_message": 5}, []),
    ],
)
def test_what_is_left_out_is_known_from_the_rest(event: dict[str, Any], changes: list[Any] | None) -> None:
    expected = [Said("C1", event["message"])] if changes is None else changes
    assert changes_of(event, BOT) == expected


@pytest.mark.parametrize("odd", [[], {}, [5], 5, True, {"id": "C1"}])
def test_odd_fields_are_none(odd: Any) -> None:
    said = Said("C1", without(EVENT, "channel", "channel_type") | {"text": "x"}, held=True)
    assert changes_of(EVENT | {"text": "x", "channel_type": odd}, BOT) == [said]
    for key in ("channel", "subtype", "ts", "user", "message", "previous_message", "deleted_ts", "item", "type"):
        changes_of(EVENT | {key: odd}, BOT)
        changes_of(CHANGED | {"message": RAW, key: odd}, BOT)
    for key in ("blocks", "attachments", "files", "thread_ts", "text", "user", "bot_id"):
        question_of(EVENT | {"type": "app_mention", "user": "U1", "text": "why?", key: odd}, BOT)


def test_an_edit_that_doesnt_say_whose_it_is_stays_its_authors(tmp_path: Path, archive: Archive) -> None:
    builder = ExportBuilder(TEAM).user("U1", "ada").channel("C1", "general").say("general", RAW["ts"], "Before.")
    with open_export(builder.zip(tmp_path / "export.zip")) as export:
        import_export(archive, export)
    edited = without(RAW, "user") | {"text": "After.", "edited": {"ts": "1700000008.000100"}}
    EventStore(archive, TEAM).take(
        [(change, LATER * 10**6) for change in changes_of(CHANGED | {"message": edited}, BOT)]
    )
    assert [(m.text, m.user) for m in archive.messages()] == [("After.", "U1")]
    forget_person(archive, archive.find_user("U1"), messages=True, by="tests")
    EventStore(archive, TEAM).take(
        [(change, LATER * 10**6) for change in changes_of(CHANGED | {"message": edited}, BOT)]
    )
    assert [m.text for m in archive.messages() if m.text] == []
