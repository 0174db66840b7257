"""What was said before a question, as its turns: from the archive, else from Slack, and what was answered before."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from doppel.archive.archive import Archive
from doppel.archive.bot import Answer
from doppel.archive.snapshots import Snapshot
from doppel.bot.question_parser import Question
from doppel.engine.conversation import GAP_SECONDS, conversations, dialogue, turns, with_posts
from doppel.ingest.live import may_lack, read_live
from doppel.labels import ASKER
from doppel.logs import log_failure
from doppel.records import Conversation, Dialogue, Message, MessageKind, Turn
from doppel.slack.failing import FAILURES
from doppel.slack.markup import Names
from doppel.timestamps import micros

EXCHANGES = 6
"""Earlier questions of a direct conversation that go into the prompt."""
READ_LIVE = 200
"""Messages that are read from Slack where the archive doesn't have them; more than a prompt holds."""

log = logging.getLogger("doppel.bot")


class Hearing:
    """Makes the dialogue of a question in one workspace."""

    def __init__(self, archive: Archive, client: AsyncWebClient, team: str) -> None:
        self._archive, self._client, self._team = archive, client, team
        self._store = archive.bot(team)

    async def dialogue(
        self, question: Question, text: str, user_id: str, snapshot: Snapshot, names: Names, private: bool
    ) -> Dialogue:
        """What leads to a question, which says `text`, for `user_id` to answer.

        `names` tell how ids read where it is shown; with `private`, what only the asker saw before is in it.
        """
        asked = Turn(snapshot.names(self._team).get(question.asker, ASKER), text)
        if question.direct:
            return Dialogue((*await self._exchanges(question, asked.author, user_id, snapshot), asked))
        said = await self._said(question, snapshot, names, question.asker if private else "")
        before = tuple(m for m in said.messages if m.ts != question.ts)
        channel = snapshot.channel((self._team, question.channel))
        return dialogue((*turns(before, user_id), asked), said, channel, question.ts)

    async def _said(self, question: Question, snapshot: Snapshot, names: Names, reader: str) -> Conversation:
        """The conversation up to the question, by the archive if it has all of it."""
        place, thread_ts = (self._team, question.channel), _thread(question)
        found = await asyncio.to_thread(self._archive.up_to, snapshot, place, question.ts, thread_ts, reader)
        there = {message.ts for message in found.messages}
        # Only where something may be missing is it asked whether it is.
        if question.ts in there and (thread_ts in there if thread_ts else len(there) > 1):
            return found
        if question.ts in there and not await asyncio.to_thread(may_lack, self._archive, place, question.ts, thread_ts):
            return found
        said = await self._from_slack(question, snapshot, names)
        if said is None:
            return found
        posts = await asyncio.to_thread(self._archive.posts_in, snapshot, place, thread_ts, reader)
        return with_posts(replace(found, messages=said), posts)

    async def _from_slack(self, question: Question, snapshot: Snapshot, names: Names) -> tuple[Message, ...] | None:
        """What people said, as Slack has it, which isn't stored; None where Slack doesn't tell."""
        where: dict[str, Any] = {"channel": question.channel, "latest": question.ts, "inclusive": True}
        try:
            if _thread(question):
                answer = await self._client.conversations_replies(ts=question.thread_ts, limit=READ_LIVE, **where)
            else:
                answer = await self._client.conversations_history(limit=READ_LIVE, **where)
        except FAILURES as error:
            log_failure(log, "What was said before a question could not be read", error)
            return None
        raws = [raw for raw in answer.get("messages") or [] if isinstance(raw, dict)]
        people, bots = snapshot.names(self._team), snapshot.bots(self._team)
        said = await asyncio.to_thread(
            read_live, self._archive, self._team, question.channel, raws, names, people, bots
        )
        return _ending_with(question, said)

    async def _exchanges(self, question: Question, asker: str, user_id: str, snapshot: Snapshot) -> list[Turn]:
        """What was asked and answered in a direct conversation before, in this thread or since it last paused."""
        thread = _thread(question)
        answers = await asyncio.to_thread(self._store.answers, question.channel, thread, EXCHANGES)
        found: list[Turn] = []
        for answer in answers if thread else _since_pause(answers, micros(question.ts)):
            name = snapshot.names(self._team).get(answer.user_id, answer.user_id)
            found += [Turn(asker, answer.question), Turn(name, answer.reply, answer.user_id == user_id, by_ai=True)]
        return found


def _thread(question: Question) -> str | None:
    """The thread in which something is asked; None for what begins one."""
    return question.thread_ts if question.thread_ts != question.ts else None


def _ending_with(question: Question, said: list[Message]) -> tuple[Message, ...]:
    """What people said in the conversation that ends with the question."""
    until = micros(question.ts)
    people = tuple(m for m in said if m.kind is MessageKind.HUMAN and m.text.strip() and micros(m.ts) <= until)
    if _thread(question) is None:
        *_, people = ((), *(c.messages for c in conversations(people) if c.thread_ts is None))
    return people


def _since_pause(answers: list[Answer], at: int) -> list[Answer]:
    """The last of `answers`, between which and until `at` nobody paused for long."""
    kept: list[Answer] = []
    for answer in reversed(answers):
        if at - answer.at >= GAP_SECONDS * 1_000_000:
            break
        kept.append(answer)
        at = answer.at
    return kept[::-1]
