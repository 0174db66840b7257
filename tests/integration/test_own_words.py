"""Whose words the archive holds: typed ones apart from the rest, also in archives of before, and after renames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from doppel.archive import Archive, database, messages, tables
from doppel.ingest import open_archive, render
from doppel.records import MessageKind
from tests.fakes.export_builder import ExportBuilder
from tests.taking_in import take_in

FORWARD = {"is_share": True, "author_id": "U2", "author_name": "erik", "channel_id": "C1", "text": "I hate it."}
FORWARDED = "[forwarded from Erik, #general] I hate it."
BRIDGE = {"bot_id": "B1", "app_id": "A1", "bot_profile": {"name": "IRC"}}


def team(erik: str = "Erik") -> ExportBuilder:
    return (
        ExportBuilder()
        .user("U1", "ines", "Ines Moreau", "Ines")
        .user("U2", "erik", "Erik Lund", erik)
        .channel("C1", "general", "U1", "U2")
        .say("general", "1700000000.1", "I hate it.", "U2")
        .say("general", "1700000060.1", "", "U1", attachments=[FORWARD])
        .say("general", "1700000120.1", "So there.", "U1", attachments=[FORWARD])
        .say("general", "1700000180.1", "From my terminal.", "U1", **BRIDGE)
        .say("general", "1700000240.1", "", "U1", files=[{"title": "plan.pdf"}])
    )


@pytest.fixture
def filled(archive: Archive, tmp_path: Path) -> Archive:
    take_in(archive, team())
    return archive


def posted(archive: Archive) -> list[tuple[str, str]]:
    return [(message.text, message.own_text) for message in archive.messages() if message.user == "U1"]


POSTED = [
    (FORWARDED, ""),
    (f"So there.\n{FORWARDED}", "So there."),
    ("From my terminal.", "From my terminal."),
    ("[file: plan.pdf]", ""),
]


def test_what_was_typed_is_kept_apart(filled: Archive) -> None:
    assert posted(filled) == POSTED
    assert [message.own_text for message in filled.messages_of("T1", "U1")] == ["From my terminal.", "So there."]
    assert filled.message_counts("T1", "U1") == {"C1": 2}


def test_what_came_through_an_app_is_the_persons(filled: Archive) -> None:
    (message,) = [message for message in filled.messages() if message.text == "From my terminal."]
    assert (message.kind, message.author) == (MessageKind.HUMAN, "Ines")


def test_a_reply_can_be_drafted_to_what_was_forwarded(filled: Archive) -> None:
    *_, asked = filled.leading_to("T1", "C1", "1700000060.1")
    assert (asked.author, asked.text) == ("Ines", FORWARDED)


def test_a_new_name_reaches_what_was_forwarded(filled: Archive, tmp_path: Path) -> None:
    builder = team(erik="Rik")
    builder.say("general", "1700200000.1", "Tomorrow.", "U1")
    take_in(filled, builder)
    assert posted(filled)[:2] == [(text.replace("Erik", "Rik"), own) for text, own in POSTED[:2]]


def outdate(archive: Archive) -> None:
    """Leave the archive as an earlier Doppel would have."""
    m, w = tables.messages, tables.workspaces
    with database.writing(archive._engine, archive.backend) as connection:
        connection.execute(update(m).where(m.c.text.contains("hate")).values(text="I hate it.", said=None))
        bridged = update(m).where(m.c.text == "From my terminal.")
        connection.execute(bridged.values(kind=MessageKind.BOT, author="IRC"))
        connection.execute(update(w).values(rendering=0))


def test_an_archive_of_before_is_read_again_when_it_is_opened(where: Path | str, filled: Archive) -> None:
    outdate(filled)
    before = filled.revision()
    with open_archive(where) as again:
        assert posted(again) == POSTED
        assert again.revision() > before
        assert [m.author for m in again.messages()][3] == "Ines"
    with open_archive(where) as once_more:
        assert once_more.revision() == before + 1


def test_reading_again_goes_on_where_it_was_killed(
    where: Path | str, filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    outdate(filled)
    monkeypatch.setattr(messages, "_PAGE", 2)
    read, pages = messages.rows_after, iter(range(2))

    def killed(*arguments: Any) -> Any:
        if next(pages, None) is None:
            raise KeyboardInterrupt
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(render, "rows_after", killed)
        with pytest.raises(KeyboardInterrupt):
            open_archive(where)
    with open_archive(where) as again:
        assert posted(again) == POSTED


def test_what_cannot_be_read_again_stays(where: Path | str, filled: Archive) -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    t = tables.messages
    with database.writing(filled._engine, filled.backend) as connection:
        connection.execute(update(t).where(t.c.ts == "1700000000.1").values(raw=deep))
    outdate(filled)
    with open_archive(where) as again:
        assert next(iter(again.messages())).text == "I hate it."
        assert posted(again) == POSTED
