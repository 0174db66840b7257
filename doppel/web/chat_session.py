"""One reader's conversation with one persona: what was asked and answered, and the answer that is being written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from doppel.access import Audience
from doppel.errors import DoppelError
from doppel.fair_queue import Asker, FairQueue
from doppel.labels import ASKER
from doppel.logs import log_failure
from doppel.records import Dialogue, Finished, Passage, Persona, ReplyEvent, Sentence, SourcesFound, TextDelta, Turn

log = logging.getLogger(__name__)

STOPPED = "Stopped."
SILENT = "The model wrote nothing; ask again, or in other words."
UNEXPECTED = "Something went wrong; ask again, and if it happens once more, see the log."
FRAME_SECONDS = 0.03


class ReplyEngine(Protocol):
    """What the web chat needs of the engine."""

    async def personas(self) -> list[Persona]: ...

    async def persona(self, user_id: str, team: str | None = None) -> Persona: ...

    def reply(self, persona: Persona, dialogue: Dialogue, audience: Audience) -> AsyncIterator[ReplyEvent]: ...


class Engines(ReplyEngine, Protocol):
    """The engine for the people of all workspaces, or of one."""

    def within(self, team: str) -> ReplyEngine: ...


@dataclass(frozen=True, slots=True)
class InTurn:
    """An engine that answers an asker once it is their turn."""

    engine: ReplyEngine
    queue: FairQueue
    asker: Asker

    async def personas(self) -> list[Persona]:
        """As the engine."""
        return await self.engine.personas()

    async def persona(self, user_id: str, team: str | None = None) -> Persona:
        """As the engine."""
        return await self.engine.persona(user_id, team)

    async def reply(self, persona: Persona, dialogue: Dialogue, audience: Audience) -> AsyncIterator[ReplyEvent]:
        """As the engine; raises CrowdedError too."""
        async with self.queue.place(self.asker):
            async for event in self.engine.reply(persona, dialogue, audience):
                yield event


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody before the web chat: whom they can ask, and what they may read. `name` is "" where nobody signs in."""

    engine: ReplyEngine
    audience: Audience
    name: str = ""


@dataclass
class Exchange:
    """A question and its answer, as far as it is written.

    `sources` is None until they are looked up; `trouble` is a sentence about why the answer ends where it does; `vote`
    is the id under which it is stored what the reader thinks of it.
    """

    question: str
    persona: Persona
    asker: str = ""
    sources: tuple[Passage, ...] | None = None
    notes: tuple[str, ...] = ()
    text: str = ""
    sentences: tuple[Sentence, ...] = ()
    trouble: str = ""
    open: bool = True
    finished: bool = False
    liked: bool | None = None
    vote: int | None = None

    def take(self, event: ReplyEvent) -> None:
        """Add what the engine tells."""
        match event:
            case SourcesFound(sources=sources, notes=notes):
                self.sources, self.notes = sources, notes
            case TextDelta(text=text):
                self.text += text
            case Finished(reply=reply):
                self.persona, self.text = reply.persona, reply.text
                self.sources, self.notes, self.sentences = reply.sources, reply.notes, reply.sentences
                self.finished = True
                self.trouble = "" if reply.text else SILENT

    def close(self) -> None:
        """Nothing more will come; what is neither finished nor in trouble was stopped."""
        self.open = False
        if not self.finished and not self.trouble:
            self.notes += (STOPPED,)


@dataclass(eq=False)
class ChatSession:
    """A conversation; at most one answer is being written in it. `people` can be asked, None before a look.

    `owner` is who began it, where people sign in. `trouble` is a sentence about what is wrong with what the reader did
    last, and stands until they do something else.
    """

    people: list[Persona] | None = None
    persona: Persona | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    owner: str | None = None
    trouble: str = ""
    _writing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def belongs_to(self, visitor: str | None) -> bool:
        """Whether it is that visitor's; whoever comes first owns it from then on."""
        if self.people is None and not self.exchanges and self.owner is None:
            self.owner = visitor
        return self.owner == visitor

    def known(self, key: str) -> Persona | None:
        """One of the people who can be asked."""
        return next((person for person in self.people or () if person.key == key), None)

    def stop(self) -> None:
        """End the answer that is being written, if there is one; what it says so far stays."""
        if self._writing:
            self._writing.cancel()

    async def end(self) -> None:
        """Stop, and wait until the engine has let go."""
        self.stop()
        if self._writing:
            await asyncio.wait([self._writing])

    def restart(self, persona: Persona | None) -> None:
        """Begin a new conversation, with `persona`."""
        self.stop()
        self.persona, self.exchanges, self.trouble = persona, [], ""

    def dialogue(self) -> Dialogue:
        """What was said and answered, for the engine; a question without an answer is left out, but for the last."""
        turns: list[Turn] = []
        for exchange in self.exchanges:
            if exchange.text or exchange.open:
                turns.append(Turn(exchange.asker or ASKER, exchange.question))
            if exchange.text:
                turns.append(Turn(exchange.persona.name, exchange.text, by_persona=True, by_ai=True))
        return Dialogue(tuple(turns))

    async def ask(
        self, engine: ReplyEngine, question: str, audience: Audience, asker: str = ""
    ) -> AsyncGenerator[Exchange, None]:
        """Ask, and yield the exchange once at the start and then whenever it has changed, until it is closed.

        `asker` is the reader's name, "" where it is not known.

        Every error becomes the exchange's trouble. Closing the iterator stops the answer.
        """
        assert self.persona is not None
        exchange = Exchange(question, self.persona, asker)
        self.exchanges.append(exchange)
        changed = asyncio.Event()
        self._writing = task = asyncio.create_task(_write(engine, exchange, self.dialogue(), audience, changed))
        # A task that is stopped before its first step runs no line of its own.
        task.add_done_callback(lambda _: exchange.close())
        task.add_done_callback(lambda _: changed.set())
        try:
            while not task.done():
                yield exchange
                await changed.wait()
                changed.clear()
                # A fast model changes it far more often than anyone can read.
                await asyncio.sleep(FRAME_SECONDS)
            yield exchange
        finally:
            task.cancel()


async def _write(
    engine: ReplyEngine, exchange: Exchange, dialogue: Dialogue, audience: Audience, changed: asyncio.Event
) -> None:
    try:
        persona = await engine.persona(exchange.persona.user_id, exchange.persona.team)
        async for event in engine.reply(persona, dialogue, audience):
            exchange.take(event)
            changed.set()
    except DoppelError as error:
        exchange.trouble = str(error)
    except Exception as error:
        log_failure(log, "An answer failed", error)
        exchange.trouble = UNEXPECTED
