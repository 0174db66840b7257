"""Who comes in: the pages to install the app and to sign in with Slack, and what stands before the web chat."""

from __future__ import annotations

import asyncio
import hashlib
import html
import ipaddress
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.requests import HTTPConnection
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from doppel.archive.archive import Archive
from doppel.archive.installations import Installation, WebSession
from doppel.errors import DoppelError, SlackError
from doppel.records import Raw
from doppel.services.tokens import Tokens
from doppel.slack.manifest import BACK, SCOPES
from doppel.slack.members import id_of
from doppel.slack.oauth import OAuthClient, States, nonce_of
from doppel.timestamps import now_micros

INSTALL, SIGN_IN, SIGN_OUT = "/slack/install", "/slack/sign-in", "/slack/sign-out"
INSTALLED, SIGNED_IN = BACK
OPEN_PATHS = "/slack/"
SESSION_SECONDS = 7 * 86_400
SESSION, SECRET = "doppel-session", "doppel-secret"
VISITOR = "doppel.visitor"
PAGES = 100_000
"""Open pages whose visitors are remembered."""

BEGIN_AGAIN = "This page is too old, or was opened in another browser; begin again."
STRANGER = "Your workspace has not installed Doppel, or Doppel does not know you yet; ask again after the next sync."
HERE_ONLY = (
    "This web chat can be read on its own machine only, at http://127.0.0.1; for others, let people sign in with Slack "
    "(docs/slack.md)."
)


class Auth:
    """The pages, and who is signed in. `public_url` is where browsers reach this server."""

    def __init__(self, archive: Archive, tokens: Tokens, states: States, client: OAuthClient, public_url: str) -> None:
        self._archive, self._store, self._tokens = archive, archive.installations, tokens
        self._states, self._client, self._url = states, client, public_url

    def mount(self, page: FastAPI) -> None:
        """Let the server of `page` show the pages, before those of the web chat, which take every path."""
        routes: dict[str, tuple[Callable[..., Any], str]] = {
            INSTALL: (self._install, "GET"),
            INSTALLED: (self._installed, "GET"),
            SIGN_IN: (self._sign_in, "GET"),
            SIGNED_IN: (self._signed_in, "GET"),
            SIGN_OUT: (self._sign_out, "POST"),
        }
        for path, (endpoint, verb) in routes.items():
            page.add_api_route(path, endpoint, methods=[verb], include_in_schema=False, response_model=None)
            page.router.routes.insert(0, page.router.routes.pop())

    def visitor(self, session: str) -> str | None:
        """Who holds that session, as "team/user"; None where nobody does, or may any more. Blocks."""
        found = self._store.session(_hash(session), now_micros()) if session else None
        return f"{found.team}/{found.user_id}" if found and self._may_enter(found.team, found.user_id) else None

    def _may_enter(self, team: str, user_id: str) -> bool:
        """Whether somebody is of a workspace in which the app is installed, and not gone from it."""
        if self._store.get(team) is None:
            return False
        found = self._archive.user(team, user_id)
        return found is not None and not found.deleted and not found.is_bot

    async def _install(self) -> Response:
        secret, state = self._states.new("install")
        return self._to_slack(self._client.install_page(sorted(SCOPES), state, self._url + INSTALLED), secret)

    async def _sign_in(self) -> Response:
        secret, state = self._states.new("sign-in")
        return self._to_slack(self._client.sign_in_page(state, nonce_of(secret), self._url + SIGNED_IN), secret)

    async def _installed(self, request: Request) -> Response:
        try:
            raw = await self._client.installed(self._code(request, "install"), self._url + INSTALLED)
            await asyncio.to_thread(self._keep, raw)
        except DoppelError as error:
            return self._page("Doppel was not installed.", str(error), INSTALL)
        name = str((raw.get("team") or {}).get("name") or "")
        return self._page(f"Doppel is installed in {name}.", "Invite it to a channel: /invite @doppel", SIGN_IN)

    def _keep(self, raw: Raw) -> None:
        team = raw.get("team") or {}
        if raw.get("is_enterprise_install") or not id_of(team, "id"):
            raise SlackError("Doppel can't be installed in a whole organisation; choose one of its workspaces.")
        by = id_of(raw.get("authed_user") or {}, "id")
        bot_token, refresh_token, expires = self._tokens.sealed(raw)
        given = (id_of(team, "id"), str(team.get("name") or ""), id_of(raw, "bot_user_id"))
        self._store.put(Installation(*given, bot_token, refresh_token, expires, by, now_micros()))

    async def _signed_in(self, request: Request) -> Response:
        try:
            code, nonce = self._code(request, "sign-in"), nonce_of(request.cookies.get(SECRET, ""))
            person = await self._client.signed_in(code, self._url + SIGNED_IN, nonce)
            if not await asyncio.to_thread(self._may_enter, person.team, person.user):
                raise SlackError(STRANGER)
            session, now = secrets.token_urlsafe(32), now_micros()
            kept = WebSession(person.team, _hash(session), person.user, now + SESSION_SECONDS * 1_000_000)
            await asyncio.to_thread(self._store.add_session, kept, now)
        except DoppelError as error:
            return self._page("You are not signed in.", str(error), SIGN_IN)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(SECRET, path=OPEN_PATHS)
        self._set(answer, SESSION, session, SESSION_SECONDS, "/")
        return answer

    async def _sign_out(self, request: Request) -> Response:
        await asyncio.to_thread(self._store.end_session, _hash(request.cookies.get(SESSION, "")))
        answer = self._page("You are signed out.", "", SIGN_IN, status=200)
        answer.delete_cookie(SESSION)
        return answer

    def _code(self, request: Request, purpose: str) -> str:
        """The code with which a browser comes back from Slack; raises SlackError where it isn't the one that went."""
        given, secret = request.query_params, request.cookies.get(SECRET, "")
        if not self._states.is_valid(purpose, secret, given.get("state", "")):
            raise SlackError(BEGIN_AGAIN)
        if not given.get("code"):
            raise SlackError(f"Slack said no ({given.get('error') or 'without a reason'}).")
        return given["code"]

    def _to_slack(self, url: str, secret: str) -> Response:
        answer = RedirectResponse(url, 302)
        self._set(answer, SECRET, secret, 600, OPEN_PATHS)
        return answer

    def _set(self, answer: Response, name: str, value: str, seconds: int, path: str) -> None:
        is_https = self._url.startswith("https://")
        answer.set_cookie(name, value, seconds, path=path, secure=is_https, httponly=True, samesite="lax")

    def _page(self, title: str, text: str, link: str, status: int | None = None) -> Response:
        label = "Install Doppel" if link == INSTALL else "Sign in with Slack"
        content = (
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>Doppel</title><body style='font: 1rem/1.5 system-ui; margin: 15vh auto; max-width: 34rem'>"
            f"<h1 style='font-size: 1.4rem'>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
            f"<p><a href='{link}'>{label}</a></p></body></html>"
        )
        went_well = title.startswith("Doppel is")
        return HTMLResponse(content, status or (200 if went_well else 403))


