"""What an answer tells beside its words: to machines that an AI wrote it, with ids that tell nothing to who may not
read the archive, and to people what carries each sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from doppel.archive import Archive
from doppel.records import Finished, Persona, SourcesFound, TextDelta, Turn
from doppel.slack.message_transport import AI_EVENT
from tests.fakes.engine import FakeEngine, Step, answer, passage
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.listening import Listening


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.user("ada", id="U1"), made.user("grace", id="U2")
    made.channel("general", "U1", "U2", id="C1")
    return made


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_is_marked_however_it_is_sent(
    doppel: Listening, streams: bool, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    if not streams:
        slack.faults.missing_methods = {"chat.startStream"}
    engine.script = lambda persona, turns: answer(persona, "It woke us at night. " * 9)
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
    (raw,) = await doppel.answered("C1", root)
    metadata = raw["metadata"]
    assert metadata["event_type"] == AI_EVENT
    assert all(re.fullmatch(r"[0-9a-f]{16}", value) for value in metadata["event_payload"].values())
    kept = synced.bot(TEAM).answer(metadata["event_payload"]["answer"])
    assert kept
    assert (kept.user_id, kept.version, kept.thread_ts) == ("U1", "v0001", root)


@pytest.mark.parametrize("streams", [True, False])
async def test_a_sentence_has_a_link_to_its_source_behind_it(
    doppel: Listening, streams: bool, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    if not streams:
        slack.faults.missing_methods = {"chat.startStream"}
    sources = [passage("Ada: it woke us"), passage("Ada: we were three")]

    def script(persona: Persona, turns: Sequence[Turn]) -> list[Step]:
        told = "It woke us at night. We were three people then. I liked it."
        *_, last = answer(persona, told, sources)
        assert isinstance(last, Finished)
        said = (TextDelta("It woke us at"), TextDelta(" night.", 0), TextDelta(" We were three people then.", 1))
        code = (TextDelta("\n```\nx = 1", 0), TextDelta("\n```\n"), TextDelta("| a | b |", 1), TextDelta("\n"))
        return [SourcesFound(tuple(sources)), *said, TextDelta(" I liked it."), *code, last]

    engine.script = script
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
    (raw,) = await doppel.answered("C1", root)
    one, two = (f"[{number}]({source.permalink})" for number, source in enumerate(sources, 1))
    shown = next((block["text"] for block in raw["blocks"] if block["type"] == "markdown"), raw["text"])
    assert (
        shown
        == f"It woke us at night. {one} We were three people then. {two} I liked it.\n```\nx = 1\n```\n| a | b |\n"
    )
    assert (
        synced.bot(TEAM).answers("C1", root)[0].reply == "It woke us at night. We were three people then. I liked it."
    )
