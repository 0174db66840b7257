"""The tests' fake Slack in a process of its own, so that it shares no interpreter with whoever calls it."""

from __future__ import annotations

import math
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.process import Companion, leave_terminal
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.fakes.slack.limits import QUOTAS
from tests.fakes.slack.web_api import Logged

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
MINUTE = 60.0
QUOTA = QUOTAS
"""Calls a minute that Slack allows of each method."""


class ScaledLimits(Limits):
    """Slack's limits in a faster time, in which a Retry-After is a whole number of Slack's seconds as well."""

    def retry_after(self, seconds: float) -> str:
        """The Retry-After header of a wait, rounded up as Slack does."""
        return f"{max(1, math.ceil(seconds * self.time_scale)) / self.time_scale:.6f}"


class SlackProcess(Companion):
    """A fake Slack of an export, with Slack's limits, `time_scale` times as fast; without limits where that is None.

    Its bot is in every channel that is no direct message. Each measurement has one of its own, of which nobody has
    called anything yet.
    """

    def __init__(self, export: Path, time_scale: float | None) -> None:
        super().__init__("The fake Slack", START_SECONDS, _serve, export, time_scale, daemon=True)
        self.api_url, self.token = "", ""

    def started(self, told: Any) -> None:
        """Where it is, and the bot's token."""
        self.api_url, self.token = told

    def calls(self) -> list[Logged]:
        """Every call so far, refused ones too. Raises MeasurementError where the server has died."""
        self.pipe.send("calls")
        found: list[Logged] = self.hear(ANSWER_SECONDS)
        return found

    def counts(self) -> Counter[str]:
        """How often each method was called, refused calls too."""
        return Counter(call.method for call in self.calls())


def _serve(pipe: Connection, export: Path, time_scale: float | None) -> None:
    """Serve until whoever started it is gone."""
    leave_terminal()
    workspace = Workspace.from_export(export, bot_in=("public", "private"))
    limits = Limits.none() if time_scale is None else ScaledLimits(time_scale=time_scale)
    with FakeSlack(workspace, limits=limits) as slack:
        pipe.send((slack.api_url, slack.bot_token))
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(list(slack.calls))