class SignedInOnly:
    """ASGI middleware: who is not signed in is led to Slack. What comes from Slack itself is let through.

    A page's stream of answers is its visitor's alone: the web chat knows pages by `session_hash`.
    """

    def __init__(self, app: Any, visitor: Callable[[str], str | None]) -> None:
        self._app, self._visitor = app, visitor
        self._owners: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if _is_open(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope)
        visitor = await asyncio.to_thread(self._visitor, request.cookies.get(SESSION, ""))
        if visitor is not None:
            if self._owns(visitor, request.query_params.get("session_hash", "")):
                await self._app({**scope, VISITOR: visitor}, receive, send)
            else:
                await PlainTextResponse("That is another's conversation.", 403)(scope, receive, send)
            return
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        refused: Response = PlainTextResponse("Sign in with Slack first: open the web chat in a browser.", 401)
        await (RedirectResponse(SIGN_IN, 303) if wants_page else refused)(scope, receive, send)

    def _owns(self, visitor: str, page: str) -> bool:
        """Whether a page is a visitor's: that of whoever comes first."""
        if not page:
            return True
        while len(self._owners) >= PAGES:
            del self._owners[next(iter(self._owners))]
        return self._owners.setdefault(page, visitor) == visitor


class HereOnly:
    """ASGI middleware: only browsers on this machine may read, whatever leads others here. Slack is let through."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if _is_open(scope) or _is_here(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(HERE_ONLY, 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close"})


def is_loopback(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_open(scope: Any) -> bool:
    """Whether anyone may ask for that: Slack, and whoever signs in."""
    return scope["type"] == "lifespan" or str(scope["path"]).startswith(OPEN_PATHS)


def _is_here(request: HTTPConnection) -> bool:
    """Whether a browser asks for this machine by a name that only means itself: no proxy, no foreign name for it."""
    return is_loopback(request.url.hostname or "") and "x-forwarded-for" not in request.headers


def _hash(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
