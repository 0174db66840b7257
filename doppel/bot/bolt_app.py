"""Slack as it speaks to the app: by Socket Mode, or over HTTP at a path of the web chat's server. Owner of Bolt."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from fastapi import FastAPI, Request, Response
from slack_bolt import BoltResponse
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import to_async_bolt_request, to_starlette_response
from slack_bolt.async_app import AsyncApp, AsyncBoltContext, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.kwargs_injection.async_args import AsyncArgs
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from doppel.bot.sentences import in_slack
from doppel.errors import DoppelError
from doppel.records import Raw
from doppel.slack.block_text import dicts
from doppel.slack.blocks import FEEDBACK, SHARE, Press, press_of
from doppel.slack.consent_blocks import AGREE, DECLINE, WITHDRAW
from doppel.slack.draft_blocks import AGAIN, EDIT, FORM, SEND, SHORTCUT, Pressed, Submitted, pressed_of, submitted_of
from doppel.slack.log_redaction import silent_logger
from doppel.slack.members import id_of, text_of
from doppel.slack.outgoing import plain

EVENTS_PATH = "/slack/events"
CALL_SECONDS = 30.0
PING_SECONDS = 5.0
HOME_OPENED = "app_home_opened"
WITHHELD = "app_rate_limited"
_FAILED = frozenset({"connection_failed", "http_error", "ssl_error", "too_many_redirects", "unknown_error"})
"""Why Slack sends something again: it did not come through, and others may not have either."""
_EVENTS = ("event_callback", "url_verification", WITHHELD)
_INTERACTIVE = ("block_actions", "message_action", "shortcut", "view_submission", "view_closed")
_STAMP = re.compile(r"[0-9]{1,12}")

Bot = AsyncApp
Client = AsyncWebClient
Next = Callable[[], Awaitable[Any]]
_log = silent_logger("doppel.slack.bolt")


def connections() -> ClientSession:
    """Connections to Slack that clients of one event loop share; to be closed. It keeps no cookies: tokens differ."""
    return ClientSession(timeout=ClientTimeout(total=CALL_SECONDS), cookie_jar=DummyCookieJar())


def bot_client(token: str | None, api_url: str, session: ClientSession | None = None) -> AsyncWebClient:
    """Slack's Web API for the bot, or without a token for the app; `api_url` ends in /api/.

    Without a `session` every call opens a connection of its own.
    """
    retries = [AsyncConnectionErrorRetryHandler(), AsyncRateLimitErrorRetryHandler(max_retry_count=5)]
    url = f"{api_url.rstrip('/')}/"
    return AsyncWebClient(token, base_url=url, session=session, logger=_log, retry_handlers=list(retries))


class Handlers(Protocol):
    """What is done with what Slack sends. Users are ids."""

    async def take(self, event_id: str, event: Raw) -> None:
        """An event; Slack is told that it came when this returns."""

    def missed(self, until: int = 0) -> None:
        """Events did not come, or may not have, and will not `until` then, in microseconds."""

    async def command(self, user: str, channel: str, text: str) -> str:
        """`/doppel` and what stands behind it; returns what its user alone is to read, if anything."""

    def once(self, request: str) -> AbstractAsyncContextManager[bool]:
        """Whether something that Slack asks for is to be done while this is open: it wasn't, and nobody does it now."""
        ...

    async def vote(self, value: str, press: Press) -> None:
        """A feedback button was pressed."""

    async def share(self, answer_id: str, press: Press) -> None:
        """Somebody wants all to see what they alone saw."""

    async def consent(self, action: str, value: str, user: str) -> str:
        """AGREE, DECLINE or WITHDRAW was pressed; returns what its user alone is to read, if anything."""

    async def draft_reply(self, user: str, channel: str, message: Raw) -> str:
        """Somebody wants a reply to a message drafted; returns what they alone are to read, if anything."""

    async def press_draft(self, pressed: Pressed) -> None:
        """A button below a draft was pressed."""

    async def submit_draft(self, submitted: Submitted) -> None:
        """Somebody changed their draft, and sends it."""

    async def show_home(self, user: str) -> None:
        """Somebody opens the App home."""


Take = Callable[[Handlers, AsyncArgs], Awaitable[None]]


class Teams(Protocol):
    """The workspaces in which the app is installed, by their ids."""

    def knows(self, team: str) -> bool:
        """Whether the app is installed in a workspace."""

    def of(self, team: str) -> Handlers | None:
        """Who takes what comes from a workspace; None for one that is not at work, or not yet."""

    async def removed(self, team: str, at: int) -> None:
        """The app was removed from a workspace, or its token revoked, `at` in microseconds."""


