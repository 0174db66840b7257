"""Answers on their way back to the client, and how that way goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.fakes.slack.faults import Fault
from tests.fakes.slack.web_api import Answer

_CONNECTION = "fake_slack.connection"


def keep_connection(app: ASGIApp, ports: set[int]) -> ASGIApp:
    """Let a response reach the connection under it, so that it can end it: uvicorn's `send` is bound to it.

    `ports` takes the clients' ends of the connections.
    """

    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
        ports.add(scope["client"][1])
        scope[_CONNECTION] = getattr(send, "__self__", None)
        await app(scope, receive, send)

    return wrapper


class Delivery(Response):
    """Sends an answer, or as much of it as its fault lets through."""

    def __init__(self, answer: Answer, slow_seconds: float) -> None:
        super().__init__(answer.body, answer.status or 200, answer.headers)
        self._fault, self._slow_seconds = answer.fault, slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._fault is Fault.SLOW:
            await asyncio.sleep(self._slow_seconds)
        if self._fault is Fault.CUT:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = bytes(self.body)[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        if self._fault in (Fault.CUT, Fault.DROPPED, Fault.LOST):
            _hang_up(scope[_CONNECTION])
        else:
            await super().__call__(scope, receive, send)


def _hang_up(connection: Any) -> None:
    connection.disconnected = True  # uvicorn then takes the missing answer for a client that went away
    connection.transport.close()
