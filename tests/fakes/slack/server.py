"""A fake Slack on a port of 127.0.0.1, for tests and for trying things out.

    with FakeSlack(workspace, limits=Limits(restricted=True, time_scale=100)) as slack:
        WebClient(slack.bot_token, base_url=slack.api_url).auth_test()

It speaks Slack's documented protocol; nothing is patched. Everything may be changed while it serves: the workspace, the
limits, the faults, the tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from tests.fakes.slack import web_api
from tests.fakes.slack.call import SlackError
from tests.fakes.slack.channels import Json
from tests.fakes.slack.delivery import Delivery, keep_connection
from tests.fakes.slack.faults import Faults
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.oauth import OAuth
from tests.fakes.slack.payloads import Payloads
from tests.fakes.slack.responses import Responses
from tests.fakes.slack.settings import App, Behaviour
from tests.fakes.slack.socket_mode import SocketMode
from tests.fakes.slack.streams import Stream
from tests.fakes.slack.tokens import SCOPES, Token, TokenKind, TokenState, new_secret
from tests.fakes.slack.web_api import Logged
from tests.fakes.slack.workspace import Workspace

_START_SECONDS, _TRIGGER_SECONDS = 10.0, 3.0


class _Server(uvicorn.Server):
    """uvicorn, told when to end instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.end = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.end.wait()


class FakeSlack:
    """The server. Several workspaces may have the app installed; the first is the one of `bot_token`.

    What clients did is in `calls`, `ephemerals`, `homes` (by user), `views` (by id), `assistant` and `responses`; what
    nobody was shown of it in `unshown`; `ports` are their ends of the connections over which they called.
    `sockets` are the app's connections, `payloads` builds what people's doings send, `oauth` installs.
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
        self.ports: set[int] = set()
        self.ephemerals: list[Json] = []
        self.unshown: list[Json] = []
        self.assistant: list[Json] = []
        self.homes: dict[str, Json] = {}
        self.views: dict[str, Json] = {}
        self.triggers: dict[str, float] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.tokens: dict[str, Token] = {}
        self.bot_token = self.add_token("bot", value=bot_token).value
        self.app_token = self.add_token("app").value
        self._socket = _listen(port)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.sockets, self.responses, self.oauth = SocketMode(self), Responses(self), OAuth(self)
        self.payloads = Payloads(self)
        self._server = _Server(self._config())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fake-slack", daemon=True)

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
        self.sockets.close()
        self._server.force_exit = True
        self.on_loop(self._server.end.set)
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

    def uninstall(self, workspace: Workspace | None = None) -> None:
        """Remove the app from a workspace: its tokens stop working, and the app is told."""
        place = workspace or self.workspace
        for token in self.tokens.values():
            if token.workspace is place and token.kind != "app":
                token.state = "account_inactive"
        place.emit({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [place.bot_user]}})
        place.emit({"type": "app_uninstalled"})

    def count(self, method: str, error: str | None = None) -> int:
        """How often a method was called; with `error`, how often it ended so ("" for well)."""
        return sum(call.method == method and error in (None, call.error) for call in tuple(self.calls))

    def new_trigger(self) -> str:
        """A trigger_id with which a form can be opened, once, within three seconds (scaled)."""
        trigger = f"{secrets.randbelow(10**12)}.{secrets.token_hex(8)}"
        self.triggers[trigger] = time.monotonic() + _TRIGGER_SECONDS / self.time_scale
        return trigger

    def on_loop(self, work: Callable[[], object]) -> None:
        """Do something in the server's thread; nothing once it has stopped."""
        if self._loop is None:
            raise RuntimeError("The fake Slack was not started.")
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def log_call(self, call: Logged) -> None:
        """Write to the call log."""
        self.calls.append(call)

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/api/{method}", self._api, methods=["GET", "POST"]),
            Route("/oauth/v2/authorize", self.oauth.authorize),
            Route("/openid/connect/authorize", self.oauth.authorize),
            Route("/openid/connect/keys", self.oauth.keys),
            Route("/response/{name}", self.responses.serve, methods=["POST"]),
            WebSocketRoute("/link/", self.sockets.serve),
        ]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([self._socket])

    def _config(self) -> uvicorn.Config:
        app = keep_connection(Starlette(routes=self._routes()), self.ports)
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


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it an answer takes 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    return listening
