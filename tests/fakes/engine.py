"""An engine that answers from a script, for tests of the surfaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from doppel.access import Audience
from doppel.archive.snapshots import Snapshot
from doppel.errors import UnknownUserError
from doppel.records import Dialogue, Finished, Passage, Persona, Reply, ReplyEvent, SourcesFound, TextDelta, Turn
from doppel.services.ask import Found


@dataclass(frozen=True)
class Wait:
    """A step of a script: until the event is set, or for some seconds."""

    until: asyncio.Event | float


Step = ReplyEvent | Wait | Exception
"""An exception is raised where it stands."""

Script = Callable[[Persona, Sequence[Turn]], Sequence[Step]]


def passage(
    quote: str = "Erik: Kafka was too much for three people.",
    channel: str = "engineering",
    ts: str = "1741600000.000100",
    context: Sequence[str] = (),
) -> Passage:
    """A thread in which `quote` was said after `context`."""
    lines = (*context, *quote.split("\n"))
    link = f"https://acme.slack.com/archives/C1/p{ts.replace('.', '')}"
    return Passage(channel, None, ts, ts, lines, (len(context), len(lines)), quote, link, 0.7)


def answer(
    persona: Persona, text: str, sources: Sequence[Passage] = (), notes: Sequence[str] = (), pause: float = 0
) -> list[Step]:
    """The script of an answer that goes well, word by word."""
    found, told = tuple(sources), tuple(notes)
    words = [word + " " for word in text.split(" ")]
    said: list[Step] = [step for word in words for step in (Wait(pause), TextDelta(word))]
    reply = Reply(persona, text.strip(), found, 100, len(words), 0.1, 0.2, told)
    return [SourcesFound(found, told), *said, Finished(reply)]


class FakeEngine:
    """Answers by `script`; `asked` remembers each question's persona, turns and audience, `stopped` each broken answer.

    `dialogues` are the same questions with where they were asked.
    """

    def __init__(self, people: Sequence[Persona], script: Script | None = None) -> None:
        self.reset(people, script)

    def reset(self, people: Sequence[Persona], script: Script | None = None) -> None:
        """Begin anew; without a script it answers "About" and the question."""
        self.people = list(people)
        self.script: Script = script or (lambda persona, turns: answer(persona, f"About {turns[-1].text}"))
        self.asked: list[tuple[Persona, tuple[Turn, ...], Audience]] = []
        self.dialogues: list[Dialogue] = []
        self.stopped = 0
        self.near: Callable[[Audience], float] = lambda audience: 0.0

    def within(self, team: str) -> _Within:
        """The same for the people of one workspace."""
        return _Within(self, team)

    async def personas(self) -> list[Persona]:
        return list(self.people)

    async def persona(self, user_id: str, team: str | None = None, snapshot: Snapshot | None = None) -> Persona:
        return _with_id([p for p in self.people if team in (None, p.team)], user_id)

    async def look_up(self, dialogue: Dialogue, audiences: Sequence[Audience], snapshot: Snapshot) -> list[Found]:
        """As similar as `near` says, which tests may set."""
        found = [replace(passage(), score=self.near(audience)) for audience in audiences]
        return [Found(dialogue, audience, (each,), snapshot) for audience, each in zip(audiences, found, strict=True)]

    async def reply(
        self,
        persona: Persona,
        dialogue: Dialogue,
        audience: Audience,
        found: Found | None = None,
        is_draft: bool = False,
    ) -> AsyncIterator[ReplyEvent]:
        turns = dialogue.turns
        self.asked.append((persona, turns, audience))
        self.dialogues.append(dialogue)
        try:
            for step in self.script(persona, turns):
                if isinstance(step, Exception):
                    raise step
                if not isinstance(step, Wait):
                    yield step
                elif isinstance(step.until, asyncio.Event):
                    await step.until.wait()
                else:
                    await asyncio.sleep(step.until)
        except asyncio.CancelledError:
            self.stopped += 1
            raise


@dataclass(frozen=True)
class _Within:
    engine: FakeEngine
    team: str

    async def personas(self) -> list[Persona]:
        return [person for person in self.engine.people if person.team == self.team]

    async def persona(self, user_id: str, team: str | None = None, snapshot: Snapshot | None = None) -> Persona:
        assert team in (None, self.team)
        return _with_id(await self.personas(), user_id)

    async def look_up(self, dialogue: Dialogue, audiences: Sequence[Audience], snapshot: Snapshot) -> list[Found]:
        return await self.engine.look_up(dialogue, audiences, snapshot)

    def reply(
        self,
        persona: Persona,
        dialogue: Dialogue,
        audience: Audience,
        found: Found | None = None,
        is_draft: bool = False,
    ) -> AsyncIterator[ReplyEvent]:
        assert persona.team == self.team
        return self.engine.reply(persona, dialogue, audience, found, is_draft)


def _with_id(people: Sequence[Persona], user_id: str) -> Persona:
    found = [person for person in people if person.user_id == user_id]
    if not found:
        raise UnknownUserError(f"Nobody has the id {user_id}.")
    return found[0]
