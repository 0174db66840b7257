"""Sentences about answers, and ways to write what was said, that stand in several places in the same words."""

from __future__ import annotations

import re
import unicodedata

from doppel.plain_text import visible

ASKER = "Colleague"
"""Who asks, in a prompt, where their name is not known."""
NO_SOURCES = "No earlier messages were found for this question: the answer rests on the model alone."

INDENT = "  "
"""Begins every line but the first of what somebody said, so that none reads as another's."""
SOURCE = re.compile(r"\[(?:forwarded|from|attached)\b[^\]\n]*\] ")
"""What stands before words that a message brings along from another: who wrote them, and where."""
_LIKE_A_HEAD = re.compile(r"\[(?=\s*(?:(?:forwarded|attached)\b|from\s|(?:file|image)\s*:))", re.IGNORECASE)
"""How what we put into a message begins: such a source, a file's title or a picture's."""
_MARKS = {
    **dict.fromkeys(map(ord, "\uff03\ufe5f"), "#"),
    **dict.fromkeys(map(ord, "\uff1a\ufe13\ufe55"), ":"),
    **dict.fromkeys(map(ord, "[\uff3b\ufe47"), "("),
    **dict.fromkeys(map(ord, "]\uff3d\ufe48"), ")"),
}
"""The marks that our lines are made of, wide and narrow ones as the plain ones, and no brackets as they have."""
_BRACKET = re.compile("[\\[\uff3b\ufe47]")
_UNSEEN = ("Cc", "Cf", "Mn", "Me")


def indented(text: str) -> str:
    """`text` with every line but the first indented, whatever breaks its lines."""
    first, *rest = text.splitlines() or [""]
    return "\n".join([first, *(INDENT + further if further.strip() else "" for further in rest)])


def neutral(text: str) -> str:
    """`text` in which nothing looks like the head of what another wrote, whatever letters it is written in."""
    if text.isascii() or not _BRACKET.search(text):
        return _LIKE_A_HEAD.sub("(", text)
    read = [(place, c) for place, char in enumerate(text) for c in _as_seen(char)]
    heads = {read[found.start()][0] for found in _LIKE_A_HEAD.finditer("".join(c for _, c in read))}
    return "".join("(" if place in heads else char for place, char in enumerate(text)) if heads else text


def named(name: str) -> str:
    """A name as it can stand in a line of ours: on one line, of what can be seen, without brackets."""
    return " ".join(visible(name).translate(_MARKS).split())


def _as_seen(char: str) -> str:
    """What a character reads as: wide letters as the plain ones, accents and what can't be seen as nothing."""
    plain = char if char.isascii() else unicodedata.normalize("NFKC", visible(char))
    return "".join(c for c in plain if c.isspace() or unicodedata.category(c) not in _UNSEEN)


def byline(name: str) -> str:
    """The mark of every answer, for as long as it can be read."""
    return f"Written by an AI in the manner of {name}, not by {name}"
