"""The chat in a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from doppel.access import OPERATOR, ReadPolicy
from doppel.errors import DoppelError, InferenceError
from doppel.labels import ASKER
from doppel.plain_text import line, lines, plain
from doppel.records import Dialogue, Finished, Passage, Persona, Reply, ReplyEvent, SourcesFound, TextDelta, Turn

GOODBYES = {"exit", "quit"}

Write = Callable[[str], None]


class ReplyEngine(Protocol):
    """What the chat needs of the engine."""

    def reply(self, persona: Persona, dialogue: Dialogue, audience: ReadPolicy) -> AsyncIterator[ReplyEvent]: ...


async def ask(engine: ReplyEngine, persona: Persona, dialogue: Dialogue, write: Write) -> Reply:
    """One answer, written as it comes, with its sources behind it."""
    async for event in engine.reply(persona, dialogue, OPERATOR):
        match event:
            case SourcesFound(notes=notes):
                for note in notes:
                    write(f"({line(note)})\n")
                write(f"{line(persona.name)} (AI): ")
            case TextDelta(text=text):
                write(plain(text))
            case Finished(reply=reply):
                write("\n" + _sources(reply.sources))
                return reply
    raise InferenceError("The answer broke off; ask again.")


async def converse(engine: ReplyEngine, persona: Persona, read: Callable[[], str], write: Write) -> None:
    """Questions and answers until the reader says exit; an error is told and the conversation goes on.

    `read` raises EOFError at the end of the input.
    """
    turns: list[Turn] = []
    while True:
        try:
            text = (await asyncio.to_thread(read)).strip()
        except EOFError:
            return
        if text.casefold() in GOODBYES:
            return
        if not text:
            continue
        question = Turn(ASKER, text)
        try:
            reply = await ask(engine, persona, Dialogue((*turns, question)), write)
        except DoppelError as error:
            write(f"\n{line(str(error))}\n")
            continue
        turns += [question, Turn(persona.name, reply.text, by_persona=True, by_ai=True)]


def _sources(sources: Sequence[Passage]) -> str:
    if not sources:
        return "No sources found.\n"
    return "Sources:\n" + lines(f"  #{s.channel_name}  {s.permalink}" for s in sources) + "\n"
