"""How sure it is that something was found which answers a question. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doppel.engine.words import telling
from doppel.records import Passage

SCALE = 10.0


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells whether passages answer a question, each about 0 to 1.

    `cosine` is the largest of question and passage, `lead` how far it is ahead of the middle one, `agreement` 1 where
    what is nearest has the question's words like no other, less the lower it stands, 0 where it doesn't, `covered` the
    share of the question's telling words that stand in the passage which has most of them.
    """

    cosine: float
    lead: float
    agreement: float
    covered: float
    words: float


def signs(question: str, passages: Sequence[Passage]) -> Signs:
    """The signs of a question and at least one passage, best first."""
    scores = sorted((passage.score for passage in passages), reverse=True)
    nearest = max(passages, key=lambda passage: passage.score)
    asked = set(telling(question))
    held = [len(asked & set(telling("\n".join(passage.lines)))) for passage in passages]
    return Signs(
        cosine=scores[0],
        lead=scores[0] - scores[len(scores) // 2],
        agreement=1 / nearest.word_rank if nearest.word_rank else 0.0,
        covered=max(held) / len(asked) if asked else 0.0,
        words=min(len(asked), 8) / 8,
    )
