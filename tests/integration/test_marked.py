"""Every answer says to machines that an AI wrote it, with ids that tell nothing to who may not read the archive."""

from __future__ import annotations

import re

import pytest

from doppel.archive import Archive
from doppel.slack.message_transport import AI_EVENT
from tests.fakes.engine import FakeEngine, answer
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
