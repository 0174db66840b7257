"""One answer: what may be read where it is asked, the text as it grows, what is kept; or one for its asker alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Protocol

from slack_sdk.web.async_client import AsyncWebClient

from doppel.access import Audience
from doppel.archive.archive import Archive
from doppel.archive.bot import Answer, new_answer_id
from doppel.archive.snapshots import Snapshot
from doppel.bot.hearing import Hearing
from doppel.bot.question_parser import Question
from doppel.bot.sentences import in_slack
from doppel.errors import DoppelError, NotReadableError
from doppel.logs import log_failure
from doppel.records import Dialogue, Finished, Passage, Persona, Reply, ReplyEvent, SourcesFound, TextDelta
from doppel.services.ask import Found
from doppel.slack.blocks import MAX_SOURCES, closing_blocks, context, ephemeral_messages, error_blocks, is_web, mark
from doppel.slack.markup import Names
from doppel.slack.message_text import render_message
from doppel.slack.message_transport import ReplyTarget
from doppel.slack.outgoing import Mentionable, OutgoingPieces, outgoing
from doppel.slack.posting import GrowingMessage, post, post_for_asker
from doppel.timestamps import micros, now_micros

MARGIN = 0.05
"""By how much a source that only the asker may read must be nearer to the question than all that others may read."""

FRESH_SECONDS = 1.0
"""How old what is known of people and channels may be when an answer begins."""

SILENT = "The model wrote nothing; ask again, or in other words."
UNEXPECTED = "Something went wrong here; ask again, and if it happens once more, tell whoever runs Doppel."
SAY_AGAIN_SECONDS = (1.0, 5.0, 20.0)
SAYING_NOTHING = "What do you think?"
"""What a mention without words asks."""
ONLY_YOU = "Only you see this answer: it rests on what not everybody here may read."

log = logging.getLogger("doppel.bot")


class Engine(Protocol):
    """What the bot needs of the engine."""

    async def personas(self) -> list[Persona]: ...

    async def persona(self, user_id: str, team: str | None = None, snapshot: Snapshot | None = None) -> Persona: ...

    async def look_up(self, dialogue: Dialogue, audiences: Sequence[Audience], snapshot: Snapshot) -> list[Found]: ...

    def reply(
        self,
        persona: Persona,
        dialogue: Dialogue,
        audience: Audience,
        found: Found | None = None,
        is_draft: bool = False,
    ) -> AsyncIterator[ReplyEvent]: ...


class Engines(Protocol):
    """An engine for each workspace."""

    def within(self, team: str) -> Engine:
        """The engine that knows the people of one workspace alone."""
        ...


@dataclass(frozen=True, slots=True)
class Audiences:
    """Where something is asked, as of one moment: who reads along, and what its words mean to them."""

    everybody: Audience
    asker: Audience
    team: str
    snapshot: Snapshot

    @classmethod
    def of(cls, snapshot: Snapshot, team: str, channel: str, asker: str, direct: bool) -> Audiences:
        """Where somebody asks; `direct` says that nobody else reads along."""
        alone = snapshot.alone(team, asker)
        return cls(alone if direct else snapshot.together((team, channel), asker), alone, team, snapshot)

    def names(self, audience: Audience) -> Names:
        """How ids read; of a channel that may not be read there not even the name is known."""
        readable = self.snapshot.readable(audience)
        channels = {c.id: c.name for c in self.snapshot.channels if (c.team, c.id) in readable}
        return Names(self.snapshot.names(self.team), channels)


class _CitedText:
    """An answer's text as it may be posted, with links to what carries its sentences behind them."""

    def __init__(self, question: Question, names: Names) -> None:
        self._pieces = OutgoingPieces(Mentionable(frozenset({question.asker}), frozenset(), names))
        self._passages: Sequence[Passage] = ()
        self._told = ""

    def take(self, event: SourcesFound | TextDelta) -> str:
        """Take what comes next; returns what may be posted now."""
        if isinstance(event, SourcesFound):
            self._passages = event.sources[:MAX_SOURCES]
            return ""
        shown, self._told = self._pieces.feed(event.text), self._told + event.text
        if event.source is None or event.source >= len(self._passages) or not _fits(self._told):
            return shown
        address = self._passages[event.source].permalink
        return shown + (self._pieces.cite(event.source + 1, address) if is_web(address) else "")

    def close(self) -> str:
        """The rest."""
        return self._pieces.close()


