"""A fake Slack in this process and a bot in another, wired to each other, for one measurement."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from benchmarks.bots import Bot, BotProcess, Script, Wiring
from benchmarks.frame import MeasurementError
from benchmarks.mentions import People
from benchmarks.sender import QuickHttpApp
from tests.fakes.slack import FakeSlack, HttpApp, Limits, Workspace

Way = Literal["http", "socket"]

TIME_SCALE = 60.0
"""Slack sends again at once, after a minute and after five; here it is a second and five."""
ACK_SECONDS = 3.0
STREAM_SECONDS = 300.0
FIRST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What each scene begins with: an export as Slack's workspace, the archive of it, and what the engine answers."""

    export: Path
    archive: Path
    work: Path
    script: Script

    @contextmanager
    def scene(self, bot: Bot, way: Way) -> Iterator[Scene]:
        """Slack and the bot at work, the bot on a copy of the archive."""
        workspace = Workspace.from_export(self.export, bot_in=("public", "private"))
        with ExitStack() as open_:
            folder = Path(open_.enter_context(TemporaryDirectory(dir=self.work)))
            shutil.copyfile(self.archive, folder / "archive.db")
            slack = open_.enter_context(FakeSlack(workspace, limits=Limits.none(TIME_SCALE)))
            slack.behaviour.stream_seconds = STREAM_SECONDS * TIME_SCALE
            app_token = slack.app_token if way == "socket" else ""
            wiring = Wiring(slack.api_url, slack.bot_token, slack.app.signing_secret, app_token)
            process = open_.enter_context(BotProcess(bot, wiring, self.script, folder))
            slack.sockets.ack_seconds = ACK_SECONDS
            http = QuickHttpApp(slack, process.url, disorder=True, ack_seconds=ACK_SECONDS) if way == "http" else None
            if http:
                open_.enter_context(http)
            scene = Scene(slack, People(slack, self.script.text), process, http)
            if scene.people.wait([scene.people.mention()], FIRST_SECONDS) is None:
                raise MeasurementError("The bot does not answer.")
            yield scene


@dataclass(frozen=True, slots=True)
class Scene:
    """Slack, its people and the bot, which has answered once. Without `http` it listens by Socket Mode."""

    slack: FakeSlack
    people: People
    bot: BotProcess
    http: HttpApp | None

    def disturb(self, duplicates: float, lost_acks: float) -> None:
        """From now on send these parts of the events twice, and lose these parts of the acknowledgements."""
        sender = self.http or self.slack.sockets
        sender.duplicates, sender.lost_acks = duplicates, lost_acks

    def ack_times(self) -> list[float]:
        """Seconds to each acknowledgement so far."""
        if self.http:
            return [attempt.seconds for attempt in tuple(self.http.attempts)]
        return list(self.slack.sockets.ack_times)

    def events(self) -> int:
        """Events so far, each counted once."""
        return len(self.slack.workspace.events)

    def settle(self, seconds: float) -> None:
        """Wait until nothing is under way to the bot. Raises TimeoutError."""
        if self.http:
            self.http.settle(seconds)
