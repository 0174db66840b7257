"""What is shown of an answer: the sentences that what was found carries, each with its source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from doppel.engine.redaction import mask
from doppel.engine.support import (
    Evidence,
    Likeness,
    SentenceFilter,
    best_first,
    carried,
    evidence_of,
    is_small_talk,
    quote,
    without_links,
)
from doppel.records import Dialogue, Passage, Persona, Sentence

BEST = 3
"""Messages of which one must carry a sentence, where sentences are left out."""

Compare = Callable[[str, Sequence[str]], list[float]]
"""The cosine of a text and each of others; blocks."""


class AnswerCheck:
    """What is shown of an answer that arrives in pieces. With `drops`, the sentences that the best messages for the
    question carry, or the conversation; where nothing is left, the best message itself.
    """

    def __init__(
        self,
        likeness: Compare,
        dialogue: Dialogue,
        persona: Persona,
        passages: Sequence[Passage],
        drops: bool,
    ) -> None:
        self._question, self._name, self._passages = dialogue.question, persona.name, passages
        self._evidence = evidence_of(passages, dialogue.turns)
        self._likeness, self._ranked = likeness, list[Evidence]()
        self._filter: SentenceFilter | None = None
        self._drops = drops and bool(self._evidence) and not is_small_talk(dialogue.question)
        self._quoted: Sentence | None = None

    async def feed(self, text: str) -> str:
        """Take the next piece; returns what is shown of it now."""
        if not self._drops or not text:
            return text
        return (await self._sentences()).feed(text)

    async def close(self, text: str) -> str:
        """The last piece; returns the rest."""
        if not self._drops:
            return text
        passing = await self._sentences()
        shown = passing.feed(text) + passing.close()
        if passing.passed or not self._ranked:
            return shown
        best = self._ranked[0]
        said = quote(self._question, best, self._name, self._passages[best.source or 0])
        self._quoted = Sentence(mask(said), best.source)
        return self._quoted.text

    def sentences(self, text: str) -> tuple[Sentence, ...]:
        """The sentences of the whole answer, each with its source."""
        if self._quoted:
            return (self._quoted,)
        return tuple(self._filter.passed) if self._filter else carried(text, self._evidence)

    async def _sentences(self) -> SentenceFilter:
        if self._filter is None:
            self._ranked = await asyncio.to_thread(self._rank)
            said = [evidence for evidence in self._evidence if evidence.source is None]
            self._filter = SentenceFilter([*self._ranked[:BEST], *said])
        return self._filter

    def _rank(self) -> list[Evidence]:
        alone = [f"{e.author}: {e.text}" for e in self._evidence]
        texts = [without_links(text) for text in (*alone, *(e.around for e in self._evidence))]
        near = self._likeness(self._question, texts)
        half = len(self._evidence)
        return best_first(self._question, self._name, self._evidence, Likeness(near[:half], near[half:]))
