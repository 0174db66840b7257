"""An answer says how sure it is and what carries it, quotes rather than invents, and says where nothing answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from doppel.access import OPERATOR, ConsentAction
from doppel.archive import Archive
from doppel.config import load_settings
from doppel.inference.client import Piece
from doppel.ingest import open_archive
from doppel.records import Dialogue, Finished, Persona, Reply, SourcesFound, TextDelta, Turn
from doppel.services.ask import NOT_FOUND, Engine
from tests.answering import indexed_engine
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.tokenizer import WordTokenizer
from tests.taking_in import take_in

QUESTION = "why did we drop kafka?"
TRUE = "we lost 11 events in january through it."


class Model:
    """Says what it is told to, a character a piece; `asked` counts."""

    def __init__(self, text: str) -> None:
        self.text, self.asked, self.tokenizer = text, 0, WordTokenizer()

    async def stream(self, *_: object, **__: object) -> AsyncGenerator[Piece, None]:
        self.asked += 1
        for number, character in enumerate(self.text, 1):
            yield Piece(character, number)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    export = ExportBuilder()
    export.user("U1", "ines"), export.user("U2", "jun")
    export.channel("C1", "ops", "U1", "U2")
    said = [("U2", QUESTION), ("U1", f"because {TRUE} three of five incidents were rebalancing."), ("U2", "oh. thanks")]
    for number, (user, text) in enumerate(said):
        export.say("ops", f"{1_742_300_000 + number}.000100", text, user)
    with open_archive(tmp_path / "archive.db") as opened:
        take_in(opened, export)
        opened.record_consent(opened.find_user("U1"), ConsentAction.GRANT, "tests")
        yield opened


async def ask(archive: Archive, tmp_path: Path, model: Any, question: str, *before: Turn, **environ: str) -> list[Any]:
    """The events of an answer as Ines."""
    engine, persona = await engine_of(archive, tmp_path, model, **environ)
    return [event async for event in engine.reply(persona, Dialogue((*before, Turn("Jun", question))), OPERATOR)]


async def engine_of(archive: Archive, tmp_path: Path, model: Any, **environ: str) -> tuple[Engine, Persona]:
    """A real engine with that model, and Ines."""
    settings = load_settings({"DOPPEL_DATA_DIR": str(tmp_path / "data")} | environ)
    engine = indexed_engine(settings, archive, model)
    ines = archive.find_user("U1")
    return engine, await engine.persona(ines.id, ines.team)


def reply_of(events: list[Any]) -> Reply:
    assert isinstance(events[0], SourcesFound)
    assert isinstance(events[-1], Finished)
    reply = events[-1].reply
    assert "".join(event.text for event in events if isinstance(event, TextDelta)).strip() == reply.text
    return reply


async def test_what_nothing_carries_is_left_out(archive: Archive, tmp_path: Path) -> None:
    model = Model(f"The moon is full. {TRUE} {TRUE} It cost 12 euros.")
    reply = reply_of(await ask(archive, tmp_path, model, QUESTION))
    assert reply.text == TRUE
    assert [(sentence.text, sentence.source) for sentence in reply.sentences] == [(TRUE, 0)]
    assert reply.grounded
    assert reply.confidence > 0.2
    assert len(reply.id) == 16


async def test_where_nothing_is_left_the_person_is_quoted(archive: Archive, tmp_path: Path) -> None:
    reply = reply_of(await ask(archive, tmp_path, Model("The moon is full."), QUESTION))
    assert reply.text.startswith(f"On 18 March 2025 I said: because {TRUE}")
    assert [sentence.source for sentence in reply.sentences] == [0]
    assert reply.grounded


async def test_with_mark_all_is_shown_and_told_apart(archive: Archive, tmp_path: Path) -> None:
    model = Model(f"The moon is full. {TRUE}")
    reply = reply_of(await ask(archive, tmp_path, model, QUESTION, DOPPEL_ANSWER_CHECK="mark"))
    assert reply.text == model.text
    assert [sentence.source for sentence in reply.sentences] == [None, 0]


async def test_where_nothing_answers_it_is_said_and_the_model_not_asked(archive: Archive, tmp_path: Path) -> None:
    model = Model("120,000")
    reply = reply_of(await ask(archive, tmp_path, model, "how much does henrik earn?", DOPPEL_MIN_CONFIDENCE="0.9"))
    assert reply.text == NOT_FOUND.format(name="ines")
    assert (reply.grounded, model.asked) == (False, 0)
    assert reply.confidence < 0.9
    all_the_same = await ask(archive, tmp_path, model, "how much does henrik earn?", DOPPEL_MIN_CONFIDENCE="0")
    assert model.asked == 1
    assert reply_of(all_the_same).text != reply.text


async def test_a_draft_is_left_to_its_person(archive: Archive, tmp_path: Path) -> None:
    model = Model("The moon is full.")
    engine, persona = await engine_of(archive, tmp_path, model, DOPPEL_MIN_CONFIDENCE="1")
    asked = Dialogue((Turn("Jun", QUESTION),))
    events = [event async for event in engine.reply(persona, asked, OPERATOR, is_draft=True)]
    assert reply_of(events).text == model.text


async def test_small_talk_and_what_the_conversation_tells_are_not_refused(archive: Archive, tmp_path: Path) -> None:
    high = {"DOPPEL_MIN_CONFIDENCE": "1"}
    assert reply_of(await ask(archive, tmp_path, Model("hi"), "hello!", **high)).text == "hi"
    before = Turn("Bob", "the printer in the hall is out of paper")
    model = Model("the printer in the hall is out of paper.")
    reply = reply_of(await ask(archive, tmp_path, model, "so what is wrong?", before, **high))
    assert reply.text == "the printer in the hall is out of paper."
    assert [sentence.source for sentence in reply.sentences] == [None]
