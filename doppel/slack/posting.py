"""A message in Slack that grows while it is written: streamed, or updated at a sane pace where that isn't to be had.

However its calls fail, it ends whole and once. What was begun is updated in its place, for which its stream must be
ended first. Where not even its timestamp came back, it is posted anew, and at the end the thread is searched for the
stray one: a post carries a mark in its metadata; a stream, which Slack lets carry none, is known by its words. A stray
that Slack shows only after that, or won't let be found, stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from doppel.logs import log_failure
from doppel.records import Raw
from doppel.slack.blocks import Block
from doppel.slack.failing import FAILURES, end_stream, is_refusal, remove_strays
from doppel.slack.log_redaction import silent_logger
from doppel.slack.members import text_of
from doppel.slack.message_transport import Carrier, ReplyTarget, Stream, Updates

FIRST_CHARS = 20
"""So much is shown at once; a word alone would only flicker."""
MESSAGE_CHARS = 8_000
"""Slack takes 12,000 characters of Markdown a message, and 13,000 with all that stands around it."""
FENCE = "```"
AGAIN_SECONDS = (1.0, 5.0, 20.0)
"""The pauses before the end of an answer is tried again."""

log = logging.getLogger("doppel.bot")

Posted = Callable[[str], Awaitable[None]]


@dataclass
class GrowingMessage:
    """One answer in a thread, in as many messages as it needs; `posted` is called with the timestamp of each.

    Its text must have passed `doppel.slack.outgoing`. `has_begun` says that some of it stands there, or may. Methods
    raise SlackApiError where Slack refuses, and `finish` all of FAILURES.
    """

    client: AsyncWebClient
    where: ReplyTarget
    posted: Posted
    has_begun: bool = False
    _carrier: Carrier | None = None
    _streams: bool = True
    _shown: str = ""
    _waiting: str = ""
    _sent_at: float = field(default=float("-inf"))
    _named: set[str] = field(default_factory=set)
    _lost: list[Carrier] = field(default_factory=list)

    async def append(self, text: str) -> None:
        """Add to it; it is shown soon, or with what comes later where Slack can't be reached now."""
        self._waiting += text
        pause = self._carrier.pause if self._carrier else 0.0
        if (self._shown or len(self._waiting) >= FIRST_CHARS) and time.monotonic() - self._sent_at >= pause:
            try:
                await self._send((), last=False)
            except FAILURES as error:
                if is_refusal(error):
                    raise
                self._sent_at = time.monotonic()

    async def finish(self, blocks: Sequence[Block]) -> None:
        """Show the rest, and `blocks` below it for good; takes its time where Slack can't be reached."""
        await _patiently(lambda: self._send(blocks, last=True))
        if self._lost:
            try:
                await _patiently(self._remove_strays)
            except FAILURES as error:
                log.warning("The beginning of an answer may stand beside it (%s)", type(error).__name__)

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
        carrier = self._carrier = self._carrier or self._open(last)
        try:
            await self._send_by(carrier, piece, blocks, last)
        except FAILURES:
            if not isinstance(carrier, Stream):
                raise
            self._streams, self._carrier = False, self._updates(carrier.ts, streams=bool(carrier.ts))
            await self._send_by(self._carrier, piece, blocks, last)

    async def _send_by(self, carrier: Carrier, piece: str, blocks: Sequence[Block], last: bool) -> None:
        whole = self._shown + piece
        ends = last or (isinstance(carrier, Stream) and carrier.is_old)
        try:
            await carrier.send(whole, piece, blocks, ends)
        except FAILURES as error:
            if not carrier.ts and not is_refusal(error):
                self._lost.append(carrier)
                self.has_begun = True
            raise
        self._shown, self._sent_at = whole, time.monotonic()
        if ends and not last:
            self._carrier = self._updates(carrier.ts)
        if carrier.ts and carrier.ts not in self._named:
            self._named.add(carrier.ts)
            self.has_begun = True
            await self.posted(carrier.ts)

    def _open(self, last: bool) -> Carrier:
        # What is complete already needs no stream.
        return (Stream if self._streams and not last else Updates)(self.client, self.where)

    def _updates(self, ts: str, streams: bool = False) -> Updates:
        return Updates(self.client, self.where, ts, streams)

    async def _remove_strays(self) -> None:
        where = self.where
        await remove_strays(self.client, where.channel, where.thread_ts, where.asked_ts, self._is_stray)

    def _is_stray(self, raw: Raw) -> bool:
        return text_of(raw, "ts") not in self._named and any(lost.may_be(raw) for lost in self._lost)


async def _patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Make a call that may be made again, until it works or Slack refuses or time is up. Raises FAILURES."""
    pauses = iter(AGAIN_SECONDS)
    while True:
        try:
            await call()
            return
        except FAILURES as error:
            pause = next(pauses, None)
            if pause is None or is_refusal(error):
                raise
        await asyncio.sleep(pause)


async def post(client: AsyncWebClient, where: ReplyTarget, text: str, blocks: Sequence[Block]) -> str:
    """Post something short in the thread, as the bot itself; returns its timestamp."""
    answer = await client.chat_postMessage(**where.thread, text=text, blocks=list(blocks))
    return str(answer["ts"])


async def replace(client: AsyncWebClient, where: ReplyTarget, ts: str, text: str, blocks: Sequence[Block]) -> None:
    """Put something short in the place of a message of the bot's, which may still be streamed."""
    await end_stream(client, where.channel, ts)
    await client.chat_update(channel=where.channel, ts=ts, text=text, blocks=list(blocks))


async def post_for_asker(client: AsyncWebClient, where: ReplyTarget, text: str, blocks: Sequence[Block]) -> None:
    """Post something in the thread that its asker alone sees, until they close Slack."""
    await client.chat_postEphemeral(user=where.asker, **where.thread, **where.masks, text=text, blocks=list(blocks))


async def respond(url: str, text: str, blocks: Sequence[Block] = (), in_place: bool = False) -> None:
    """Say to a button's `response_url` what its presser alone reads, or put it in the place of the button's message."""
    try:
        webhook = AsyncWebhookClient(url, logger=silent_logger("doppel.slack.bolt"))
        answer = await webhook.send(
            text=text, blocks=list(blocks) or None, response_type="ephemeral", replace_original=in_place
        )
        if answer.status_code != 200:
            log.warning("Slack took no response (status %s)", answer.status_code)
    except Exception as error:
        log_failure(log, "Slack could not be responded to", error)
