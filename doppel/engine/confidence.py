"""How sure it is that something was found which answers a question. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from doppel.engine.words import telling
from doppel.records import Passage

BASE, COSINE, FUSED, COVERED = -8.2, 5.6, 4.6, 1.7
"""The logistic model: what it begins with, and the weight of each sign."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells whether passages answer a question, each from 0 to 1, more is better.

    `cosine` is the largest of a passage, and `fused` the largest fused score, which says how far what is near and what
    has the words agree; `covered` is the share of the question's telling words that stand in any quote.
    """

    cosine: float
    fused: float
    covered: float


def confidence(question: str, passages: Sequence[Passage]) -> float:
    """The probability, from 0 to 1, that the conversation which answers `question` is among `passages`; 0 without any.

    It was fitted on the opening questions of two years of a public help channel, with MiniLM's cosines: those of which
    the rest of the conversation was in the index, those of which it wasn't, and those of another workspace, weighted so
    that half are found. So it is a probability where half of what is asked can be found, and elsewhere an order.
    Whether a passage that speaks of the very thing also says what is asked, it can't tell: see benchmarks/README.md.
    """
    if not passages:
        return 0.0
    found = signs(question, passages)
    weighed = BASE + COSINE * found.cosine + FUSED * found.fused + COVERED * found.covered
    return 1 / (1 + math.exp(-weighed))


def signs(question: str, passages: Sequence[Passage]) -> Signs:
    """The signs of a question and at least one passage, in any order."""
    asked, quoted = {*telling(question)}, {word for passage in passages for word in telling(passage.quote)}
    return Signs(
        cosine=max(0.0, *(max(passage.score, passage.best_score or 0.0) for passage in passages)),
        fused=max(passage.fused_score or 0.0 for passage in passages),
        covered=len(asked & quoted) / len(asked) if asked else 0.0,
    )
