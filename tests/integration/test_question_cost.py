"""What one question asks of the archive: a few statements, however many people and channels there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest
from sqlalchemy.event import listen, remove

from doppel.access import ConsentAction
from doppel.archive import Archive
from doppel.config import load_settings
from tests.answering import Parrot, indexed_engine
from tests.end_to_end import environment
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.listening import listening
from tests.syncing import sync

MOST = 15
ASKING = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
"""How statements begin that ask for something or change it; others begin transactions and take locks."""


class CountingEmbedder(FakeEmbedder):
    """Counts the batches of queries that it embeds, one a question."""

    questions = 0

    def encode_queries(self, texts: Sequence[str]) -> Any:
        type(self).questions += 1
        return super().encode_queries(texts)


NOT_COUNTED = {"doppel.ingest.event_store", "doppel.bot.job_notices", "tests.listening"}
"""Modules that ask for something else than the question does: events on their way into the archive, notices about jobs,
and how a test waits.
"""


def is_counted(asking: FrameType | None) -> bool:
    """Whether it is the question that asks the archive here."""
    while asking:
        if asking.f_globals.get("__name__") in NOT_COUNTED:
            return False
        asking = asking.f_back
    return True


@contextmanager
def statements(archive: Archive) -> Iterator[list[str]]:
    """What is asked of the archive while this is open, but for events on their way into it."""
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(ASKING) and is_counted(sys._getframe(1)):
            said.append(statement)

    listen(archive._engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        remove(archive._engine, "before_cursor_execute", note)


def workspace(people: int, channels: int) -> Workspace:
    made = Workspace()
    ids = [made.user(f"person{number}", id=f"U{number}") for number in range(people)]
    for number in range(channels):
        kind: Literal["public", "private"] = "public" if number % 3 else "private"
        made.channel(f"channel{number}", *ids[number % 7 :: 7], ids[0], BOT, id=f"C{number}", kind=kind)
        made.post(f"C{number}", ids[number % people], f"We moved the queue of channel {number} from Kafka to a table.")
    return made


@pytest.mark.parametrize("people", [10, 300])
@pytest.mark.parametrize("way", ["socket", "http"])
async def test_a_mention_costs_a_few_statements(
    archive: Archive, tmp_path: Path, people: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once a second it is looked whether an answer may still be given; this one takes no second.
    monkeypatch.setattr("doppel.services.ask.LOOK_SECONDS", 60.0)
    monkeypatch.setattr("doppel.bot.writing.FRESH_SECONDS", 60.0)
    settings = load_settings(environment(tmp_path))
    with FakeSlack(workspace(people, channels=people // 2)) as slack:
        sync(slack, archive)
        archive.record_consent(archive.get_user(TEAM, "U1"), ConsentAction.GRANT, "tests")
        engine = indexed_engine(settings, archive, Parrot(), CountingEmbedder())
        async with listening(slack, archive, tmp_path, way, engine) as doppel:

            async def asked(text: str) -> list[str]:
                """The statements of one mention, up to its whole answer."""
                with statements(archive) as said:
                    root = slack.workspace.post("C1", "U0", f"<@{BOT}> {text}")
                    await doppel.answered("C1", root)
                return said

            await asked("as <@U1> what was it at first?")
            # The bot itself is met by its first answer.
            await doppel.settle()
            CountingEmbedder.questions = 0
            told = await asked("as <@U1> which queue do we use?")
            assert len(told) <= MOST
            assert CountingEmbedder.questions == 1
