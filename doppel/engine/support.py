"""What carries a sentence of an answer: a message of what was found, or of the conversation. Pure.

A sentence is carried by a message whose words it repeats, with the messages beside it: every number and name in it
stands there, and it denies what they deny. Of words turned around, such as who owes whom, it knows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from doppel.engine.words import stem, telling
from doppel.records import Passage, Turn

LEAST_COVERED = 0.6
"""Share of a sentence's telling words that stand in what carries it, at least."""
MOST_QUOTED = 300
"""Characters of a quote."""

_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=\S)|\n+")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"(?<=[a-z0-9,;] )[A-Z][a-z]{2,}\b")
_NO = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot|can't|cant|won't|wont|don't|dont|doesn't|doesnt|"
    r"didn't|didnt|isn't|isnt|aren't|arent|wasn't|wasnt|shouldn't|shouldnt|mustn't|wouldn't|haven't|hasn't|hadn't)\b",
    re.IGNORECASE,
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_WORDS_OF_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A message that may carry a sentence: the number of its passage, None for the conversation, and of its line."""

    source: int | None
    number: int
    author: str
    text: str
    around: str
    """What stands beside it, and itself."""


def evidence_of(passages: Sequence[Passage], turns: Sequence[Turn] = ()) -> list[Evidence]:
    """The messages of passages, and what people said in the conversation before its last turn."""
    found = [e for number, passage in enumerate(passages) for e in _evidence(number, passage.lines)]
    said = [f"{turn.author}: {turn.text}" for turn in turns[:-1] if not turn.by_ai]
    return [*found, *_evidence(None, said)]


def _evidence(source: int | None, lines: Sequence[str]) -> Iterable[Evidence]:
    for number, text in enumerate(lines):
        author, _, said = text.partition(": ")
        yield Evidence(source, number, author, said, "\n".join(lines[max(0, number - 1) : number + 2]))


def sentences(text: str) -> list[str]:
    """A text's sentences, each on one line or as it stands, without white space around it."""
    return [part.strip() for part in _END.split(text) if part.strip()]


def carrier(sentence: str, evidence: Sequence[Evidence]) -> Evidence | None:
    """What carries a sentence best, or None where nothing does."""
    best, most = None, 0.0
    for found in evidence:
        covered = _covered(sentence, found)
        if covered > most:
            best, most = found, covered
    return best if most >= LEAST_COVERED else None


def _covered(sentence: str, found: Evidence) -> float:
    """The share of a sentence's telling words that stand there; 0 where it says what does not."""
    said = telling(sentence)
    if not said:
        return 0.0
    around = {*telling(found.around)}
    if not _numbers(sentence) <= _numbers(found.around):
        return 0.0
    if any(stem(name.casefold()) not in around for name in _NAME.findall(sentence)):
        return 0.0
    own = {*telling(found.text)}
    # Its own words count whole, those beside it half.
    share = sum(1.0 if word in own else 0.5 if word in around else 0.0 for word in said) / len(said)
    return share if bool(_NO.search(sentence)) == bool(_NO.search(_nearest(sentence, found.text))) else 0.0


def _nearest(sentence: str, text: str) -> str:
    """The sentence of a message that shares most words with another."""
    said = {*telling(sentence)}
    return max(sentences(text) or [""], key=lambda part: len(said & {*telling(part)}))


def _numbers(text: str) -> set[str]:
    words = (_WORDS_OF_NUMBERS.get(word) for word in re.findall(r"[a-z]+", text.casefold()))
    return {*_NUMBER.findall(text), *(number for number in words if number and number not in ("0", "1"))}


def without_repeats(parts: Iterable[str]) -> list[str]:
    """Sentences, each once, whatever its marks and case."""
    return list({tuple(telling(part)) or (part,): part for part in reversed(list(parts))}.values())[::-1]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near each message is to the question, by itself and with those beside it: cosines."""

    alone: Sequence[float]
    around: Sequence[float]


def quotable(question: str, name: str, evidence: Sequence[Evidence], likeness: Likeness) -> Evidence | None:
    """The message of a passage that answers a question best: near to it, no question, and rather `name`'s own."""
    asked = {*telling(question)}

    def score(number: int) -> float:
        found = evidence[number]
        shared = len(asked & {*telling(found.text)}) / len(asked) if asked else 0.0
        rank = 1 / (1 + (found.source or 0))
        return (
            0.5 * likeness.alone[number]
            + likeness.around[number]
            + 0.2 * rank
            + 0.3 * shared
            + (0.5 if found.author == name else 0.0)
            - (0.5 if found.text.rstrip().endswith("?") else 0.0)
            - (1.0 if len(found.text) > MOST_QUOTED else 0.0)
            - (0.3 if len(telling(found.text)) < 3 else 0.0)
        )

    numbers = [number for number, found in enumerate(evidence) if found.source is not None and found.text.strip()]
    best = max(numbers, key=score, default=None)
    return None if best is None or len(evidence[best].text) > 2 * MOST_QUOTED else evidence[best]
