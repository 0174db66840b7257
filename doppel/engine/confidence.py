"""How sure it is that something was found which answers a question. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from doppel.engine.words import telling
from doppel.records import Passage

BASE, LIKENESS, WORDS, COVERED, PAIRS = -5.4, 5.2, 1.3, 1.3, 0.5
"""The logistic model: what it begins with, and the weight of each of the signs."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells whether passages answer a question, each from 0 to 1, more is better.

    `likeness` is the largest product of a passage's cosine and its fused score, so of one that is near and leads both
    orders; `words` the largest of a cosine divided by the place in the order by words; `covered` the share of the
    question's telling words that stand in any quote, `pairs` that of its neighbouring ones that stand so in a quote.
    """

    likeness: float
    words: float
    covered: float
    pairs: float


def confidence(question: str, passages: Sequence[Passage]) -> float:
    """The probability, from 0 to 1, that the conversation which answers `question` is among `passages`; 0 without any.

    It was fitted on the opening questions of a public help channel, two years of it: a third each with the rest of
    their conversation in the index, without it, and of another workspace. So it is right where as many have an answer
    as there, and elsewhere at least puts them in order. Whether a passage that speaks of the very thing also says what
    is asked, it can't tell: see benchmarks/README.md.
    """
    if not passages:
        return 0.0
    found = signs(question, passages)
    weighed = LIKENESS * found.likeness + WORDS * found.words + COVERED * found.covered + PAIRS * found.pairs
    return 1 / (1 + math.exp(-BASE - weighed))


def signs(question: str, passages: Sequence[Passage]) -> Signs:
    """The signs of a question and at least one passage, in any order."""
    asked, quoted = telling(question), [telling(passage.quote) for passage in passages]
    return Signs(
        likeness=max(_near(passage) * (passage.fused_score or 0.0) for passage in passages),
        words=max(_near(passage) / passage.word_rank if passage.word_rank else 0.0 for passage in passages),
        covered=_share({*asked}, {word for words in quoted for word in words}),
        pairs=_share({*pairwise(asked)}, {pair for words in quoted for pair in pairwise(words)}),
    )


def _near(passage: Passage) -> float:
    """The largest cosine of the passage and any query, none below 0."""
    return max(passage.score, passage.best_score or 0.0, 0.0)


def _share(asked: Set[object], there: Set[object]) -> float:
    return len(asked & there) / len(asked) if asked else 0.0
