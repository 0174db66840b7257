"""A call to Slack that failed: whether it may have been carried out all the same, and what it left in a thread then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_async_handlers import AsyncConnectionErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from doppel.records import Raw
from doppel.slack.members import error_of, text_of

FAILURES = (SlackClientError, aiohttp.ClientError, OSError, asyncio.TimeoutError)
"""What a call may raise: Slack's answers, and whatever happens on the way to Slack and back."""

_PASSING = {"", "internal_error", "fatal_error", "ratelimited", "request_timeout", "service_unavailable"}
_MOST = 200


def reason(error: Exception) -> str:
    """Slack's own word for what is wrong; "" where no such answer came."""
    return error_of(getattr(getattr(error, "response", None), "data", None))


def is_refusal(error: Exception) -> bool:
    """Whether Slack said no: then nothing was done, and asking again helps nobody."""
    return reason(error) not in _PASSING


def asking_once(client: AsyncWebClient) -> AsyncWebClient:
    """The same client, but no call is sent again after a broken connection: Slack may have carried it out already."""
    once = copy(client)
    once.retry_handlers = [h for h in client.retry_handlers if not isinstance(h, AsyncConnectionErrorRetryHandler)]
    return once


async def end_stream(client: AsyncWebClient, channel: str, ts: str) -> None:
    """End a stream if it is open: Slack updates and deletes no message that is still streamed. Raises FAILURES."""
    try:
        await client.chat_stopStream(channel=channel, ts=ts)
    except SlackApiError as error:
        if not is_refusal(error):
            raise


async def remove_strays(
    client: AsyncWebClient, channel: str, thread_ts: str, after: str, is_stray: Callable[[Raw], bool]
) -> None:
    """Delete the bot's messages of a thread that are younger than `after` and strays; raises FAILURES."""
    answer = await client.conversations_replies(
        channel=channel, ts=thread_ts, oldest=after, limit=_MOST, include_all_metadata=True
    )
    for raw in answer.get("messages") or []:
        if raw.get("bot_id") and is_stray(raw):
            await end_stream(client, channel, text_of(raw, "ts"))
            await _delete(client, channel, text_of(raw, "ts"))


async def _delete(client: AsyncWebClient, channel: str, ts: str) -> None:
    try:
        await client.chat_delete(channel=channel, ts=ts)
    except SlackApiError as error:
        # An earlier try may have deleted it.
        if reason(error) != "message_not_found":
            raise
