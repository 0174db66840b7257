"""A fake Slack on a port of 127.0.0.1, for tests and for trying things out.

    with FakeSlack(workspace, limits=Limits(restricted=True, time_scale=100)) as slack:
        WebClient(slack.bot_token, base_url=slack.api_url).auth_test()

It speaks Slack's documented protocol; nothing is patched. Everything may be changed while it serves: the workspace, the
limits, the faults, the tokens.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tests.fakes.slack import web_api
from tests.fakes.slack.call import SlackError
from tests.fakes.slack.channels import Json
from tests.fakes.slack.faults import Faults
from tests.fakes.slack.http import Delivery, keep_connection
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.settings import App, Behaviour
from tests.fakes.slack.streams import Stream
from tests.fakes.slack.tokens import SCOPES, Token, TokenKind, TokenState, new_secret
from tests.fakes.slack.web_api import Logged
from tests.fakes.slack.workspace import Workspace

_START_SECONDS = 10.0


class FakeSlack:
    """The server. Several workspaces may have the app installed; the first is the one of `bot_token`.

    What clients did is in `calls`, `ephemerals`, `homes` (by user), `views` (by id) and `assistant`.
    """

    def __init__(
        self,
        *workspaces: Workspace,
        limits: Limits | None = None,
        faults: Faults | None = None,
        behaviour: Behaviour | None = None,
        app: App | None = None,
        port: int = 0,
        bot_token: str | None = None,
    ) -> None:
        self.workspaces = workspaces or (Workspace(),)
        self.limits, self.faults = limits or Limits.none(), faults or Faults.none()
        self.behaviour, self.app = behaviour or Behaviour(), app or App()
        self.calls: deque[Logged] = deque(maxlen=100_000)
        self.ephemerals: list[Json] = []
        self.assistant: list[Json] = []
        self.homes: dict[str, Json] = {}
        self.views: dict[str, Json] = {}
        self.triggers: set[str] = set()
        self.streams: dict[tuple[str, str], Stream] = {}
        self.tokens: dict[str, Token] = {}
        self.bot_token = self.add_token("bot", value=bot_token).value
        self.app_token = self.add_token("app").value
        self._socket = socket.create_server(("127.0.0.1", port), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(self._config())
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="fake-slack", daemon=True)

    @property
    def api_url(self) -> str:
        """What a client takes for https://slack.com/api/."""
        return f"{self.url}/api/"

    @property
    def workspace(self) -> Workspace:
        """The first workspace."""
        return self.workspaces[0]

    @property
    def time_scale(self) -> float:
        """How much faster than Slack's the clock of limits, retries and expiries runs."""
        return self.limits.time_scale

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Serve in a thread, until `stop`."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The fake Slack did not start.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def add_token(
        self,
        kind: TokenKind = "bot",
        *,
        workspace: Workspace | None = None,
        user: str | None = None,
        scopes: set[str] | None = None,
        value: str | None = None,
    ) -> Token:
        """Issue a token: a bot's, a user's (name whose), or the app's own."""
        place = workspace or self.workspace
        granted = set(SCOPES[kind]) if scopes is None else scopes
        token = Token(value or new_secret(kind), kind, place, user or place.bot_user, granted)
        self.tokens[token.value] = token
        return token

    def revoke(self, token: str, state: TokenState = "token_revoked") -> None:
        """Make a token answer `state` from now on; "active" gives it back."""
        self.tokens[token].state = state

    def count(self, method: str, error: str | None = None) -> int:
        """How often a method was called; with `error`, how often it ended so ("" for well)."""
        return sum(call.method == method and error in (None, call.error) for call in tuple(self.calls))

    def log_call(self, call: Logged) -> None:
        """Write to the call log."""
        self.calls.append(call)

    def _routes(self) -> list[BaseRoute]:
        return [Route("/api/{method}", self._api, methods=["GET", "POST"])]

    def _config(self) -> uvicorn.Config:
        app = keep_connection(Starlette(routes=self._routes()))
        return uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1)

    async def _api(self, request: Request) -> Response:
        headers, method = request.headers, request.path_params["method"]
        body = await request.body()
        try:
            params = web_api.parse(request.url.query, headers.get("content-type", ""), body)
            made = web_api.answer(self, method, params, headers.get("authorization", ""))
        except SlackError as error:
            made = web_api.refuse(self, method, error)
        return Delivery(made, self.faults.slow_seconds)