def _fits(told: str) -> bool:
    """Whether a link may stand behind a text: not in code, a table or a title, nor where a line begins."""
    line = told[told.rfind("\n") + 1 :]
    return bool(line.strip()) and not line.lstrip().startswith(("|", "#")) and told.count("`") % 2 == 0


class Writer:
    """Writes answers into Slack's threads."""

    def __init__(self, engine: Engine, archive: Archive, client: AsyncWebClient, team: str) -> None:
        self._engine, self._archive, self._client, self._team = engine, archive, client, team
        self._store = archive.bot(team)
        self._hearing = Hearing(archive, client, team)
        self._icons: dict[str, str] = {}

    async def write(self, event_id: str, question: Question, persona: Persona, audiences: Audiences | None) -> None:
        """Answer as `persona`, for the audiences of now, or of a moment ago; whatever goes wrong is said in the
        thread.
        """
        where = where_of(self._team, question)
        masked = changed(where, name=persona.name, icon_url=await self.icon(persona.user_id), answer_id=new_answer_id())
        message = GrowingMessage(
            self._client, masked, lambda ts: asyncio.to_thread(self._store.note_posted, event_id, ts)
        )
        try:
            if audiences is None or time.monotonic() - audiences.snapshot.taken > FRESH_SECONDS:
                audiences = await self.audiences(question.channel, question.asker, question.direct)
            await self._write(question, persona, message, audiences)
        except DoppelError as error:
            await self._fail(message, where, in_slack(error))
        except Exception as error:
            log_failure(log, "An answer failed", error)
            await self._fail(message, where, UNEXPECTED)

    async def share(self, answer_id: str, user: str) -> None:
        """Show all in a thread what only its asker saw, if it is they who want it; without the sources."""
        answer = await asyncio.to_thread(self._store.answer, answer_id)
        if answer is None or not answer.private or answer.asker != user:
            return
        persona = await self._engine.persona(answer.user_id)
        thread, icon = answer.thread_ts, await self.icon(answer.user_id)
        where = ReplyTarget(self._team, answer.channel, thread, thread, user, persona.name, icon, answer_id)
        message = GrowingMessage(self._client, where, _nothing)
        await message.append(outgoing(answer.reply, Mentionable(frozenset({user}))))
        await message.finish([context(mark(persona)), context(f"Shared by <@{user}>, who alone saw its sources.")])

    async def _write(self, question: Question, persona: Persona, message: GrowingMessage, audiences: Audiences) -> None:
        dialogue = await self._dialogue(question, persona, audiences, private=False)
        places = [audiences.everybody] if question.direct else [audiences.everybody, audiences.asker]
        everybodys, *askers = await self._engine.look_up(dialogue, places, audiences.snapshot)
        # The best source may be one that the asker may read, but not everybody here.
        if not any(found.similarity > everybodys.similarity + MARGIN for found in askers):
            try:
                await self._write_for_all(question, persona, message, audiences, everybodys)
                return
            except NotReadableError:
                if question.direct or message.has_begun:
                    raise
        await self._write_for_asker(question, persona, message.where, audiences, askers[0])

    async def _write_for_all(
        self, question: Question, persona: Persona, message: GrowingMessage, audiences: Audiences, found: Found
    ) -> None:
        names = audiences.names(audiences.everybody)
        text = _CitedText(question, names)
        reply: Reply | None = None
        async for event in self._engine.reply(persona, found.dialogue, audiences.everybody, found):
            if isinstance(event, Finished):
                reply = event.reply
            else:
                await message.append(text.take(event))
        await message.append(text.close())
        if reply is None or not reply.text:
            raise SilentError(SILENT)
        typed = _typed(question, names)
        answer = await self._keep(message.where.answer_id, question, typed, reply, private=False)
        await message.finish(closing_blocks(reply, answer.id))

    async def _write_for_asker(
        self, question: Question, persona: Persona, where: ReplyTarget, audiences: Audiences, found: Found
    ) -> None:
        """An answer that only its asker sees; it can't grow, as Slack updates no such message."""
        names = audiences.names(audiences.asker)
        dialogue = await self._dialogue(question, persona, audiences, private=True)
        text, written, reply = _CitedText(question, names), "", None
        async for event in self._engine.reply(persona, dialogue, audiences.asker, found):
            if isinstance(event, Finished):
                reply = event.reply
            else:
                written += text.take(event)
        written += text.close()
        if reply is None or not reply.text:
            raise SilentError(SILENT)
        answer = await self._keep(where.answer_id, question, _typed(question, names), reply, private=True)
        for number, blocks in enumerate(ephemeral_messages(written, reply, answer.id)):
            shown = [context(ONLY_YOU), *blocks] if number == 0 else blocks
            await post_for_asker(self._client, alone(where), ONLY_YOU, shown)

    async def audiences(self, channel: str, asker: str, direct: bool) -> Audiences:
        """Where somebody asks; `direct` says that nobody else reads along."""
        snapshot = await asyncio.to_thread(self._archive.snapshot, self._team)
        return Audiences.of(snapshot, self._team, channel, asker, direct)

    async def _dialogue(self, question: Question, persona: Persona, audiences: Audiences, private: bool) -> Dialogue:
        """What led to a question, and it; what one alone saw is for them alone."""
        names = audiences.names(audiences.asker if private else audiences.everybody)
        text = _words(question, names)
        return await self._hearing.dialogue(question, text, persona.user_id, audiences.snapshot, names, private)

    async def _keep(self, id_: str, question: Question, text: str, reply: Reply, private: bool) -> Answer:
        return await asyncio.to_thread(
            self._store.add_answer,
            now_micros(),
            asked_at=micros(question.ts),
            id=id_,
            channel=question.channel,
            thread_ts=question.thread_ts,
            asker=question.asker,
            user_id=reply.persona.user_id,
            version=reply.persona.version,
            question=text,
            reply=reply.text,
            sources=tuple(source.permalink for source in reply.sources),
            private=private,
        )

    async def icon(self, user: str) -> str:
        """The address of somebody's picture, or nothing."""
        if user not in self._icons:
            with contextlib.suppress(Exception):
                answer = await self._client.users_info(user=user)
                profile = (answer.get("user") or {}).get("profile") or {}
                self._icons[user] = str(profile.get("image_192") or profile.get("image_72") or "")
        return self._icons.get(user, "")

    async def _fail(self, message: GrowingMessage, where: ReplyTarget, sentence: str) -> None:
        """Say it below what was written so far, or alone."""
        if message.has_begun:
            with contextlib.suppress(Exception):
                await message.finish(error_blocks(sentence))
                return
        await say(self._client, where, sentence)


