"""The story of one question in Slack: who answers, what may be read there, the answer as it grows, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace as changed
from typing import Any, Protocol

from slack_sdk.web.async_client import AsyncWebClient

from doppel.access import Place, Readership
from doppel.archive.archive import Archive
from doppel.archive.bot import BotStore, Open
from doppel.archive.reading import micros
from doppel.bot.asked import Question, question_of
from doppel.errors import DoppelError
from doppel.records import Channel, Finished, Persona, Reply, ReplyEvent, TextDelta, Turn, User
from doppel.slack.blocks import closing_blocks, error_blocks
from doppel.slack.markup import Names, render_message
from doppel.slack.outgoing import Audience, OutgoingPieces
from doppel.slack.posting import GrowingMessage, Where, post, replace

ANSWERS_AT_ONCE = 8
ASKER = "Question"
TURNS = 6
"""Earlier questions of a thread that go into the prompt."""

SILENT = "The model wrote nothing; ask again, or in other words."
UNEXPECTED = "Something went wrong here; ask again, and if it happens once more, tell whoever runs Doppel."
INTERRUPTED = "Doppel was restarted in the middle of this answer; ask again."
NOBODY = "Nobody here can be asked yet: a doppelganger needs its person's consent first."

log = logging.getLogger("doppel.bot")


class Engine(Protocol):
    """What the bot needs of the engine."""

    async def personas(self) -> list[Persona]: ...

    async def persona(self, name: str) -> Persona: ...

    def reply(self, persona: Persona, turns: Sequence[Turn], place: Place) -> AsyncIterator[ReplyEvent]: ...


class Answering:
    """Answers questions side by side, each of them to its end: an answer, or a sentence about why there is none."""

    def __init__(self, engine: Engine, archive: Archive, client: AsyncWebClient, team: str, bot_user: str) -> None:
        self._engine, self._archive, self._client = engine, archive, client
        self._team, self._bot_user = team, bot_user
        self._store: BotStore = archive.bot(team)
        self._room = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._icons: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open, questions are answered; those that an earlier process left open come first."""
        for left in await asyncio.to_thread(self._store.open_questions):
            self._spawn(self._take_up(left))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, event_id: str, question: Question) -> None:
        """Answer a question; returns at once."""
        self._spawn(self._answer(event_id, question))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_up(self, left: Open) -> None:
        question = question_of(left.event, self._bot_user)
        if question is None:
            await asyncio.to_thread(self._store.finish, left.event_id)
        elif left.posted_ts:
            with contextlib.suppress(Exception):
                where = self._where(question)
                await replace(self._client, where, left.posted_ts, INTERRUPTED, error_blocks(INTERRUPTED))
            await asyncio.to_thread(self._store.finish, left.event_id)
        else:
            await self._answer(left.event_id, question)

    async def _answer(self, event_id: str, question: Question) -> None:
        async with self._room:
            try:
                await self._answer_each(event_id, question)
            except DoppelError as error:
                await self._say(question, str(error))
            except Exception as error:
                # Without its text, which may quote a message.
                log.error("A question could not be answered (%s)", type(error).__name__)
                await self._say(question, UNEXPECTED)
        await asyncio.to_thread(self._store.finish, event_id)

    async def _answer_each(self, event_id: str, question: Question) -> None:
        people = await self._people(question)
        if len(people) == 1:
            await asyncio.to_thread(self._store.set_voice, people[0].user_id, question.channel, question.thread_ts)
        for persona in people:
            await self._answer_as(event_id, question, persona)

    async def _people(self, question: Question) -> list[Persona]:
        """Whom to ask: those who are named, else the thread's, the channel's or the workspace's, else the only one."""
        if question.people:
            return [await self._engine.persona(person) for person in question.people]
        for channel, thread_ts in ((question.channel, question.thread_ts), (question.channel, ""), ("", "")):
            if voice := await asyncio.to_thread(self._store.voice, channel, thread_ts):
                return [await self._engine.persona(voice)]
        everyone = [p for p in await self._engine.personas() if p.team == self._team]
        if len(everyone) == 1:
            return everyone
        if not everyone:
            raise NobodyChosenError(NOBODY)
        names = ", ".join(persona.name for persona in everyone[:10])
        raise NobodyChosenError(f"Say whom to ask: mention me with “as @name” and your question. {names} can be asked.")

    async def _answer_as(self, event_id: str, question: Question, persona: Persona) -> None:
        users, channels = await asyncio.gather(
            asyncio.to_thread(self._archive.users), asyncio.to_thread(self._archive.channels)
        )
        where = changed(self._where(question), name=persona.name, icon_url=await self._icon(persona.user_id))
        message = GrowingMessage(
            self._client, where, lambda ts: asyncio.to_thread(self._store.note_posted, event_id, ts)
        )
        try:
            await self._write(question, persona, message, users, channels)
        except DoppelError as error:
            await self._fail(message, question, str(error))
        except Exception as error:
            log.error("An answer failed (%s)", type(error).__name__)
            await self._fail(message, question, UNEXPECTED)

    async def _write(
        self,
        question: Question,
        persona: Persona,
        message: GrowingMessage,
        users: Sequence[User],
        channels: Sequence[Channel],
    ) -> None:
        place = self._place(question, users, channels)
        readable = place.readable(channels)
        # Of a channel that may not be read here not even the name.
        names = Names({u.id: u.name for u in users}, {c.id: c.name for c in channels if (c.team, c.id) in readable})
        text = render_message({"text": question.text}, names).strip()
        turns = [*await self._turns(question, persona), Turn(ASKER, text or "What do you think?")]
        pieces = OutgoingPieces(Audience(frozenset({question.asker}), frozenset(), names))
        reply: Reply | None = None
        async for event in self._engine.reply(persona, turns, place):
            if isinstance(event, TextDelta):
                await message.append(pieces.feed(event.text))
            elif isinstance(event, Finished):
                reply = event.reply
        await message.append(pieces.close())
        if reply is None or not reply.text:
            await self._fail(message, question, SILENT)
            return
        await message.finish(closing_blocks(reply, await self._keep(question, text, reply)))

    async def _keep(self, question: Question, text: str, reply: Reply) -> str:
        answer = await asyncio.to_thread(
            self._store.add_answer,
            round(time.time() * 1e6),
            asked_at=micros(question.ts),
            channel=question.channel,
            thread_ts=question.thread_ts,
            asker=question.asker,
            user_id=reply.persona.user_id,
            version=reply.persona.version,
            question=text,
            reply=reply.text,
            sources=tuple(source.permalink for source in reply.sources),
        )
        return answer.id

    async def _turns(self, question: Question, persona: Persona) -> list[Turn]:
        """What was asked and answered in this thread before."""
        answers = await asyncio.to_thread(self._store.answers, question.channel, question.thread_ts)
        turns: list[Turn] = []
        for answer in answers[-TURNS:]:
            by_persona = answer.user_id == persona.user_id
            turns += [Turn(ASKER, answer.question), Turn(persona.name, answer.reply, by_persona)]
        return turns

    def _place(self, question: Question, users: Sequence[User], channels: Sequence[Channel]) -> Place:
        if question.direct:
            return Readership.of_person(self._team, question.asker, users)
        here = next((c for c in channels if (c.team, c.id) == (self._team, question.channel)), None)
        return Readership.of_channel(here, self._team, users)

    async def _icon(self, user: str) -> str:
        """The address of somebody's picture, or nothing."""
        if user not in self._icons:
            with contextlib.suppress(Exception):
                answer = await self._client.users_info(user=user)
                profile = (answer.get("user") or {}).get("profile") or {}
                self._icons[user] = str(profile.get("image_192") or profile.get("image_72") or "")
        return self._icons.get(user, "")

    def _where(self, question: Question) -> Where:
        return Where(self._team, question.channel, question.thread_ts, question.asker)

    async def _fail(self, message: GrowingMessage, question: Question, sentence: str) -> None:
        """Say it below what was written so far, or alone."""
        if message.has_begun:
            with contextlib.suppress(Exception):
                await message.finish(error_blocks(sentence))
                return
        await self._say(question, sentence)

    async def _say(self, question: Question, sentence: str) -> None:
        try:
            await post(self._client, self._where(question), sentence, error_blocks(sentence))
        except Exception as error:
            log.error("A sentence could not be posted (%s)", type(error).__name__)


class NobodyChosenError(DoppelError):
    """It is not clear who is to answer."""
