"""How much a request to the server may bring along."""

from __future__ import annotations

from typing import Any

from fastapi.responses import PlainTextResponse

BODY_BYTES = 1_000_000
"""Slack's requests are far below it, and so is all that the web chat's page sends."""
DRAINED_BYTES = 16_000_000
"""How much of a larger one is read and thrown away: many programs hear of a refusal only once they have sent it all."""
DIGITS = 12
TOO_LARGE = f"A request may have {BODY_BYTES:,} bytes; ask something shorter."


class LimitedBody:
    """ASGI middleware that reads a request's body before anything else does, and refuses one that is too large."""

    def __init__(self, app: Any, most: int = BODY_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages = await self._read(scope, receive)
        if messages is None:
            _tell(scope)
            refusal = PlainTextResponse(TOO_LARGE, 413, {"connection": "close"})
            await refusal(scope, receive, send)
            return

        async def received() -> Any:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, received, send)

    async def _read(self, scope: Any, receive: Any) -> list[Any] | None:
        """What came until the body's end, None where it is too large: of that no more is kept than may be."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > DIGITS or int(announced) > DRAINED_BYTES:
            return None
        messages, size = [], 0
        while size <= DRAINED_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            if size <= self._most:
                messages.append(message)
            if not message.get("more_body"):
                break
        return messages if size <= self._most else None


def _tell(scope: Any) -> None:
    """Let the page know that something did not come through, if it is as Slack signs it."""
    told = getattr(scope["app"].state, "too_large", None) if "app" in scope else None
    if told and any(name == b"x-slack-signature" for name, _ in scope["headers"]):
        told(scope["path"])
