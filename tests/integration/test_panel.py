"""Several people asked at once: each answers from what may be read when their answer begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from doppel.access import ConsentAction
from doppel.config import load_settings
from doppel.inference.client import Piece
from doppel.ingest import EventStore, open_archive
from doppel.slack.events import Change, ChannelPrivate, Membership
from doppel.timestamps import now_micros
from tests.answering import indexed_engine
from tests.end_to_end import environment
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.fakes.tokenizer import WordTokenizer
from tests.listening import listening, replies
from tests.syncing import sync

SECRET = "forty two million"


class SlowThenParrot:
    """A model that thinks about its first answer, and repeats the prompt as its second."""

    def __init__(self) -> None:
        self.tokenizer, self.answers = WordTokenizer(), 0
        self.thinks, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def stream(self, prompt_ids: Sequence[int], *_: object, **__: object) -> AsyncIterator[Piece]:
        self.answers += 1
        if self.answers > 1:
            yield Piece(self.tokenizer.decode(prompt_ids), 200)
            return
        yield Piece("The first one thinks about this for a while. ", 5)
        self.thinks.set()
        await self.may_go_on.wait()
        yield Piece("And is done.", 9)


@pytest.mark.parametrize("change", [None, ChannelPrivate("C2"), Membership("C1", "U4", joined=True)], ids=str)
async def test_the_second_answer_uses_nothing_that_was_closed_during_the_first(
    tmp_path: Path, change: Change | None
) -> None:
    made = Workspace()
    ada, bob, cy = (made.user(name, id=id_) for name, id_ in (("ada", "U1"), ("bob", "U2"), ("cy", "U3")))
    made.user("gus", id="U4", is_restricted=True)
    made.channel("general", ada, bob, cy, id="C1")
    made.channel("plans", ada, bob, id="C2")
    made.post("C2", ada, f"The merger budget is {SECRET}")
    settings = load_settings(environment(tmp_path))
    with FakeSlack(made, limits=Limits.none(time_scale=50)) as slack, open_archive(settings.archive_at) as archive:
        sync(slack, archive)
        for person in ("U1", "U2"):
            archive.record_consent(archive.get_user(made.team, person), ConsentAction.GRANT, "tests")
        model = SlowThenParrot()
        engine = indexed_engine(settings, archive, model)
        async with listening(slack, archive, tmp_path, "socket", engine) as doppel:
            root = made.post("C1", cy, f"<@{made.bot_user}> panel <@U1> <@U2> what is the merger budget?")
            await model.thinks.wait()
            if change:
                await asyncio.to_thread(EventStore(archive, made.team).take, [(change, now_micros())])
            model.may_go_on.set()
            await doppel.until(lambda: not archive.bot(made.team).open_questions(), 60)
        said = str(replies(slack, "C1", root))
    assert model.answers == 2
    # Without a change it is quoted: the rule must not be kept by finding nothing.
    assert (SECRET in said) is (change is None)