class SilentError(DoppelError):
    """The model wrote nothing."""


def where_of(team: str, question: Question) -> ReplyTarget:
    """The thread in which a question is answered."""
    return ReplyTarget(team, question.channel, question.thread_ts, question.ts, question.asker)


def alone(where: ReplyTarget) -> ReplyTarget:
    """Where somebody is shown what they alone are to see: Slack shows that in no thread that has not begun, and a
    question that is no reply may have no thread yet.
    """
    return changed(where, thread_ts="") if where.thread_ts == where.asked_ts else where


async def say(client: AsyncWebClient, where: ReplyTarget, sentence: str) -> None:
    """Say one sentence in a thread, as the bot itself, again after a pause; that it can't be said at all is logged."""
    for pause in (*SAY_AGAIN_SECONDS, None):
        try:
            await post(client, where, sentence, error_blocks(sentence))
            return
        except Exception as error:
            if pause is None:
                log_failure(log, "A sentence could not be posted", error)
                return
        await asyncio.sleep(pause)


def _words(question: Question, names: Names) -> str:
    """What is asked, with the tables, forwards and files below it."""
    read = render_message({**question.shown, "text": question.text, "user": question.asker}, names).strip()
    return read if question.text.strip() else "\n".join(part for part in (SAYING_NOTHING, read) if part)


def _typed(question: Question, names: Names) -> str:
    """What is kept of a question: copies of what others wrote would outlive the messages."""
    return render_message({"text": question.text}, names).strip() or SAYING_NOTHING


async def _nothing(_ts: str) -> None:
    """Nothing to remember."""
