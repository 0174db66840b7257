"""Sentences about answers, and ways to write what was said, that stand in several places in the same words."""

from __future__ import annotations

import re

ASKER = "Colleague"
"""Who asks, in a prompt, where their name is not known."""
NO_SOURCES = "No earlier messages were found for this question: the answer rests on the model alone."

INDENT = "  "
"""Begins every line but the first of what somebody said, so that none reads as another's."""
SOURCE = re.compile(r"\[(?:forwarded|from|attached)\b[^\]\n]*\] ")
"""What stands before words that a message brings along from another: who wrote them, and where."""


def indented(text: str) -> str:
    """`text` with every line but the first indented, whatever breaks its lines."""
    first, *rest = text.splitlines() or [""]
    return "\n".join([first, *(INDENT + further if further.strip() else "" for further in rest)])


def byline(name: str) -> str:
    """The mark of every answer, for as long as it can be read."""
    return f"Written by an AI in the manner of {name}, not by {name}"
