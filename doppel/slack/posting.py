"""A message in Slack that grows while it is written: streamed, or updated at a sane pace where that isn't to be had."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_chat_stream import AsyncChatStream
from slack_sdk.web.async_client import AsyncWebClient

from doppel.slack.blocks import Block, markdown

FIRST_CHARS = 20
"""So much is shown at once; a word alone would only flicker."""
STREAM_SECONDS = 0.7
UPDATE_SECONDS = 1.5
STREAM_LIFE_SECONDS = 230.0
"""Slack ends a stream after about five minutes, however lively it is."""
MESSAGE_CHARS = 11_000
"""Slack takes 12,000 characters of Markdown a message."""
FALLBACK_CHARS = 150
FENCE = "```"

_NO_MASKS = {"missing_scope", "reserved_username", "invalid_arguments"}

Posted = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Where:
    """The thread that is answered in, who asked there, and under which name and picture the answer stands."""

    team: str
    channel: str
    thread_ts: str
    asker: str
    name: str = ""
    icon_url: str = ""

    @property
    def thread(self) -> dict[str, Any]:
        """Where to post, as Slack takes it."""
        return {"channel": self.channel, "thread_ts": self.thread_ts}

    @property
    def masks(self) -> dict[str, Any]:
        """Name and picture as Slack takes them."""
        given = {"username": self.name, "icon_url": self.icon_url}
        return {key: value for key, value in given.items() if value}


class _Carrier(Protocol):
    """One message of Slack's; `ts` is "" before the first call."""

    ts: str
    pause: float

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        """Show `whole`, of which `piece` is new, and `blocks` below it."""


class _Stream:
    pause = STREAM_SECONDS

    def __init__(self, client: AsyncWebClient, where: Where) -> None:
        self.ts, self._ends = "", time.monotonic() + STREAM_LIFE_SECONDS
        self._stream = AsyncChatStream(
            client,
            channel=where.channel,
            logger=logging.getLogger("doppel.slack.bolt"),
            thread_ts=where.thread_ts,
            buffer_size=1,
            recipient_team_id=where.team,
            recipient_user_id=where.asker,
            **where.masks,
        )

    @property
    def is_old(self) -> bool:
        return time.monotonic() > self._ends

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        if last:
            await self._stream.stop(markdown_text=piece or None, blocks=list(blocks) or None)
        elif piece:
            await self._stream.append(markdown_text=piece)
        self.ts = self._stream.ts or ""


class _Updates:
    pause = UPDATE_SECONDS

    def __init__(self, client: AsyncWebClient, where: Where, ts: str = "") -> None:
        self.ts, self._client, self._where = ts, client, where

    async def send(self, whole: str, piece: str, blocks: Sequence[Block], last: bool) -> None:
        text = " ".join(whole.split())[:FALLBACK_CHARS] or "…"
        content: dict[str, Any] = {"text": text, "blocks": [*([markdown(whole)] if whole.strip() else []), *blocks]}
        if self.ts:
            await self._client.chat_update(channel=self._where.channel, ts=self.ts, **content)
        else:
            self.ts = await self._post(content)

    async def _post(self, content: dict[str, Any]) -> str:
        place = self._where.thread
        try:
            answer = await self._client.chat_postMessage(**place, **self._where.masks, **content)
        except SlackApiError as error:
            if not self._where.masks or error.response.get("error") not in _NO_MASKS:
                raise
            answer = await self._client.chat_postMessage(**place, **content)
        return str(answer["ts"])


@dataclass
class GrowingMessage:
    """One answer in a thread, in as many messages as it needs; `posted` is called with the timestamp of each.

    Its text must have passed `doppel.slack.outgoing`. Methods raise SlackApiError and errors of the network.
    """

    client: AsyncWebClient
    where: Where
    posted: Posted
    has_begun: bool = False
    _carrier: _Carrier | None = None
    _streams: bool = True
    _shown: str = ""
    _waiting: str = ""
    _sent_at: float = field(default=float("-inf"))

    async def append(self, text: str) -> None:
        """Add to it; it is shown soon."""
        self._waiting += text
        pause = self._carrier.pause if self._carrier else 0.0
        if (self._shown or len(self._waiting) >= FIRST_CHARS) and time.monotonic() - self._sent_at >= pause:
            await self._send((), last=False)

    async def finish(self, blocks: Sequence[Block]) -> None:
        """Show the rest, and `blocks` below it for good."""
        await self._send(blocks, last=True)

    async def _send(self, blocks: Sequence[Block], last: bool) -> None:
        while len(self._shown) + len(self._waiting) > MESSAGE_CHARS:
            await self._turn_page()
        await self._show(self._waiting, blocks, last)
        self._waiting = ""

    async def _turn_page(self) -> None:
        """End this message at the end of a line, and go on in a new one."""
        room = MESSAGE_CHARS - len(self._shown) - len(FENCE) - 1
        cut = max(self._waiting.rfind("\n", 0, room), 0) if room > 0 else 0
        cut = cut or (0 if self._shown else room)
        head, rest = self._waiting[:cut], self._waiting[cut:].removeprefix("\n")
        if (self._shown + head).count(FENCE) % 2:
            head, rest = f"{head}\n{FENCE}", f"{FENCE}\n{rest}"
        await self._show(head, (), last=True)
        self._carrier, self._shown, self._waiting = None, "", rest

    async def _show(self, piece: str, blocks: Sequence[Block], last: bool) -> None:
        carrier = self._carrier or self._open()
        try:
            await self._send_by(carrier, piece, blocks, last)
        except SlackApiError:
            if not isinstance(carrier, _Stream):
                raise
            self._streams = False
            await self._send_by(_Updates(self.client, self.where, carrier.ts), piece, blocks, last)

    async def _send_by(self, carrier: _Carrier, piece: str, blocks: Sequence[Block], last: bool) -> None:
        before, whole = carrier.ts, self._shown + piece
        ends = last or (isinstance(carrier, _Stream) and carrier.is_old)
        await carrier.send(whole, piece, blocks, ends)
        if ends and not last:
            carrier = _Updates(self.client, self.where, carrier.ts)
        self._carrier, self._shown, self._sent_at = carrier, whole, time.monotonic()
        if carrier.ts and carrier.ts != before:
            self.has_begun = True
            await self.posted(carrier.ts)

    def _open(self) -> _Carrier:
        return (_Stream if self._streams else _Updates)(self.client, self.where)


async def post(client: AsyncWebClient, where: Where, text: str, blocks: Sequence[Block]) -> str:
    """Post something short in the thread, as the bot itself; returns its timestamp."""
    answer = await client.chat_postMessage(**where.thread, text=text, blocks=list(blocks))
    return str(answer["ts"])


async def replace(client: AsyncWebClient, where: Where, ts: str, text: str, blocks: Sequence[Block]) -> None:
    """Put something short in the place of a message of the bot's."""
    await client.chat_update(channel=where.channel, ts=ts, text=text, blocks=list(blocks))


async def post_for_asker(client: AsyncWebClient, where: Where, text: str, blocks: Sequence[Block]) -> None:
    """Post something in the thread that its asker alone sees, until they close Slack."""
    await client.chat_postEphemeral(user=where.asker, **where.thread, **where.masks, text=text, blocks=list(blocks))
