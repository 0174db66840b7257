"""kill -9 in the middle of answers: after the restart each is finished, or apologised for, and none is given twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from doppel.archive import Archive
from doppel.bot.answering import INTERRUPTED
from doppel.bot.bolt_app import bot_client
from doppel.timestamps import micros
from tests.end_to_end import environment
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import ADA, listening, replies

ROOT = Path(__file__).parents[2]
MENTIONS, KILLS = 16, 3
WORDS = " ".join(f"word{number}" for number in range(60))
SERVED = """
import asyncio, json, os, pathlib, sys
from doppel.app_context import AppContext
from doppel.serving.slack import hear_slack
from doppel.config import load_settings
from doppel.console import Console
from doppel.ingest import open_archive
from doppel.records import Persona
from fastapi import FastAPI
from tests.fakes.engine import FakeEngine, answer
class Told(Console):
    def say(self, text): print(text, flush=True)
async def main(words, team):
    settings = load_settings(os.environ)
    engine = FakeEngine([Persona(team, "U1", "Ada", "ada")], lambda p, t: answer(p, words, pause=0.02))
    with open_archive(settings.archive_at) as archive:
        await hear_slack(AppContext(settings, Told(as_json=False)), archive, FastAPI(), engine)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.user("ada", "Ada Lovelace", id="U1")
    made.channel("general", "U1", id="C1")
    return made


async def start(slack: FakeSlack, data_dir: Path) -> Process:
    """The bot as a process of its own, once it hears Slack."""
    way = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token, "SLACK_API_URL": slack.api_url}
    environ = os.environ | environment(data_dir) | way
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVED, WORDS, TEAM, stdout=PIPE, cwd=ROOT, env=environ
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"are heard" not in await process.stdout.readline():
            assert process.returncode is None
    return process


def is_whole(raw: Json) -> bool:
    return " ".join(str(raw["text"]).split()) == WORDS


async def test_no_answer_is_lost_or_given_twice(slack: FakeSlack, synced: Archive, tmp_path: Path) -> None:
    chance, roots = random.Random(2), list[str]()
    for number in range(KILLS):
        process = await start(slack, tmp_path)
        asked = [slack.workspace.post("C1", "U1", f"<@{BOT}> why?") for _ in range(MENTIONS)]
        roots += asked
        if number:
            await asyncio.sleep(chance.uniform(0.3, 2.5))
        else:
            # Once for certain in the middle of answers, however busy the machine is.
            async with asyncio.timeout(60):
                while all(is_whole(raw) for root in asked for raw in replies(slack, "C1", root)):
                    await asyncio.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if not number:
            assert any(not is_whole(raw) for root in asked for raw in replies(slack, "C1", root))
    process = await start(slack, tmp_path)
    async with asyncio.timeout(60):
        while synced.bot(TEAM).open_questions() or not all(replies(slack, "C1", root) for root in roots):
            await asyncio.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()
    ends = [[is_whole(raw) or INTERRUPTED in json.dumps(raw) for raw in replies(slack, "C1", root)] for root in roots]
    assert ends == [[True]] * len(roots)


async def begin(slack: FakeSlack, archive: Archive) -> tuple[str, str]:
    """A question that was kept, and the beginning of an answer to it that nobody noted; returns both timestamps."""
    root = slack.workspace.post("C1", "U1", f"<@{BOT}> why?")
    event = {"type": "app_mention", "channel": "C1", "user": "U1", "ts": root, "text": f"<@{BOT}> why?"}
    archive.bot(TEAM).accept([("Ev1", event)], micros(root))
    client = bot_client(slack.bot_token, slack.api_url)
    begun = await client.chat_startStream(
        channel="C1", thread_ts=root, markdown_text="It was", recipient_team_id=TEAM, recipient_user_id="U1"
    )
    return root, str(begun["ts"])


async def test_a_beginning_that_nobody_noted_makes_way_for_the_answer(
    slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    root, begun = await begin(slack, synced)
    async with listening(slack, synced, tmp_path, "socket", FakeEngine([ADA])) as doppel:
        await doppel.until(lambda: not synced.bot(TEAM).open_questions())
    (reply,) = replies(slack, "C1", root)
    assert reply["ts"] != begun
    assert "About why?" in reply["text"]


async def test_where_it_may_be_a_page_of_another_answer_it_stays(
    slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    root, begun = await begin(slack, synced)
    told: dict[str, Any] = {
        "channel": "C1",
        "thread_ts": root,
        "asker": "U1",
        "user_id": "U1",
        "version": None,
        "sources": (),
    }
    synced.bot(TEAM).add_answer(micros(begun), **told, question="and?", reply="so")
    async with listening(slack, synced, tmp_path, "socket", FakeEngine([ADA])) as doppel:
        await doppel.until(lambda: not synced.bot(TEAM).open_questions())
    assert [raw["ts"] == begun for raw in replies(slack, "C1", root)] == [True, False]
