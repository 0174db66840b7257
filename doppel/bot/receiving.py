"""What Slack sends, handed on: every event to the archive, questions to whoever answers, words to the commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from doppel.archive.archive import Archive
from doppel.archive.deliveries import KEPT
from doppel.bot.answering import Answering
from doppel.bot.commands import Command, Commands
from doppel.bot.consenting import Consenting
from doppel.bot.drafting import Drafting
from doppel.bot.inbox import Inbox
from doppel.bot.question_parser import Question, kept, question_of
from doppel.bot.sentences import in_slack
from doppel.bot.voting import Voting
from doppel.errors import DoppelError
from doppel.ingest.event_ingester import EventIngester
from doppel.limits import TooLongError, require_length
from doppel.logs import log_failure
from doppel.records import Raw
from doppel.slack.blocks import Press, error_blocks
from doppel.slack.consent_blocks import AGREE, DECLINE, WITHDRAW
from doppel.slack.draft_blocks import Pressed, Submitted
from doppel.slack.outgoing import plain
from doppel.timestamps import now_micros

SHARED = 7 * 86_400_000_000
"""How long it is known, in microseconds, that an answer was shared: its button is gone by then."""

log = logging.getLogger("doppel.bot")


class Receiver:
    """Takes what comes; nothing waits for an answer to be written."""

    def __init__(
        self,
        archive: Archive,
        team: str,
        bot_user: str,
        ingester: EventIngester,
        inbox: Inbox,
        answering: Answering,
        commands: Commands,
        consenting: Consenting,
        drafting: Drafting,
        voting: Voting,
        question_chars: int,
    ) -> None:
        self._store, self._deliveries, self._bot_user = archive.bot(team), archive.deliveries(team), bot_user
        self._voting, self._question_chars = voting, question_chars
        self._under_way: set[str] = set()
        self._ingester, self._inbox, self._answering = ingester, inbox, answering
        self._commands, self._consenting, self._drafting = commands, consenting, drafting

    async def take(self, event_id: str, event: Raw) -> None:
        """Take an event. It returns once a question in it is kept, so that Slack may be told that it came."""
        self._ingester.put(event)
        question = question_of(event, self._bot_user)
        if question is None or not event_id or not await self._is_meant(question):
            return
        try:
            require_length(question.text, self._question_chars)
        except TooLongError as error:
            # Only its id is kept.
            if await self._inbox.accept(event_id, {}):
                self._answering.refuse(question, str(error))
            return
        if await self._inbox.accept(event_id, kept(question)):
            self._answering.begin(event_id, question)

    def missed(self, until: int = 0) -> None:
        """Events did not come, or may not have, and will not `until` then: a sync is to read what they told of."""
        self._ingester.begin(until)

    async def _is_meant(self, question: Question) -> bool:
        """What stands in a thread without a mention is meant for the bot where it answered before."""
        if question.addressed:
            return True
        persona = await asyncio.to_thread(self._store.default_persona, question.channel, question.thread_ts)
        return persona is not None

    @asynccontextmanager
    async def once(self, request: str, kept: int = KEPT) -> AsyncIterator[bool]:
        """Whether something is to be done while this is open: it wasn't in the time `kept`, and nobody does it now.

        What fails may be done again.
        """
        is_new = request not in self._under_way and await asyncio.to_thread(
            self._deliveries.begin, request, now_micros()
        )
        if not is_new:
            yield False
            return
        self._under_way.add(request)
        try:
            yield True
        except Exception:
            await asyncio.to_thread(self._deliveries.give_up, request)
            raise
        finally:
            self._under_way.discard(request)
        await asyncio.to_thread(self._deliveries.finish, request, now_micros(), kept)

    async def vote(self, value: str, press: Press) -> None:
        """Keep what a reader thought of an answer, if they could see it."""
        await self._voting.vote(value, press)

    async def command(self, user: str, channel: str, text: str) -> str:
        """Do what somebody asks for with `/doppel`; returns what they alone are to read."""
        return await self._commands.run(Command(user, channel, text))

    async def share(self, answer_id: str, press: Press) -> None:
        """Show all what only its asker saw, if they are who asks for it; once."""
        if not await self._voting.could_see(answer_id, press):
            return
        try:
            async with self.once(f"share-{answer_id}", SHARED) as is_new:
                if is_new:
                    await self._answering.share(answer_id, press.user)
        except Exception as error:
            log_failure(log, "An answer could not be shared", error)

    async def consent(self, action: str, value: str, user: str) -> str:
        """Take somebody's answer to a request, or what they decide in their App home."""
        try:
            if action == WITHDRAW and value == user:
                await self._consenting.withdraw(user)
            elif action == AGREE and value == user:
                await self._consenting.grant(user)
            elif action in (AGREE, DECLINE):
                await self._consenting.answer(value, user, agrees=action == AGREE)
        except DoppelError as error:
            return plain(in_slack(error))
        return ""

    async def draft_reply(self, user: str, channel: str, message: Raw) -> str:
        """Draft somebody's reply to a message; returns what they alone are to read, if anything."""
        return await self._drafting.reply_to(user, channel, message)

    async def press_draft(self, pressed: Pressed) -> None:
        """Do what a button below a draft is for."""
        await self._drafting.press(pressed)

    async def submit_draft(self, submitted: Submitted) -> None:
        """Send what somebody made of their draft."""
        await self._drafting.submit(submitted)

    async def show_home(self, user: str) -> None:
        """Show somebody their App home."""
        try:
            view = await self._consenting.home(user)
        except DoppelError as error:
            view = {"type": "home", "blocks": error_blocks(in_slack(error))}
        await self._consenting.show(user, view)
