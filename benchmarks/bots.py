"""Two bots with the same scripted engine, each in a process of its own: Doppel's, and one as Bolt's guide writes it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI, Request, Response
from slack_bolt.adapter.fastapi.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from benchmarks.frame import MeasurementError
from benchmarks.process import Companion, leave_terminal
from doppel.access import ReadPolicy
from doppel.app_context import AppContext
from doppel.bot.bolt_app import EVENTS_PATH
from doppel.config import load_settings
from doppel.console import Console, quiet_libraries
from doppel.records import Dialogue, Persona, TextDelta, Turn
from doppel.serving.slack import hear_slack
from doppel.web.chat_session import Reader
from doppel.web.http_server import reserve_port, serve
from tests.fakes.engine import FakeEngine, answer

START_SECONDS = 120.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Script:
    """What the engine answers, as `persona`: so many words with so many seconds before each."""

    persona: Persona
    words: int
    pause: float

    @property
    def text(self) -> str:
        """The answer, each of its words another."""
        return " ".join(f"word{number}" for number in range(1, self.words + 1))

    def engine(self) -> FakeEngine:
        """An engine that answers so, and remembers nothing."""
        engine = FakeEngine([self.persona])

        def script(persona: Persona, turns: object) -> Any:
            engine.asked.clear()
            return answer(persona, self.text, pause=self.pause)

        engine.script = script
        return engine


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a bot and Slack reach each other: by Socket Mode where there is an `app_token`, else over HTTP."""

    api_url: str
    bot_token: str = field(repr=False)
    signing_secret: str = field(repr=False)
    app_token: str = field(repr=False, default="")


Bot = Callable[[Wiring, Script, Path, socket.socket, Callable[[], None]], Any]
"""Listens on a socket until cancelled, with a data folder; calls back once Slack's events are heard."""


async def doppel_bot(
    wiring: Wiring, script: Script, data_dir: Path, listening: socket.socket, ready: Callable[[], None]
) -> None:
    """What `doppel serve` runs, without the model server: the web chat's page and the bot behind it."""
    # Gradio takes seconds to import, and the peer has no use for it.
    from doppel.web.page import build_app

    settings = load_settings(
        data_dir=data_dir,
        slack_api_url=wiring.api_url,
        slack_bot_token=wiring.bot_token,
        slack_signing_secret=wiring.signing_secret,
        slack_app_token=wiring.app_token or None,
    )
    run, engine = AppContext(settings, _Heard(ready)), script.engine()
    with run.archive() as archive:
        page = build_app(lambda _: Reader(engine, ReadPolicy(public=True)), _keep_nothing)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(page, listening))
            tasks.create_task(hear_slack(run, archive, page, engine))


async def plain_bolt_bot(
    wiring: Wiring, script: Script, data_dir: Path, listening: socket.socket, ready: Callable[[], None]
) -> None:
    """The peer: a listener for mentions that posts the answer when it is complete."""
    client = AsyncWebClient(wiring.bot_token, base_url=wiring.api_url)
    app, engine, page = AsyncApp(client=client, signing_secret=wiring.signing_secret), script.engine(), FastAPI()
    handler = AsyncSlackRequestHandler(app)

    @app.event("app_mention")
    async def mentioned(event: dict[str, Any]) -> None:
        asked, place = Dialogue((Turn("Colleague", event["text"]),)), ReadPolicy(public=True)
        said = [part async for part in engine.reply(script.persona, asked, place) if isinstance(part, TextDelta)]
        text = "".join(part.text for part in said)
        await client.chat_postMessage(channel=event["channel"], thread_ts=event["ts"], text=text)

    @app.event("message")
    async def ignored() -> None: ...

    @page.post(EVENTS_PATH)
    async def endpoint(request: Request) -> Response:
        return await handler.handle(request)

    await serve(page, listening, ready)


class BotProcess(Companion):
    """A bot at work; `url` is where Slack's events go over HTTP."""

    def __init__(self, bot: Bot, wiring: Wiring, script: Script, data_dir: Path) -> None:
        super().__init__("The bot", START_SECONDS, _work, bot, wiring, script, data_dir, daemon=False)
        self.url = ""

    def started(self, told: Any) -> None:
        """The port that it listens on."""
        self.url = f"http://127.0.0.1:{told}{EVENTS_PATH}"

    def rss(self) -> float:
        """The memory that it holds now, MiB. Raises MeasurementError where it has died."""
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / MIB
        except psutil.NoSuchProcess:
            raise MeasurementError("The bot has died.") from None


def _work(pipe: Connection, bot: Bot, wiring: Wiring, script: Script, data_dir: Path) -> None:
    """Run a bot until whoever started it is gone."""
    leave_terminal()
    quiet_libraries()
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    with reserve_port("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        asyncio.run(bot(wiring, script, data_dir, listening, lambda: pipe.send(port)))


def _end_with(pipe: Connection) -> None:
    try:
        pipe.recv()
    except EOFError:
        os._exit(0)


class _Heard(Console):
    """Says nothing, and tells when Slack's events are heard."""

    def __init__(self, ready: Callable[[], None]) -> None:
        super().__init__(as_json=False)
        self._ready = ready

    def say(self, text: str) -> None:
        if "are heard" in text:
            self._ready()


def _keep_nothing(
    persona: Persona,
    question: str,
    reply: str,
    sources: Sequence[str],
    liked: bool | None,
    replaces: int | None = None,
) -> None:
    """The web chat's votes, of which there are none."""
