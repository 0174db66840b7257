"""Which pages may talk to the web chat: its own, and no other site's, also not one of another port of this machine."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse

FOREIGN = (
    "Another site's page asked for this, and the web chat answers its own pages alone; open it in a tab of its own. If "
    "this is the web chat behind a proxy, DOPPEL_PUBLIC_URL must say the address at which browsers reach it."
)
PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]


class OwnOriginOnly:
    """ASGI middleware that refuses what another origin's page asks for, and lets no other origin read an answer.

    A browser says in `Origin` or `Sec-Fetch-Site` whose page asks (https://fetch.spec.whatwg.org/#origin-header,
    https://www.w3.org/TR/fetch-metadata/); who says nothing is no browser's page, such as Slack. A link that leads here
    is followed: the page that it opens is ours.
    """

    def __init__(self, app: Any, public_url: str = "") -> None:
        self._app = app
        self._public = _origin(public_url)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if not self._is_own(HTTPConnection(scope)):
            if scope["type"] == "http":
                await PlainTextResponse(FOREIGN, 403)(scope, receive, send)
            else:
                await send({"type": "websocket.close"})
            return

        async def send_to_own(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
                message["headers"] = kept
            await send(message)

        await self._app(scope, receive, send_to_own)

    def _is_own(self, request: HTTPConnection) -> bool:
        origins = request.headers.getlist("origin")
        if origins:
            return all(self._is_ours(origin, request) for origin in origins)
        site = request.headers.get("sec-fetch-site", "none")
        return site in ("same-origin", "none") or _is_link(request)

    def _is_ours(self, text: str, request: HTTPConnection) -> bool:
        origin = _origin(text)
        if origin is None:
            return False
        # The scheme says nothing here: a proxy may have taken TLS off.
        own = _origin(f"{origin[0]}://{request.headers.get('host', '')}")
        return origin in (own, self._public)


def _origin(url: str) -> Origin | None:
    """Scheme, host and port of an address; None where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]


def _is_link(request: HTTPConnection) -> bool:
    """Whether a browser follows a link, in a tab and not in a frame of another page."""
    headers = request.headers
    return (
        request.scope.get("method") == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
