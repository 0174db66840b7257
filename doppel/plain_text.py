"""Text from Slack or a model as others take it: a terminal, which must show it and not obey it, and every database.

What a terminal acts upon instead of showing it goes: the escape that begins every sequence (ECMA-48), the other control
characters, and what turns the direction of reading (Unicode UAX 9). As single characters go, a sequence that arrives in
pieces goes too, and what is left of it is seen.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_CONTROLS = "\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
_LINE_ENDS = "\u2028\u2029"
_HALVES = "\ud800-\udfff"
_GONE = re.compile(f"[{_CONTROLS}]")
_HALF = re.compile(f"[{_HALVES}]")
_LINE_END = re.compile(f"[{_LINE_ENDS}]")
_UNSTORABLE = re.compile(f"[{_HALVES}\0]")
_ESCAPED = re.compile(f"[{_CONTROLS}{_LINE_ENDS}{_HALVES}]")
# Blanks and marks that Unicode counts as letters, symbols or accents; the others are known by their category.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u2800\u3164\ufe00-\ufe0f\uffa0]")


def plain(text: str) -> str:
    """Text of several lines; newlines and tabs stay."""
    return _HALF.sub("�", _LINE_END.sub(" ", _GONE.sub("", text)))


def line(text: str) -> str:
    """Text that is, or is part of, one line."""
    return plain(text).replace("\n", " ").replace("\t", " ")


def lines(texts: Iterable[str]) -> str:
    """A line for each text."""
    return "\n".join(map(line, texts))


def json_text(data: Any) -> str:
    """One line of JSON, in which the same characters are escaped."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(data, ensure_ascii=False))


def storable(text: str) -> str:
    """`text` as every store takes it: lone surrogates and NUL become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def visible(text: str) -> str:
    """`text` without the characters that can't be seen; blanks and line breaks stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in _INVISIBLE.sub("", text) if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
