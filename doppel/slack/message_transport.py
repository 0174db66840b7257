"""The two ways in which one message of Slack's grows: as a stream, or posted once and then updated."""

from __future__ import annotations

import html
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_chat_stream import AsyncChatStream
from slack_sdk.web.async_client import AsyncWebClient

from doppel.records import Raw
from doppel.slack.blocks import Block, markdown
from doppel.slack.failing import asking_once, end_stream, reason

STREAM_SECONDS = 0.7
UPDATE_SECONDS = 1.5
STREAM_LIFE_SECONDS = 230.0
"""Slack ends a stream after about five minutes, however lively it is."""
FALLBACK_CHARS = 150

_NO_MASKS = {"missing_scope", "reserved_username", "invalid_arguments"}
AI_EVENT = "doppel_answer"
"""The type of the metadata that tells machines that an AI wrote a message; every app of the workspace can read them."""


@dataclass(frozen=True, slots=True)
class ReplyTarget:
    """The thread that is answered in, what was asked there and by whom, and the answer's id, name and picture.

    Where `thread_ts` is "" that is the channel itself.
    """

    team: str
    channel: str
    thread_ts: str
    asked_ts: str
    asker: str
    name: str = ""
    icon_url: str = ""
    answer_id: str = ""

    @property
    def thread(self) -> dict[str, Any]:
        """Where to post, as Slack takes it."""
        return {"channel": self.channel, **({"thread_ts": self.thread_ts} if self.thread_ts else {})}

    @property
    def masks(self) -> dict[str, Any]:
        """Name and picture as Slack takes them."""
        given = {"username": self.name, "icon_url": self.icon_url}
        return {key: value for key, value in given.items() if value}


class Carrier(Protocol):
    """One message of Slack's; `ts` is "" until Slack has named it."""

    pause: float

    @property
    def ts(self) -> str: ...

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        """Show `whole`, of which `piece` is new, and `blocks` below it. Raises FAILURES."""

    def may_be(self, raw: Raw) -> bool:
        """Whether a message of the thread may be this one, if Slack never said its timestamp."""
        ...


class Stream:
    pause = STREAM_SECONDS

    def __init__(self, client: AsyncWebClient, where: ReplyTarget) -> None:
        self._ends, self._beginning = time.monotonic() + STREAM_LIFE_SECONDS, ""
        self._metadata = _metadata(answer=where.answer_id)
        self._stream = AsyncChatStream(
            asking_once(client),
            channel=where.channel,
            logger=logging.getLogger("doppel.slack.bolt"),
            thread_ts=where.thread_ts,
            buffer_size=1,
            recipient_team_id=where.team,
            recipient_user_id=where.asker,
            **where.masks,
        )

    @property
    def ts(self) -> str:
        return self._stream.ts or ""

    @property
    def is_old(self) -> bool:
        return time.monotonic() > self._ends

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        self._beginning = self._beginning or whole
        if last:
            stop = self._stream.stop
            await stop(markdown_text=piece or None, blocks=list(blocks) or None, metadata=self._metadata)
        elif piece:
            await self._stream.append(markdown_text=piece)

    def may_be(self, raw: Raw) -> bool:
        return not _mark_of(raw) and _words(str(raw.get("text"))) == _words(self._beginning)


class Updates:
    """`streams` says that the message of `ts` may still be streamed."""

    pause = UPDATE_SECONDS

    def __init__(self, client: AsyncWebClient, where: ReplyTarget, ts: str = "", streams: bool = False) -> None:
        self.ts, self._client, self._where, self._streams = ts, client, where, streams
        self._mark = secrets.token_hex(8)
        self._metadata = _metadata(answer=where.answer_id, mark=self._mark)

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        text = " ".join(whole.split())[:FALLBACK_CHARS] or "…"
        shown = [*([markdown(whole)] if whole.strip() else []), *blocks]
        content: dict[str, Any] = {"text": text, "blocks": shown, "metadata": self._metadata}
        if self._streams:
            await end_stream(self._client, self._where.channel, self.ts)
            self._streams = False
        if self.ts:
            await self._client.chat_update(channel=self._where.channel, ts=self.ts, **content)
        else:
            self.ts = await self._post(content)

    async def _post(self, content: dict[str, Any]) -> str:
        client, place = asking_once(self._client), self._where.thread
        try:
            answer = await client.chat_postMessage(**place, **self._where.masks, **content)
        except SlackApiError as error:
            if not self._where.masks or reason(error) not in _NO_MASKS:
                raise
            answer = await client.chat_postMessage(**place, **content)
        return str(answer["ts"])

    def may_be(self, raw: Raw) -> bool:
        return _mark_of(raw) == self._mark


def _metadata(**ids: str) -> dict[str, Any]:
    """What says of a message that an AI wrote it: opaque ids, and no word of the persona."""
    return {"event_type": AI_EVENT, "event_payload": {key: value for key, value in ids.items() if value}}


def _mark_of(raw: Raw) -> str:
    metadata = raw.get("metadata") or {}
    return str(metadata["event_payload"].get("mark", "")) if metadata.get("event_type") == AI_EVENT else ""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", html.unescape(text))
