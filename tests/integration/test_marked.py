"""Every answer says to machines that an AI wrote it, with ids that tell nothing to who may not read the archive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from doppel.archive import Archive
from doppel.ingest import open_archive
from doppel.records import Persona
from doppel.slack.message_transport import AI_EVENT
from tests.fakes.engine import FakeEngine, answer
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import Listening, listening
from tests.syncing import sync

BOT, TEAM = "U0FAKEBOT1", "T0FAKE0001"
ADA = Persona(TEAM, "U1", "ada", "ada", "v0001")


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    made = Workspace()
    made.user("ada", id="U1"), made.user("grace", id="U2")
    made.channel("general", "U1", "U2", id="C1")
    with FakeSlack(made, limits=Limits.none(time_scale=20)) as running:
        yield running


@pytest.fixture
def archive(slack: FakeSlack, tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive.db") as opened:
        sync(slack, opened)
        yield opened


@pytest.fixture(params=["socket", "http"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answered(doppel: Listening, root: str) -> Json:
    """The bot's only message in a thread, once it is whole."""

    def replies() -> list[Json]:
        return [raw for raw in doppel.slack.workspace.find("C1").log.replies(root) if raw.get("bot_id")]

    await doppel.until(lambda: replies() and not doppel.archive.bot(TEAM).open_questions())
    (raw,) = replies()
    return raw


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_is_marked_however_it_is_sent(
    way: str, streams: bool, slack: FakeSlack, archive: Archive, tmp_path: Path
) -> None:
    if not streams:
        slack.faults.missing_methods = {"chat.startStream"}
    engine = FakeEngine([ADA], lambda persona, turns: answer(persona, "It woke us at night. " * 9))
    async with listening(slack, archive, tmp_path, way, engine) as doppel:
        root = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
        raw = await answered(doppel, root)
        metadata = raw["metadata"]
        assert metadata["event_type"] == AI_EVENT
        assert all(re.fullmatch(r"[0-9a-f]{16}", value) for value in metadata["event_payload"].values())
        kept = archive.bot(TEAM).answer(metadata["event_payload"]["answer"])
        assert kept
        assert (kept.user_id, kept.version, kept.thread_ts) == ("U1", "v0001", root)
