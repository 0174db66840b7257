"""The story of one question in Slack: who answers, what may be read there, the answer as it grows, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from doppel.archive.archive import Archive
from doppel.archive.bot import BotStore, Open
from doppel.bot.question_parser import Question, question_from
from doppel.bot.sentences import in_slack
from doppel.bot.writing import UNEXPECTED, Audiences, Engine, Writer, alone, say, where_of
from doppel.errors import DoppelError
from doppel.fair_queue import FairQueue
from doppel.ingest.event_ingester import WaitUntilIdle
from doppel.logs import about, log_failure
from doppel.records import Persona
from doppel.slack.blocks import context, error_blocks, is_beginning
from doppel.slack.failing import FAILURES, remove_strays
from doppel.slack.posting import post_for_asker, replace
from doppel.timestamps import micros

PATIENCE_SECONDS = 2.0
"""How long a question waits for its turn before who asked is told that it does."""
WAITING = "Many ask at once. Your question is in line, and is answered when its turn comes."
INTERRUPTED = "Doppel was restarted in the middle of this answer; ask again."
NOBODY = "Nobody here can be asked yet: a doppelganger needs its person's consent first."

log = logging.getLogger("doppel.bot")


class Answering:
    """Answers questions side by side, each of them to its end: an answer, or a sentence about why there is none."""

    def __init__(
        self,
        engine: Engine,
        archive: Archive,
        client: AsyncWebClient,
        team: str,
        bot_user: str,
        wait_until_idle: WaitUntilIdle,
        queue: FairQueue,
    ) -> None:
        self._engine, self._archive, self._client = engine, archive, client
        self._team, self._bot_user, self._wait_until_idle = team, bot_user, wait_until_idle
        self._store: BotStore = archive.bot(team)
        self._queue = queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer = Writer(engine, archive, client, team)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open, questions are answered; those that an earlier process left open come first."""
        questions = await asyncio.to_thread(self._store.open_questions)
        await self._remove_beginnings(questions)
        for left in questions:
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

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def refuse(self, question: Question, sentence: str) -> None:
        """Say why a question is not answered; returns at once."""
        self._spawn(self._say(question, sentence))

    async def share(self, answer_id: str, user: str) -> None:
        """Show all in a thread what only its asker saw."""
        await self._writer.share(answer_id, user)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove_beginnings(self, questions: Sequence[Open]) -> None:
        """Remove what was begun in the moment of a crash, so that nobody noted its timestamp: it is answered anew."""
        asked = [(left, question_from(left.event, self._bot_user)) for left in questions]
        begun = {(q.channel, q.thread_ts) for left, q in asked if q and left.posted_ts}
        lost = {(q.channel, q.thread_ts): q.ts for left, q in reversed(asked) if q and not left.posted_ts}
        for (channel, thread_ts), ts in lost.items():
            answers = await asyncio.to_thread(self._store.answers, channel, thread_ts)
            # The first page of a whole answer looks like a beginning.
            if (channel, thread_ts) not in begun and all(answer.at < micros(ts) for answer in answers):
                with contextlib.suppress(*FAILURES):
                    await remove_strays(self._client, channel, thread_ts, ts, is_beginning)

    async def _take_up(self, left: Open) -> None:
        question = question_from(left.event, self._bot_user)
        if question is None:
            await asyncio.to_thread(self._store.finish, left.event_id)
        elif left.posted_ts:
            with contextlib.suppress(Exception):
                await replace(
                    self._client, where_of(self._team, question), left.posted_ts, INTERRUPTED, error_blocks(INTERRUPTED)
                )
            await asyncio.to_thread(self._store.finish, left.event_id)
        else:
            await self._answer(left.event_id, question, owed=True)

    async def _answer(self, event_id: str, question: Question, owed: bool = False) -> None:
        with about(team=self._team, question=event_id):
            await self._answer_to_its_end(event_id, question, owed)

    async def _answer_to_its_end(self, event_id: str, question: Question, owed: bool) -> None:
        waits = asyncio.create_task(self._tell_that_it_waits(question))
        try:
            # In line at once, so that what one asks stays in its order.
            async with self._queue.place((self._team, question.asker), owed, micros(question.ts)):
                waits.cancel()
                await self._wait_until_idle()
                await self._answer_each(event_id, question)
        except DoppelError as error:
            waits.cancel()
            await self._wait_until_idle()
            await self._say(question, in_slack(error))
        except Exception as error:
            waits.cancel()
            log_failure(log, "A question could not be answered", error)
            await self._say(question, UNEXPECTED)
        finally:
            waits.cancel()
        await asyncio.to_thread(self._store.finish, event_id)

    async def _tell_that_it_waits(self, question: Question) -> None:
        """Tell who asked, and them alone, once they have waited for their turn for a moment."""
        await asyncio.sleep(PATIENCE_SECONDS)
        with contextlib.suppress(*FAILURES):
            where = alone(where_of(self._team, question))
            await post_for_asker(self._client, where, WAITING, [context(WAITING)])

    async def _answer_each(self, event_id: str, question: Question) -> None:
        audiences = await self._writer.audiences(question.channel, question.asker, question.direct)
        for number, persona in enumerate(await self._people(question, audiences)):
            # While the one before answered, people and channels may have changed.
            await self._writer.write(event_id, question, persona, audiences if number == 0 else None)

    async def _people(self, question: Question, audiences: Audiences) -> list[Persona]:
        """Whom to ask: those who are named, else the thread's, the channel's or the workspace's, else the only one.

        One alone is the thread's from now on.
        """
        defaults = await asyncio.to_thread(self._store.default_personas, question.channel, question.thread_ts)
        chosen = list(question.people) or [persona for persona in defaults if persona][:1]
        people = [await self._engine.persona(person, self._team, audiences.snapshot) for person in chosen]
        people = people or [await self._only_one()]
        if len(people) == 1 and people[0].user_id != defaults[0]:
            await asyncio.to_thread(
                self._store.set_default_persona, people[0].user_id, question.channel, question.thread_ts
            )
        return people

    async def _only_one(self) -> Persona:
        everyone = await self._engine.personas()
        if len(everyone) == 1:
            return everyone[0]
        if not everyone:
            raise NobodyChosenError(NOBODY)
        names = ", ".join(persona.name for persona in everyone[:10])
        raise NobodyChosenError(f"Say whom to ask: mention me with “as @name” and your question. {names} can be asked.")

    async def _say(self, question: Question, sentence: str) -> None:
        await say(self._client, where_of(self._team, question), sentence)


class NobodyChosenError(DoppelError):
    """It is not clear who is to answer."""
