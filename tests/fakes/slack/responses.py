"""The `response_url`s of commands and actions: five uses within half an hour."""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.fakes.slack.channels import Json
from tests.fakes.slack.workspace import Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

_USES, _SECONDS = 5, 1800.0


@dataclass
class ResponseUrl:
    """One URL, where it answers to, and what was sent to it."""

    workspace: Workspace
    channel: str
    user: str
    expires: float
    said: list[Json] = field(default_factory=list)


class Responses:
    """Every `response_url`; `said` is what came in, in order. What is meant for all is posted in the channel."""

    def __init__(self, slack: FakeSlack) -> None:
        self._slack, self._urls, self._lock = slack, dict[str, ResponseUrl](), threading.Lock()
        self.said: list[Json] = []

    def new(self, workspace: Workspace, channel: str, user: str) -> str:
        """A URL for an answer in a channel, to a user."""
        name = secrets.token_hex(12)
        self._urls[name] = ResponseUrl(workspace, channel, user, time.monotonic() + _SECONDS / self._slack.time_scale)
        return f"{self._slack.url}/response/{name}"

    async def serve(self, request: Request) -> Response:
        """An app answers."""
        try:
            given = json.loads(await request.body())
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        with self._lock:
            url = self._urls.get(request.path_params["name"])
            error = _error(url)
            if url is None or error:
                return JSONResponse({"ok": False, "error": error}, 404)
            url.said.append(given)
            self.said.append(given)
        self._show(url, given)
        return PlainTextResponse("ok")

    def _show(self, url: ResponseUrl, given: Json) -> None:
        team, text = url.workspace, str(given.get("text", ""))
        if given.get("response_type") == "in_channel":
            blocks = {"blocks": given["blocks"]} if given.get("blocks") else {}
            team.post(url.channel, team.bot_user, text, given.get("thread_ts"), bot_id=team.bot_id, **blocks)
        elif not (given.get("delete_original") or given.get("replace_original")):
            self._slack.ephemerals.append({"channel": url.channel, "user": url.user, **given})


def _error(url: ResponseUrl | None) -> str:
    if url is None:
        return "no_such_url"
    if time.monotonic() >= url.expires:
        return "expired_url"
    return "used_url" if len(url.said) >= _USES else ""