def build_bot(api_url: str, signing_secret: str, teams: Teams) -> AsyncApp:
    """The Bolt app; `api_url` is where Slack's Web API is.

    With Socket Mode `signing_secret` may be empty: Slack signs nothing there.
    """

    async def authorize(team_id: str | None) -> Any:
        # Handlers call Slack themselves, with the token of their workspace.
        known = team_id is not None and teams.knows(team_id)
        return AuthorizeResult(enterprise_id=None, team_id=team_id, bot_token="-") if known else None

    app = AsyncApp(
        client=bot_client(None, api_url),
        authorize=authorize,
        signing_secret=signing_secret or None,
        request_verification_enabled=bool(signing_secret),
        ignoring_self_events_enabled=False,
        logger=_log,
    )

    def handlers_of(context: AsyncBoltContext) -> Handlers:
        handlers = teams.of(str(context.team_id))
        if handlers is None:
            raise AwayError(f"Nothing is at work for {context.team_id}.")
        return handlers

    async def take_event(
        body: dict[str, Any], context: AsyncBoltContext, request: AsyncBoltRequest, next: Next
    ) -> BoltResponse | None:
        event = body.get("event")
        withheld = body.get("type") == WITHHELD
        if withheld or not _FAILED.isdisjoint(request.headers.get("x-slack-retry-reason", ())):
            if there := teams.of(str(context.team_id)):
                there.missed(_withheld_until(body))
            if withheld:
                return BoltResponse(status=200)
        if body.get("type") == "event_callback" and isinstance(event, dict):
            team = str(context.team_id)
            if _is_removal(event):
                await teams.removed(team, _when(body))
            elif handlers := teams.of(team):
                await handlers.take(str(body.get("event_id") or ""), event)
            else:
                # Slack sends it again.
                return BoltResponse(status=503)
            if event.get("type") != HOME_OPENED:
                # Acknowledged here: in a burst the search for a listener takes as long as all the rest.
                return BoltResponse(status=200)
        await next()
        return None

    async def open_home(context: AsyncBoltContext, event: dict[str, Any]) -> None:
        if event.get("tab") == "home" and (user := id_of(event, "user")):
            await handlers_of(context).show_home(user)

    def once(take: Take) -> Callable[[AsyncArgs], Awaitable[None]]:
        """A listener that acknowledges, and then does what Slack asks for unless that was done."""

        async def listener(args: AsyncArgs) -> None:
            await args.ack()
            handlers = handlers_of(args.context)
            try:
                async with handlers.once(_request_id(args.request)) as is_new:
                    if is_new:
                        await take(handlers, args)
            except DoppelError as error:
                await _say(args, plain(in_slack(error)))

        return listener

    app.middleware(take_event)
    app.command("/doppel")(once(_take_command))
    app.action(FEEDBACK)(once(_take_vote))
    app.action(SHARE)(once(_take_share))
    for action in (AGREE, DECLINE, WITHDRAW):
        app.action(action)(once(_take_consent))
    app.message_shortcut(SHORTCUT)(once(_take_shortcut))
    for action in (SEND, EDIT, AGAIN):
        app.action(action)(once(_take_draft))
    app.view(FORM)(once(_take_form))
    app.event(HOME_OPENED)(open_home)
    return app


async def _take_command(handlers: Handlers, args: AsyncArgs) -> None:
    user, channel = id_of(args.body, "user_id"), id_of(args.body, "channel_id")
    if user and channel:
        await _say(args, await handlers.command(user, channel, text_of(args.body, "text")))


async def _take_vote(handlers: Handlers, args: AsyncArgs) -> None:
    await handlers.vote(_value(args), press_of(args.body))


async def _take_share(handlers: Handlers, args: AsyncArgs) -> None:
    await handlers.share(_value(args), press_of(args.body))


async def _take_consent(handlers: Handlers, args: AsyncArgs) -> None:
    user = press_of(args.body).user
    await _say(args, await handlers.consent(text_of(args.action or {}, "action_id"), _value(args), user))
    if args.body.get("view"):
        await handlers.show_home(user)


async def _take_shortcut(handlers: Handlers, args: AsyncArgs) -> None:
    press = press_of(args.body)
    await _say(args, await handlers.draft_reply(press.user, press.channel, args.body["message"]))


async def _take_draft(handlers: Handlers, args: AsyncArgs) -> None:
    await handlers.press_draft(pressed_of(args.body, args.action or {}))


async def _take_form(handlers: Handlers, args: AsyncArgs) -> None:
    await handlers.submit_draft(submitted_of(args.body))


def _value(args: AsyncArgs) -> str:
    return text_of(args.action or {}, "value")


async def _say(args: AsyncArgs, sentence: str) -> None:
    """Tell whoever typed or pressed something, who alone reads it, if there is anything to say and a way to."""
    if sentence and args.body.get("response_url"):
        await args.respond(text=sentence, response_type="ephemeral", replace_original=False)


