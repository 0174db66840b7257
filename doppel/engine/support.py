"""What carries a sentence of an answer: a message of what was found, or of the conversation. Pure.

A sentence is carried by a message whose words it repeats, with the messages beside it: every number, name and time in
it stands there, and it denies what they deny. Of words turned around, such as who owes whom, it knows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from doppel.engine.words import stem, telling
from doppel.records import Passage, Sentence, TextDelta, Turn
from doppel.timestamps import day

LEAST_COVERED = 0.6
"""Share of a sentence's telling words that stand in what carries it, at least."""
MOST_QUOTED = 300
"""Characters of a quote."""

_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=\S)|\n+")
_LINK = re.compile(r"https?://\S+")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"(?<=[a-z0-9,;] )[A-Z][a-z]{2,}\b")
_NO = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot|can't|cant|won't|wont|don't|dont|doesn't|doesnt|"
    r"didn't|didnt|isn't|isnt|aren't|arent|wasn't|wasnt|shouldn't|shouldnt|mustn't|wouldn't|haven't|hasn't|hadn't)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\A(?:[\w.-]+: )?(?:#+ |(\*{1,2})[^*]+\1\Z)")
_TIMES = {
    *telling(
        "today tonight tomorrow yesterday now soon never always daily weekly monthly yearly morning noon evening night "
        "monday tuesday wednesday thursday friday saturday sunday "
        "january february march april june july august september october november december"
    )
}
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


_PLEASANTRIES = (
    "hi hello hey yo thanks thank thx cheers bye goodbye morning evening night good great nice ok okay cool welcome "
    "please sorry congrats congratulations happy weekend lol haha"
)
_SMALL_TALK = {stem(word) for word in _PLEASANTRIES.split()}


def is_small_talk(question: str, name: str = "") -> bool:
    """Whether a text asks `name` nothing: a greeting, thanks, a good wish."""
    return "?" not in question and {*telling(question)} - {*telling(name)} <= _SMALL_TALK


def sentences(text: str) -> list[str]:
    """A text's sentences, each on one line or as it stands, without white space around it."""
    return [part.strip() for part in _split(text) if part.strip()]


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
    if any(stem(name.casefold()) not in around for name in _NAME.findall(sentence)) or (_TIMES & {*said}) - around:
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


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near each message is to the question, by itself and with those beside it: cosines."""

    alone: Sequence[float]
    around: Sequence[float]


def best_first(question: str, name: str, evidence: Sequence[Evidence], likeness: Likeness) -> list[Evidence]:
    """The messages of passages, those first that answer the question: near to it, no question, rather `name`'s own."""
    asked = {*telling(question)}

    def score(number: int) -> float:
        found = evidence[number]
        own, around = {*telling(without_links(found.text))}, {*telling(without_links(found.around))}
        return (
            2.2 * likeness.alone[number]
            + 2.3 * likeness.around[number]
            + 2.5 / (1 + (found.source or 0))
            + (0.8 * len(asked & own) + 1.3 * len(asked & around)) / max(len(asked), 1)
            + 3.2 * (found.author == name)
            - 0.6 * found.text.rstrip().endswith("?")
            - 1.1 * (len(found.text) > MOST_QUOTED)
            + min(len(own), 20) / 20
        )

    numbers = [number for number, found in enumerate(evidence) if found.source is not None and found.text.strip()]
    return [evidence[number] for number in sorted(numbers, key=score, reverse=True)]


def without_links(text: str) -> str:
    """A text without addresses, whose words say where something is and not what."""
    return _LINK.sub("", text)


def quote(question: str, found: Evidence, name: str, passage: Passage) -> str:
    """A message as an answer: who said it, on which day, and at most MOST_QUOTED characters of it."""
    stamp = passage.stamps[found.number] if found.number < len(passage.stamps) else passage.first_ts
    said = "I said" if found.author == name else f"{found.author} wrote"
    return f"On {day(stamp)} {said}: {excerpt(question, found.text)}"


def excerpt(question: str, text: str) -> str:
    """At most MOST_QUOTED characters of a text on one line: what it says of the question, and what follows."""
    whole = " ".join(text.split())
    if len(whole) <= MOST_QUOTED:
        return whole
    asked, parts = {*telling(question)}, [" ".join(part.split()) for part in sentences(text)]
    first = max(range(len(parts)), key=lambda number: len(asked & {*telling(parts[number])}))
    found = parts[first]
    for part in parts[first + 1 :]:
        if len(found) + 1 + len(part) > MOST_QUOTED:
            break
        found += " " + part
    return found if len(found) <= MOST_QUOTED else found[: MOST_QUOTED - 1].rstrip() + "…"


class SentenceReader:
    """The sentences of an answer that arrives in pieces, each with what of `evidence` carries it.

    With `drops` those pass that something carries and that tell more than `question` and a title do, each once; else
    every piece passes as it comes.
    """

    def __init__(self, evidence: Sequence[Evidence], drops: bool = False, question: str = "") -> None:
        self._evidence, self._drops, self._held, self._seen = evidence, drops, "", set[tuple[str, ...]]()
        self._asked = {*telling(question)}
        self.passed: list[Sentence] = []

    def feed(self, text: str) -> list[TextDelta]:
        """Take the next piece; returns what passed."""
        shown = len(self._held)
        *whole, self._held = _split(self._held + text)
        if self._drops:
            return [TextDelta(passed, source) for part in whole for passed, source in self._pass(part)]
        deltas = []
        for part in whole:
            told, source, shown = part[shown:], self._read(part), 0
            # What begins a new line does not belong to the sentence.
            end = len(told.rstrip()) if "\n" in told else len(told)
            deltas += [TextDelta(told[:end], source), TextDelta(told[end:])]
        return _told([*deltas, TextDelta(self._held[shown:])])

    def close(self) -> list[TextDelta]:
        """The rest: no piece comes after it."""
        rest, self._held = self._held, ""
        if self._drops:
            return [TextDelta(passed, source) for passed, source in self._pass(rest)]
        return _told([TextDelta("", self._read(rest))])

    def _pass(self, text: str) -> Iterable[tuple[str, int | None]]:
        said = " ".join(text.split())
        found, words = carrier(said, self._evidence), tuple(telling(said))
        if found is None or words in self._seen or {*words} <= self._asked or _TITLE.search(said):
            return
        self._seen.add(words)
        yield f" {said}" if self.passed else said, found.source
        self.passed.append(Sentence(said, found.source))

    def _read(self, text: str) -> int | None:
        if not (said := text.strip()):
            return None
        found = carrier(said, self._evidence)
        source = found.source if found else None
        self.passed.append(Sentence(said, source))
        return source


def _told(deltas: Sequence[TextDelta]) -> list[TextDelta]:
    return [delta for delta in deltas if delta.text or delta.source is not None]


def _split(text: str) -> list[str]:
    """The whole sentences of a text, and what may go on."""
    ends = [match.end() for match in _END.finditer(text)]
    return [text[a:b] for a, b in pairwise([0, *ends, len(text)])]
