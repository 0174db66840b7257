"""Slack as it speaks to the app: by Socket Mode, or over HTTP at a path of the web chat's server. Owner of Bolt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from slack_bolt import BoltResponse
from slack_bolt.adapter.fastapi.async_handler import AsyncSlackRequestHandler
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp, AsyncRespond
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from doppel.slack.blocks import FEEDBACK, SHARE, Block
from doppel.slack.consent_blocks import AGREE, DECLINE, WITHDRAW
from doppel.slack.markup import Raw
from doppel.slack.members import text_of

EVENTS_PATH = "/slack/events"
PING_SECONDS = 5.0
HOME_OPENED = "app_home_opened"

Bot = AsyncApp
Client = AsyncWebClient
TROUBLE = (SlackApiError, SlackClientError, OSError, asyncio.TimeoutError)
"""What a call of Slack may raise."""

Next = Callable[[], Awaitable[Any]]
Ack = Callable[[], Awaitable[Any]]

_log = logging.getLogger("doppel.slack.bolt")
# Bolt quotes what it was sent, and so what people said.
_log.disabled = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is: the workspace, and the user that the bot is there."""

    team: str
    bot_user: str


def bot_client(token: str, api_url: str) -> AsyncWebClient:
    """Slack's Web API for the bot; `api_url` ends in /api/."""
    retries = [AsyncConnectionErrorRetryHandler(), AsyncRateLimitErrorRetryHandler(max_retry_count=5)]
    return AsyncWebClient(token, base_url=f"{api_url.rstrip('/')}/", logger=_log, retry_handlers=list(retries))


async def identify(client: AsyncWebClient) -> Identity | str:
    """Who the bot is, or Slack's reason why that can't be known."""
    try:
        answer = await client.auth_test()
    except SlackApiError as error:
        return str(error.response.get("error") or "it refused auth.test")
    except TROUBLE as error:
        return type(error).__name__
    raw = answer.data
    assert isinstance(raw, dict)
    return Identity(text_of(raw, "team_id"), text_of(raw, "user_id"))


class Handlers(Protocol):
    """What is done with what Slack sends. Users are ids."""

    async def take(self, event_id: str, event: Raw) -> None:
        """An event; Slack is told that it came when this returns."""

    async def command(self, user: str, channel: str, text: str) -> str:
        """`/doppel` and what stands behind it; returns what its user alone is to read."""

    async def vote(self, value: str, user: str) -> None:
        """A feedback button was pressed."""

    async def share(self, answer_id: str, user: str) -> None:
        """Somebody wants all to see what they alone saw."""

    async def consent(self, action: str, value: str, user: str) -> str:
        """AGREE, DECLINE or WITHDRAW was pressed; returns what its user alone is to read, if anything."""

    async def home(self, user: str) -> Block:
        """Somebody opens the App home; returns its view."""


def build_bot(client: AsyncWebClient, signing_secret: str, handlers: Handlers) -> AsyncApp:
    """The Bolt app. With Socket Mode `signing_secret` may be empty: Slack signs nothing there."""
    app = AsyncApp(
        client=client,
        signing_secret=signing_secret or None,
        request_verification_enabled=bool(signing_secret),
        ignoring_self_events_enabled=False,
        logger=_log,
    )

    async def take_event(body: dict[str, Any], next: Next) -> BoltResponse | None:
        event = body.get("event")
        if body.get("type") == "event_callback" and isinstance(event, dict):
            await handlers.take(str(body.get("event_id") or ""), event)
            if event.get("type") != HOME_OPENED:
                # Acknowledged here: in a burst the search for a listener takes as long as all the rest.
                return BoltResponse(status=200)
        await next()
        return None

    async def open_home(event: dict[str, Any]) -> None:
        if event.get("tab") == "home":
            await _publish_home(text_of(event, "user"))

    async def take_command(ack: Ack, respond: AsyncRespond, command: dict[str, Any]) -> None:
        await ack()
        words = (text_of(command, name) for name in ("user_id", "channel_id", "text"))
        await respond(text=await handlers.command(*words), response_type="ephemeral")

    async def take_vote(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        await ack()
        await handlers.vote(text_of(action, "value"), _presser(body))

    async def take_share(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        await ack()
        await handlers.share(text_of(action, "value"), _presser(body))

    async def take_consent(ack: Ack, respond: AsyncRespond, body: dict[str, Any], action: dict[str, Any]) -> None:
        await ack()
        user = _presser(body)
        said = await handlers.consent(text_of(action, "action_id"), text_of(action, "value"), user)
        if said and body.get("response_url"):
            await respond(text=said, response_type="ephemeral", replace_original=False)
        if body.get("view"):
            await _publish_home(user)

    async def _publish_home(user: str) -> None:
        await client.views_publish(user_id=user, view=await handlers.home(user))

    app.middleware(take_event)
    app.command("/doppel")(take_command)
    app.action(FEEDBACK)(take_vote)
    app.action(SHARE)(take_share)
    for action in (AGREE, DECLINE, WITHDRAW):
        app.action(action)(take_consent)
    app.event(HOME_OPENED)(open_home)
    return app


def _presser(body: dict[str, Any]) -> str:
    user = body.get("user")
    return text_of(user, "id") if isinstance(user, dict) else ""


def mount_events(page: FastAPI, app: AsyncApp) -> None:
    """Let the server of `page` take Slack's requests."""
    handler = AsyncSlackRequestHandler(app)

    async def endpoint(request: Request) -> Response:
        return await handler.handle(request)

    page.add_api_route(EVENTS_PATH, endpoint, methods=["POST"], include_in_schema=False)
    # Before the pages of the web chat, which take every path.
    page.router.routes.insert(0, page.router.routes.pop())


@asynccontextmanager
async def socket_mode(
    app: AsyncApp, app_token: str, on_hello: Callable[[], None], on_silence: Callable[[], None]
) -> AsyncIterator[None]:
    """While this is open, Slack is connected, again and again.

    `on_hello` is called for each new connection, `on_silence` when one is found broken. Raises TROUBLE where the first
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