def _request_id(request: AsyncBoltRequest) -> str:
    """What tells one thing that somebody did from the next, hashed: Slack's trigger, which a repetition has as well.

    Where there is none it is the signature, and in Socket Mode, which signs nothing, the whole request.
    """
    signed = request.headers.get("x-slack-signature", [])
    told = text_of(request.body, "trigger_id") or "".join(signed) or json.dumps(request.body, sort_keys=True)
    return hashlib.sha256(f"{text_of(request.body, 'type')} {told}".encode()).hexdigest()


class AwayError(DoppelError):
    """The app was removed in this moment, or is not at work yet."""


def _is_removal(event: dict[str, Any]) -> bool:
    """Whether the bot's token works no more; people's own tokens are none of Doppel's."""
    if event.get("type") == "tokens_revoked":
        tokens = event.get("tokens")
        return isinstance(tokens, dict) and bool(tokens.get("bot"))
    return event.get("type") == "app_uninstalled"


def _when(body: dict[str, Any]) -> int:
    """When an event was, in microseconds: the end of the second that Slack tells; 0 where it tells none."""
    seconds = body.get("event_time")
    return seconds * 1_000_000 + 999_999 if isinstance(seconds, int) else 0


def _withheld_until(body: dict[str, Any]) -> int:
    """The end of the minute in which Slack withholds events, in microseconds; 0 where it names none."""
    minute = body.get("minute_rate_limited")
    return (minute + 60) * 1_000_000 if isinstance(minute, int) else 0


def mount_events(page: FastAPI, app: AsyncApp, doubt: Callable[[], None] = lambda: None) -> None:
    """Let the server of `page` take Slack's requests; what Slack never writes is a bad request.

    `doubt` is called where something that may be Slack's was not taken.
    """

    async def endpoint(request: Request) -> Response:
        asked = _readable(request, await request.body())
        if asked is None:
            return Response(status_code=400)
        answer = await app.async_dispatch(asked)
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            doubt()
        return to_starlette_response(answer)

    page.state.too_large = lambda path: doubt() if path == EVENTS_PATH else None
    page.add_api_route(EVENTS_PATH, endpoint, methods=["POST"], include_in_schema=False)
    # Before the pages of the web chat, which take every path.
    page.router.routes.insert(0, page.router.routes.pop())


def _readable(request: Request, body: bytes) -> AsyncBoltRequest | None:
    """A request as Bolt reads it; None for one that it fails at, whoever sent that: it is not verified yet."""
    stamp = request.headers.get("x-slack-request-timestamp", "0")
    signature = request.headers.get("x-slack-signature", "")
    if not _STAMP.fullmatch(stamp) or not signature.isascii():
        return None
    try:
        asked = to_async_bolt_request(request, body)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    ids = (asked.context.team_id, asked.context.enterprise_id, asked.context.user_id, asked.context.channel_id)
    if not isinstance(asked.body, dict) or not all(id_ is None or isinstance(id_, str) for id_ in ids):
        return None
    return asked if _is_whole(asked.body) else None


def _is_whole(body: Raw) -> bool:
    """Whether a request is of a type that this app is sent, and holds what Bolt takes for granted in one of those."""
    kind, actions, view, team = (body.get(key) for key in ("type", "actions", "view", "team"))
    if kind is not None and kind not in (*_INTERACTIVE, *_EVENTS):
        return False
    if kind == "event_callback":
        return isinstance(body.get("event"), dict)
    if not (view is None or isinstance(view, dict)):
        return False
    if "response_url" in body and not text_of(body, "response_url").startswith(("https://", "http://")):
        return False
    if kind == "block_actions" and not any(text_of(action, "action_id") for action in dicts(actions)[:1]):
        return False
    if kind in ("view_submission", "view_closed") and not (isinstance(view, dict) and text_of(view, "type")):
        return False
    return kind not in _INTERACTIVE or team is None or isinstance(team, dict)


@asynccontextmanager
async def socket_mode(
    app: AsyncApp, app_token: str, on_hello: Callable[[], None], on_silence: Callable[[], None]
) -> AsyncIterator[None]:
    """While this is open, Slack is connected, again and again.

    `on_hello` is called for each new connection, `on_silence` when one is found broken. Raises FAILURES where the first
    connection fails.
    """
    handler = AsyncSocketModeHandler(app, app_token, logger=_log, ping_interval=PING_SECONDS)

    async def listen(client: Any, message: dict[str, Any], raw: str | None = None) -> None:
        if message.get("type") == "hello":
            on_hello()

    async def watch() -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            if not await handler.client.is_connected():
                on_silence()

    handler.client.message_listeners.append(listen)
    watching = asyncio.create_task(watch())
    try:
        await handler.connect_async()  # type: ignore[no-untyped-call]
        yield
    finally:
        watching.cancel()
        await handler.close_async()  # type: ignore[no-untyped-call]
