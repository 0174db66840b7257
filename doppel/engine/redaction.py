"""Secrets in text: tokens, passwords and private keys are masked wherever a model's words are shown. Pure.

A text is read word by word, from left to right. Whether a word is or has a secret is told by the word itself and by
what stands before it, never by what follows; so a text that arrives in pieces is masked as the whole would be, and
only its last word waits. What tells: `secret_forms`, `secret_names` and the set of `secret_rules`, beside this module.
A secret with neither a known form nor a telling name is not recognised.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import NamedTuple

from doppel.engine import secret_forms, secret_names, secret_rules
from doppel.engine.secret_forms import Span

MASK = secret_forms.MASK

_LOOK_BACK = 160
"""Characters before a word that may tell what it is."""
_SHORTEST = 8
"""Characters of the shortest key of a service."""
_LONGEST_WORD = 20
"""Letters of a word that is no key."""

_ROUNDS = 5
"""How often a word is read: a mask may lay bare where another secret begins."""

# Scripts without spaces between words: what comes before such a letter can't become part of a secret.
_UNSPACED = "\u2e80-\U0010ffff"
_BETWEEN = re.compile(rf"\s+|(?:(?![：＝])[{_UNSPACED}])+|[：＝]")
_WORD = re.compile(rf"(?:(?!----)[^\s\"'`{_UNSPACED}])+")
_REST_OF_ADDRESS = re.compile(r"(?:(?!----)[^\s\"`<>])*")
_BARE = re.compile(r"(?:(?!----)[^\s\"'`])+")
_QUOTED = re.compile(r"(?P<quote>[\"'])(?:\\[^\n]|(?!(?P=quote))[^\\\n])*(?:(?P<close>(?P=quote))|\\?)")

# What may announce a secret: unless it stands before it, a plain word is none.
_ANNOUNCES = re.compile(
    r"(?:[^\w\s]|(?<!\S)--?[\w-]{1,40}|(?<!\w)(?:is|was|are|now|ist|lautet|es|est|é|password|bearer|basic|token|digest|"
    r"apikey|negotiate|ssws|splunk|geniekey|key|bot|flyv1))\s*\Z",
    re.IGNORECASE,
)

_KEY = r"[A-Z0-9 ]{0,40}(?:PRIVATE KEY(?: BLOCK)?|STATIC KEY V\d) ?-{4,}"
_DASHES = re.compile(r"-{4,}")
_HEAD = re.compile(rf"-{{4,}} ?BEGIN {_KEY}", re.IGNORECASE)
_FOOT = re.compile(rf"-{{4,}} ?END {_KEY}", re.IGNORECASE)
_COULD_BE_HEAD = re.compile(r"-{4,} ?(?:B(?:E(?:G(?:I(?:N(?: [A-Z0-9 ]{0,60}-*)?)?)?)?)?)?\Z", re.IGNORECASE)
_PUTTY_HEAD = re.compile(r"Private-Lines:[ \t]{0,4}\d{1,4}\Z")
_PUTTY_FOOT = re.compile(r"Private-MAC:[ \t]*[0-9a-fA-F]+")
_LONGEST_FOOT = 160


def mask(text: str) -> str:
    """`text` with `[masked secret]` for each secret; a private key goes whole, and to the end where it has none."""
    stream = masked_pieces()
    return stream.feed(text) + stream.close()


def masked_pieces() -> MaskedPieces:
    """`mask` for text that arrives in pieces: a secret that is cut in two is never shown."""
    return MaskedPieces()


class MaskedPieces:
    """Masks text that arrives in pieces; what it returns, one after the other, is the whole text masked."""

    def __init__(self) -> None:
        self._held = ""
        self._before = ""
        self._foot: re.Pattern[str] | None = None

    def feed(self, piece: str) -> str:
        """Take the next piece; returns what no later piece can change, masked."""
        return self._take(self._held + piece, at_end=False)

    def close(self) -> str:
        """The rest: no piece comes after it."""
        return self._take(self._held, at_end=True)

    def _take(self, text: str, at_end: bool) -> str:
        shown: list[str] = []
        start = 0
        while start < len(text):
            step = self._step(text, start, at_end)
            if not (step.is_sure or at_end):
                break
            start, self._foot = step.end, step.foot
            shown.append(step.shown)
            self._before = (self._before + step.shown)[-_LOOK_BACK:]
        self._held = text[start:]
        return "".join(shown)

    def _step(self, text: str, start: int, at_end: bool) -> _Step:
        """The next piece of `text` about which can be decided, and what is shown of it.

        What may go on in a later piece is not looked at before it is whole.
        """
        if self._foot:
            return _in_key(text, start, self._foot)
        if (name := secret_names.opens(self._before)) and not text[start].isspace():
            return self._value(name, text, start, at_end)
        if between := _BETWEEN.match(text, start):
            return _Step(between.end(), between[0], is_sure=True)
        if dashes := _DASHES.match(text, start):
            return _dashes(text, start, dashes.end())
        return self._word(text, start, at_end)

    def _value(self, name: str, text: str, start: int, at_end: bool) -> _Step:
        """What stands behind a telling name, quoted or not."""
        quoted = _QUOTED.match(text, start)
        if quoted is None:
            end = _end(_DASHES, text, start)
            return _dashes(text, start, end) if end else self._word(text, start, at_end, _BARE)
        quote, closing = quoted["quote"], quoted["close"] or ""
        is_sure = bool(closing) or quoted.end() < len(text)
        if not (is_sure or at_end):
            return _WAITS
        if secret_names.is_secret(name, quoted[0][1 : len(quoted[0]) - len(closing)], quoted=True):
            return _Step(quoted.end(), quote + MASK + closing, is_sure)
        return _Step(start + 1, quote, is_sure)

    def _word(self, text: str, start: int, at_end: bool, kind: re.Pattern[str] = _WORD) -> _Step:
        end = _end(kind, text, start)
        if end is None:
            return _Step(start + 1, text[start], True)
        if "://" in text[start:end]:
            end = _end(_REST_OF_ADDRESS, text, end) or end
        is_sure = end < len(text)
        if not (is_sure or at_end):
            return _WAITS
        shown = _masked(self._before, text[start:end])
        foot = _PUTTY_FOOT if _PUTTY_HEAD.search(self._before[-24:] + text[start:end]) else None
        # The number of lines goes with them: where it stood, the text masked again would be a key without an end.
        return _Step(end, shown.rstrip(string.digits) + MASK if foot else shown, is_sure, foot)


class _Step(NamedTuple):
    """How far a text was read, what is shown for it, and whether no later text can change that."""

    end: int
    shown: str
    is_sure: bool
    foot: re.Pattern[str] | None = None
    """What ends the private key that has begun."""


_WAITS = _Step(0, "", is_sure=False)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int | None:
    match = pattern.match(text, start)
    return match.end() if match else None


def _in_key(text: str, start: int, foot: re.Pattern[str]) -> _Step:
    """Nothing of a private key is shown."""
    if found := foot.search(text, start):
        return _Step(found.end(), "", found.end() < len(text))
    if len(text) - start > _LONGEST_FOOT:
        return _Step(len(text) - _LONGEST_FOOT, "", True, foot)
    return _Step(len(text), "", False, foot)


def _dashes(text: str, start: int, end: int) -> _Step:
    if head := _HEAD.match(text, start):
        return _Step(head.end(), MASK, head.end() < len(text), _FOOT)
    return _Step(end, text[start:end], not _COULD_BE_HEAD.match(text, start))


def _masked(before: str, word: str) -> str:
    """`word` with a mask for each secret in it; `before` is shown already."""
    if _is_plain(word) and not _ANNOUNCES.search(before[-48:]):
        return word
    for _ in range(_ROUNDS):
        masked = _once_masked(before, word)
        if masked == word:
            break
        word = masked
    return word


def _is_plain(word: str) -> bool:
    """Whether this is a word, or two with a hyphen, rather than a key."""
    return len(word) < _LONGEST_WORD and word.rstrip(".,;:!?)").replace("-", "").isalpha()


def _once_masked(before: str, word: str) -> str:
    text, start = before + word, len(before)
    spans = [(start + a, start + b) for a, b in (*secret_forms.tokens(word), *secret_forms.in_address(word))]
    spans += secret_forms.behind(text)
    spans += secret_names.named(text, start)
    if len(word) >= _SHORTEST and not _is_plain(word):
        spans += secret_rules.find(text)
    return _with_masks(text, start, spans)


def _is_mask(shown: str) -> bool:
    """Whether a mask, or the first word of one, is all that this is."""
    return shown.startswith(MASK.split()[0]) and MASK.startswith(shown)


def _with_masks(text: str, start: int, spans: Iterable[Span]) -> str:
    """`text` from `start` on, each span that reaches beyond it replaced; spans that touch become one."""
    shown = ""
    for begin, end in sorted(spans):
        if end <= start or begin == end or _is_mask(text[max(begin, start) : end]):
            continue
        shown += text[start : max(begin, start)]
        if begin > start or not shown.endswith(MASK):
            shown += MASK
        start = end
    return shown + text[start:]
