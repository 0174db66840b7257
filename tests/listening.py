"""Doppel listening to a fake Slack, by Socket Mode or over HTTP, as `doppel serve` does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doppel.app_context import AppContext
from doppel.archive import Archive
from doppel.bot.bolt_app import EVENTS_PATH
from doppel.config import load_settings
from doppel.console import Console
from doppel.ingest.event_store import listening as told_of
from doppel.jobs.queue import Job, Jobs
from doppel.keys import new_key
from doppel.records import Persona
from doppel.services.ask import Engine
from doppel.serving.slack import hear_slack
from doppel.serving.web import queue_of, web_page
from doppel.web.http_server import reserve_port, serve
from tests.end_to_end import environment
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import TEAM, FakeSlack, HttpApp
from tests.fakes.slack.channels import Json
from tests.fakes.slack.payloads import Payloads
from tests.web_reader import ERIK

ADA, GRACE = Persona(TEAM, "U1", "Ada", "ada", "v0001"), Persona(TEAM, "U2", "Grace", "grace", "v0002")


def replies(slack: FakeSlack, channel: str, root: str) -> list[Json]:
    """What the bot said in a thread."""
    return [raw for raw in slack.workspace.find(channel).log.replies(root) if raw.get("bot_id")]


@dataclass
class Listening:
    """What listens, and how to wait for it."""

    slack: FakeSlack
    archive: Archive
    run: AppContext
    url: str
    http: HttpApp | None = None
    said: list[str] = field(default_factory=list)

    async def command(self, text: str, user: str = "U1", channel: str = "C1", payloads: Payloads | None = None) -> None:
        """Send what somebody typed after /doppel; `payloads` are those of another workspace than the first."""
        typed = (payloads or self.slack.payloads).slash_command("/doppel", text, user=user, channel=channel)
        if self.http:
            acknowledged = await asyncio.to_thread(self.http.command, typed)
            assert (acknowledged.status_code, acknowledged.text) == (200, "")
        else:
            sent = self.slack.sockets.send("slash_commands", typed)
            await asyncio.to_thread(self.slack.sockets.wait_for_ack, sent, 10)

    async def answer_to(
        self, text: str, user: str = "U1", channel: str = "C1", payloads: Payloads | None = None
    ) -> Json:
        """What somebody alone is told after such a command."""
        before = len(self.slack.responses.said)
        await self.command(text, user, channel, payloads)
        await self.until(lambda: len(self.slack.responses.said) > before)
        return self.slack.responses.said[-1]

    async def answered(self, channel: str, root: str, number: int = 1) -> list[Json]:
        """What the bot said in a thread, once it is so many messages and no question is open any more."""

        def is_done() -> bool:
            is_said = len(replies(self.slack, channel, root)) >= number
            return is_said and not self.archive.bot(self.slack.workspace.team).open_questions()

        await self.until(is_done)
        return replies(self.slack, channel, root)

    async def act(self, done: Json) -> Any:
        """Send what somebody did with a button, a menu or a form; returns what the app answered."""
        if self.http:
            answer = await asyncio.to_thread(self.http.act, done)
            assert answer.status_code == 200
            return answer.json() if answer.text else None
        sent = self.slack.sockets.send("interactive", done)
        return await asyncio.to_thread(self.slack.sockets.wait_for_ack, sent, 10)

    async def replay(self) -> None:
        """Send the last command or action once more as it was; it is acknowledged as the first time."""
        if self.http:
            assert (await asyncio.to_thread(self.http.replay)).status_code == 200
        else:
            await asyncio.to_thread(self.slack.sockets.wait_for_ack, self.slack.sockets.replay(), 10)

    async def settle(self) -> None:
        """Wait until every event is in the archive: a last message says so, as events are taken in order."""
        if self.http:
            await asyncio.to_thread(self.http.settle, 30)
        workspace = self.slack.workspace
        marked = workspace.post("C1", "U1", "That is all.")
        await self.until(lambda: any(m.ts == marked for m in self.archive.messages([(workspace.team, "C1")])))

    async def until(self, condition: object, seconds: float = 20) -> None:
        """Wait until it is true."""
        assert callable(condition)
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.05)

    def jobs(self) -> list[Job]:
        """What was asked for."""
        with Jobs(self.run.settings) as jobs:
            return jobs.all()


class Quiet(Console):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(as_json=False)
        self._said = said

    def say(self, text: str) -> None:
        self._said.append(text)


@asynccontextmanager
async def listening(
    slack: FakeSlack,
    archive: Archive,
    data_dir: Path,
    way: str,
    engine: FakeEngine | Engine | None = None,
    **http: object,
) -> AsyncIterator[Listening]:
    """Doppel at work on the events of `slack` with its bot token; `way` is socket or http."""
    async with serving(slack, archive, data_dir, way, {"SLACK_BOT_TOKEN": slack.bot_token}, engine, **http) as found:
        yield found


@asynccontextmanager
async def open_to_all(
    slack: FakeSlack,
    archive: Archive,
    data_dir: Path,
    way: str,
    engine: FakeEngine | Engine | None = None,
    **settings: str,
) -> AsyncIterator[Listening]:
    """Doppel as workspaces can install it, and people sign in to it."""
    app = {"SLACK_CLIENT_ID": slack.app.client_id, "SLACK_CLIENT_SECRET": slack.app.client_secret}
    keys = {"DOPPEL_TOKEN_KEYS": new_key(), "DOPPEL_PUBLIC_URL": "{url}"}
    async with serving(slack, archive, data_dir, way, app | keys | settings, engine) as found:
        yield found


@asynccontextmanager
async def serving(
    slack: FakeSlack,
    archive: Archive,
    data_dir: Path,
    way: str,
    environ: dict[str, str],
    engine: FakeEngine | Engine | None,
    **http: object,
) -> AsyncIterator[Listening]:
    """The web chat and Slack, as `doppel serve` has them; `{url}` in a setting is where it serves."""
    secret = {
        "socket": {"SLACK_APP_TOKEN": slack.app_token},
        "http": {"SLACK_SIGNING_SECRET": slack.app.signing_secret},
    }
    said: list[str] = []
    answers = engine or FakeEngine([ERIK])
    with reserve_port("127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        given = environment(data_dir) | {"SLACK_API_URL": slack.api_url} | secret[way] | environ
        settings = load_settings({name: value.format(url=url) for name, value in given.items()})
        run = AppContext(settings, Quiet(said))
        queue = queue_of(settings)
        page = web_page(run, archive, answers, queue=queue)
        ready = asyncio.Event()
        tasks = [
            asyncio.create_task(serve(page, port, ready.set)),
            asyncio.create_task(hear_slack(run, archive, page, answers, queue)),
        ]
        try:
            await ready.wait()
            found = Listening(slack, archive, run, url, said=said)
            await found.until(lambda: any("are heard" in text for text in said))
            with contextlib.ExitStack() as stack:
                if way == "http":
                    app = HttpApp(slack, url + EVENTS_PATH, ack_seconds=5, **http)  # type: ignore[arg-type]
                    found.http = stack.enter_context(app)
                yield found
        finally:
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def heard_since(archive: Archive, team: str) -> int | None:
    """Since when events have told of all that happened in a workspace, in microseconds; None where none did."""
    with archive.reading() as connection:
        told = told_of(connection, team)
        return told.since if told else None
