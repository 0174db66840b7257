"""Draft mode: a reply in somebody's own manner, shown to them alone, that they send, change, or have written again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from slack_sdk.web.async_client import AsyncWebClient

from doppel.access import has_consent, is_paused
from doppel.archive.archive import Archive
from doppel.archive.drafts import Draft, Wanted
from doppel.bot.draft_troubles import (
    EMPTY,
    GONE,
    LEFT,
    MAYBE_SENT,
    NOT_AGREED,
    NOT_THERE,
    NOTHING_SAID,
    OWN,
    RESTING,
    TOO_LONG,
    UNKNOWN,
    DraftError,
    MaybeSentError,
    sentence_of,
    told,
    was_not_sent,
)
from doppel.bot.writing import SILENT, Audiences, Engine, SilentError, Writer
from doppel.engine.conversation import dialogue, turns
from doppel.engine.redaction import mask
from doppel.errors import DoppelError
from doppel.fair_queue import FairQueue
from doppel.labels import ASKER
from doppel.limits import require_length
from doppel.plain_text import storable
from doppel.records import Conversation, Dialogue, Finished, Message, Persona, Raw, Reply, Turn
from doppel.slack.blocks import EPHEMERAL_CHARS, Block
from doppel.slack.draft_blocks import (
    EDIT,
    FIELD_CHARS,
    SEND,
    Pressed,
    Submitted,
    draft_message,
    form,
    replying_to,
    sent_mark,
    settled,
    with_trouble,
)
from doppel.slack.failing import FAILURES
from doppel.slack.markup import render_text
from doppel.slack.message_transport import ReplyTarget, Updates
from doppel.slack.messages import timestamp
from doppel.slack.outgoing import Mentionable, outgoing
from doppel.slack.posting import post_for_asker, respond
from doppel.slack.splitting import split
from doppel.timestamps import now_micros

DRAFTING = "I am drafting your reply; only you will see it."
FALLBACK = "A draft of your reply, for you alone."
SENT = "Sent."

log = logging.getLogger("doppel.bot")


class Drafting:
    """Drafts in one workspace. What goes wrong is a sentence that the caller alone reads."""

    def __init__(
        self,
        engine: Engine,
        archive: Archive,
        client: AsyncWebClient,
        team: str,
        queue: FairQueue,
        question_chars: int,
    ) -> None:
        self._engine, self._archive, self._client, self._team = engine, archive, client, team
        self._queue, self._question_chars = queue, question_chars
        self._drafts = archive.drafts(team)
        self._writer = Writer(engine, archive, client, team)

    async def draft(self, user: str, channel: str, text: str) -> str:
        """Draft a reply to `text`, or to what somebody else said last in a channel; returns what went wrong, or ""."""
        return await told(self._draft_here(user, channel, text))

    async def reply_to(self, user: str, channel: str, message: Raw) -> str:
        """Draft a reply to a message, in its thread; returns what went wrong, or ""."""
        ts, thread_ts = (timestamp(message.get(key)) or "" for key in ("ts", "thread_ts"))
        # Slack shows what one alone is to see in no thread that has not begun.
        return await told(self._begin(Wanted(user, channel, thread_ts or ts, ts), shown_in=thread_ts))

    async def press(self, pressed: Pressed) -> None:
        """Send a draft, open the form to change it, or write it again."""
        if said := await told(self._press(pressed)):
            await respond(pressed.response_url, said)

    async def submit(self, submitted: Submitted) -> None:
        """Send what somebody made of their draft."""
        if said := await told(self._submit(submitted)):
            await respond(submitted.response_url, said)

    async def _draft_here(self, user: str, channel: str, text: str) -> None:
        if text.strip():
            require_length(text.strip(), self._question_chars)
            audiences = await self._audiences(user, channel)
            said = storable(render_text(text, audiences.names(audiences.everybody))).strip()
            await self._begin(Wanted(user, channel, "", "", mask(said)), shown_in="")
            return
        last = await asyncio.to_thread(self._archive.last_said, self._team, channel, user)
        if last is None:
            await post_for_asker(
                self._client, ReplyTarget(self._team, channel, "", "", user), NOTHING_SAID, settled(NOTHING_SAID)
            )
            return
        await self._begin(Wanted(user, channel, "", last.ts), shown_in="")

    async def _begin(self, wanted: Wanted, shown_in: str) -> None:
        """Write a draft and show it; where it could not be sent, Slack refuses to show even that it is begun."""
        await self._require_agreed(wanted.user_id)
        trouble = await told(self._said(wanted))
        where = ReplyTarget(self._team, wanted.channel, shown_in, wanted.answered_ts, wanted.user_id)
        await post_for_asker(self._client, where, trouble or DRAFTING, settled(trouble or DRAFTING))
        if not trouble:
            await post_for_asker(self._client, where, FALLBACK, await self._write(wanted))

    async def _press(self, pressed: Pressed) -> None:
        draft = await self._open(pressed.draft_id, pressed.user)
        if pressed.action == SEND:
            await self._send(draft, pressed.response_url)
        elif pressed.action == EDIT:
            view = form(draft.text, draft.id, pressed.response_url)
            await self._client.views_open(trigger_id=pressed.trigger, view=view)
        else:
            await self._write_again(draft, pressed.response_url)

    async def _submit(self, submitted: Submitted) -> None:
        found = await self._open(submitted.draft_id, submitted.user)
        if len(submitted.text) > FIELD_CHARS:
            raise DraftError(TOO_LONG)
        text = mask(submitted.text.strip())
        if not text:
            raise DraftError(EMPTY)
        draft = found if text == found.text else await asyncio.to_thread(self._drafts.edit, found, text)
        if draft is None:
            raise DraftError(GONE)
        await self._send(draft, submitted.response_url)

    async def _write_again(self, draft: Draft, response_url: str) -> None:
        await respond(response_url, DRAFTING, settled(DRAFTING), in_place=True)
        try:
            await self._require_agreed(draft.wanted.user_id)
            blocks = await self._write(draft.wanted, instead_of=draft.id)
        except Exception as error:
            await self._show_again(draft, error, response_url)
            return
        await respond(response_url, FALLBACK, blocks, in_place=True)

    async def _send(self, draft: Draft, response_url: str) -> None:
        """Post a draft under its person's name; at most once, whoever else tries."""
        audiences = await self._audiences(draft.wanted.user_id, draft.wanted.channel)
        if not await asyncio.to_thread(self._drafts.claim, draft.id):
            raise DraftError(GONE)
        try:
            ts = await self._post(draft, audiences)
        except MaybeSentError:
            raise
        except DraftError as error:
            await asyncio.to_thread(self._drafts.give_back, draft.id)
            await self._show_again(draft, error, response_url)
            return
        try:
            await asyncio.to_thread(self._drafts.finish, draft, ts)
        except DoppelError as error:
            log.error("A draft was sent but not noted as such: %s", error)
        await respond(response_url, SENT, settled(SENT), in_place=True)

    async def _post(self, draft: Draft, audiences: Audiences) -> str:
        """The timestamp of its message. Raises DraftError where it surely was not posted, else MaybeSentError."""
        wanted = draft.wanted
        written = split(_visible(draft.text, audiences), EPHEMERAL_CHARS)
        if len(written) != 1:
            raise DraftError(TOO_LONG if written else EMPTY)
        person = _name(wanted.user_id, audiences)
        icon = await self._writer.icon(wanted.user_id)
        where = ReplyTarget(
            self._team, wanted.channel, wanted.thread_ts, wanted.answered_ts, wanted.user_id, person, icon, draft.id
        )
        message, mark = Updates(self._client, where), sent_mark(person, draft.version, draft.edited)
        try:
            await message.send(written[0], written[0], [mark], last=True)
        except FAILURES as error:
            if was_not_sent(error):
                raise DraftError(sentence_of(error)) from error
            raise MaybeSentError(MAYBE_SENT) from error
        return message.ts

    async def _write(self, wanted: Wanted, instead_of: str | None = None) -> list[Block]:
        """A new draft, as it is shown."""
        asked_at = now_micros()
        async with self._queue.place((self._team, wanted.user_id)):
            audiences = await self._audiences(wanted.user_id, wanted.channel)
            said = await self._said(wanted)
            dialogue = self._dialogue(said, wanted, audiences)
            reply = await self._reply(wanted.user_id, dialogue, audiences)
        text = split(reply.text, FIELD_CHARS)[0]
        shown = _visible(text, audiences).strip()
        if not shown:
            raise SilentError(SILENT)
        arguments = (now_micros(), wanted, text, reply.persona.version, asked_at, instead_of)
        draft = await asyncio.to_thread(self._drafts.add, *arguments)
        if draft is None:
            raise DraftError(GONE)
        about = await self._about(said[-1]) if said else ""
        return draft_message(shown, draft.id, reply.persona, about, reply)

    async def _reply(self, user_id: str, dialogue: Dialogue, audiences: Audiences) -> Reply:
        persona = await self._engine.persona(user_id)
        async for event in self._engine.reply(persona, dialogue, audiences.everybody, is_draft=True):
            if isinstance(event, Finished) and event.reply.text.strip():
                return event.reply
        raise SilentError(SILENT)

    def _dialogue(self, said: Sequence[Message], wanted: Wanted, audiences: Audiences) -> Dialogue:
        """What leads to what is answered, of which a very long one's end is enough."""
        if not said:
            return Dialogue((Turn(ASKER, wanted.question),))
        *before, asked = turns(said, wanted.user_id)
        asked = replace(asked, text=asked.text[-self._question_chars :])
        channel = audiences.snapshot.channel((self._team, wanted.channel))
        root = said[-1].thread_ts or said[-1].ts
        in_thread = any(message.thread_ts == root and message.ts != root for message in said)
        conversation = Conversation(self._team, wanted.channel, root if in_thread else None, tuple(said))
        return dialogue((*before, asked), conversation, channel)

    async def _said(self, wanted: Wanted) -> list[Message]:
        """What is answered, and what was said before it; nothing where the caller gave the words."""
        if not wanted.answered_ts:
            return []
        place = (self._team, wanted.channel, wanted.answered_ts)
        said = await asyncio.to_thread(self._archive.leading_to, *place)
        if not said:
            raise DraftError(NOT_THERE)
        if said[-1].user == wanted.user_id:
            raise DraftError(OWN)
        return said

    async def _about(self, answered: Message) -> str:
        place = ((self._team, answered.channel), answered.ts, answered.thread_ts)
        return replying_to(answered.author, await asyncio.to_thread(self._archive.permalink, *place))

    async def _show_again(self, draft: Draft, error: Exception, response_url: str) -> None:
        """Put a draft that is still open back in its place, with what went wrong."""
        said = sentence_of(error)
        if await asyncio.to_thread(self._drafts.open_draft, draft.id, draft.wanted.user_id) is None:
            await respond(response_url, said, settled(said), in_place=True)
            return
        audiences = await self._audiences(draft.wanted.user_id, draft.wanted.channel)
        persona = Persona(self._team, draft.wanted.user_id, _name(draft.wanted.user_id, audiences), "", draft.version)
        shown = draft_message(_visible(draft.text, audiences) or "…", draft.id, persona)
        await respond(response_url, said, with_trouble(said, shown), in_place=True)

    async def _open(self, draft_id: str, user: str) -> Draft:
        draft = await asyncio.to_thread(self._drafts.open_draft, draft_id, user)
        if draft is None:
            raise DraftError(GONE)
        snapshot = await asyncio.to_thread(self._archive.snapshot, self._team)
        here = snapshot.channel((self._team, draft.wanted.channel))
        if here and here.members and user not in here.members:
            raise DraftError(LEFT)
        return draft

    async def _audiences(self, user: str, channel: str) -> Audiences:
        """Whoever would read a reply; only its two people are in a direct conversation with the bot."""
        return await self._writer.audiences(channel, user, direct=channel.startswith("D"))

    async def _require_agreed(self, user_id: str) -> None:
        user = await asyncio.to_thread(self._archive.user, self._team, user_id)
        if user is None or user.is_bot:
            raise DraftError(UNKNOWN)
        records = await asyncio.to_thread(self._archive.consent_records, user)
        if not has_consent(records):
            raise DraftError(NOT_AGREED)
        if is_paused(records):
            raise DraftError(RESTING)


def _visible(text: str, audiences: Audiences) -> str:
    """A draft as it is shown and posted; it can mention nobody."""
    return outgoing(text, Mentionable(names=audiences.names(audiences.everybody)))


def _name(user_id: str, audiences: Audiences) -> str:
    return audiences.snapshot.names(audiences.team).get(user_id, user_id)
