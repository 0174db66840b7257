"""What is shown of an answer: the sentences that what was found carries, each with its source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from doppel.engine.redaction import mask
from doppel.engine.support import (
    Evidence,
    Likeness,
    SentenceReader,
    best_first,
    evidence_of,
    is_small_talk,
    quote,
    without_links,
)
from doppel.records import Dialogue, Passage, Persona, Sentence, TextDelta

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
        self._drops = drops and bool(self._evidence) and not is_small_talk(dialogue.question, persona.name)
        self._reader: SentenceReader | None = None
        self._quoted: Sentence | None = None

    async def feed(self, text: str) -> list[TextDelta]:
        """Take the next piece; returns what is shown of it now."""
        return (await self._sentences()).feed(text) if text else []

    async def close(self, text: str) -> list[TextDelta]:
        """The last piece; returns the rest."""
        reader = await self._sentences()
        shown = [*reader.feed(text), *reader.close()]
        if not self._drops or reader.passed or not self._ranked:
            return shown
        best = self._ranked[0]
        said = quote(self._question, best, self._name, self._passages[best.source or 0])
        self._quoted = Sentence(mask(said), best.source)
        return [TextDelta(self._quoted.text, best.source)]

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences of the answer so far, each with its source."""
        return (self._quoted,) if self._quoted else tuple(self._reader.passed if self._reader else ())

    async def _sentences(self) -> SentenceReader:
        if self._reader is None:
            evidence = self._evidence
            if self._drops:
                self._ranked = await asyncio.to_thread(self._rank)
                evidence = [*self._ranked[:BEST], *(found for found in evidence if found.source is None)]
            self._reader = SentenceReader(evidence, self._drops, self._question)
        return self._reader

    def _rank(self) -> list[Evidence]:
        alone = [f"{e.author}: {e.text}" for e in self._evidence]
        texts = [without_links(text) for text in (*alone, *(e.around for e in self._evidence))]
        near = self._likeness(self._question, texts)
        half = len(self._evidence)
        return best_first(self._question, self._name, self._evidence, Likeness(near[:half], near[half:]))
