"""What Slack sends, handed on: every event to the archive, questions to whoever answers, words to the commands."""

from __future__ import annotations

import asyncio
import contextlib

from doppel.archive.archive import Archive
from doppel.bot.answering import Answering
from doppel.bot.asked import Question, question_of
from doppel.bot.commands import Command, Commands
from doppel.bot.consenting import Consenting
from doppel.bot.drafting import Drafting
from doppel.bot.inbox import Inbox
from doppel.errors import ConsentError, DoppelError
from doppel.slack.blocks import error_blocks, read_feedback
from doppel.slack.consent_blocks import AGREE, DECLINE, WITHDRAW
from doppel.slack.draft_blocks import Pressed, Submitted
from doppel.slack.markup import Raw
from doppel.slack.outgoing import plain
from doppel.sync.feed import EventFeed


class Receiver:
    """Takes what comes; nothing waits for an answer to be written."""

    def __init__(
        self,
        archive: Archive,
        team: str,
        bot_user: str,
        feed: EventFeed,
        inbox: Inbox,
        answering: Answering,
        commands: Commands,
        consenting: Consenting,
        drafting: Drafting,
    ) -> None:
        self._archive, self._store, self._bot_user = archive, archive.bot(team), bot_user
        self._feed, self._inbox, self._answering = feed, inbox, answering
        self._commands, self._consenting, self._drafting = commands, consenting, drafting

    async def take(self, event_id: str, event: Raw) -> None:
        """Take an event. It returns once a question in it is kept, so that Slack may be told that it came."""
        self._feed.put(event)
        question = question_of(event, self._bot_user)
        if question is None or not event_id or not await self._is_meant(question):
            return
        if await self._inbox.accept(event_id, event):
            self._answering.begin(event_id, question)

    async def _is_meant(self, question: Question) -> bool:
        """What stands in a thread without a mention is meant for the bot where it answered before."""
        if question.addressed:
            return True
        voice = await asyncio.to_thread(self._store.voice, question.channel, question.thread_ts)
        return voice is not None

    async def vote(self, value: str, _voter: str) -> None:
        """Keep what a reader thought of an answer, with what was asked and which version answered."""
        try:
            answer_id, liked = read_feedback(value)
        except ValueError:
            return
        answer = await asyncio.to_thread(self._store.answer, answer_id)
        if answer is None:
            return
        # Of somebody who was forgotten in this moment nothing is kept.
        with contextlib.suppress(ConsentError):
            await asyncio.to_thread(
                self._archive.add_feedback,
                self._store.team,
                answer.user_id,
                version=answer.version,
                question=answer.question,
                reply=answer.reply,
                sources=answer.sources,
                liked=liked,
            )

    async def command(self, user: str, channel: str, text: str) -> str:
        """Do what somebody asks for with `/doppel`; returns what they alone are to read."""
        return await self._commands.run(Command(user, channel, text))

    async def share(self, answer_id: str, user: str) -> None:
        """Show all what only its asker saw, if they are who asks for it."""
        await self._answering.share(answer_id, user)

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
            return plain(str(error))
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
            view = {"type": "home", "blocks": error_blocks(str(error))}
        await self._consenting.show(user, view)
