"""A long answer -> messages of a length that Slack takes. Pure.

Limits: 40,000 characters for the text of a message, 4,000 advised; 12,000 for all Markdown blocks of one message and
for one call of a stream; 3,000 for a section (https://docs.slack.dev/reference/block-kit/blocks).
"""

from __future__ import annotations

import re

ADVISED_CHARS = 4_000
MARKDOWN_CHARS = 12_000
SECTION_CHARS = 3_000

_FENCE = "```"
_INFO = re.compile(r"[\w+#.-]{0,30}(?=\n)")
_BOUNDARIES = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"(?<=[.!?…])\s+|(?<=[。！？])", r"\s+")))
_CUT_OFF = re.compile(r"(?:&\w{0,4}|<[^<>\n]{0,40}|`{1,2})\Z")


def split(text: str, limit: int = ADVISED_CHARS) -> list[str]:
    """`text`, as `outgoing` returns it, in parts of at most `limit` characters, none of them empty.

    It is cut between paragraphs, else lines, sentences, words; a fence that is cut, or never closed, is closed and
    opened again. Raises ValueError for a limit below 100.
    """
    if limit < 100:
        raise ValueError(f"A message of at most {limit} characters has no room for an answer.")
    parts, rest = [], text.strip()
    while rest:
        part, rest = _first(rest, limit)
        parts.append(part)
    return parts


def _first(text: str, limit: int) -> tuple[str, str]:
    """The first part, and what is left, opened again where a fence was cut."""
    if len(_closed(text)) <= limit:
        return _closed(text), ""
    cut = _cut(text, limit - len(_FENCE) - 1)
    part, rest = text[:cut].rstrip(), text[cut:]
    opened = _open_fence(part)
    if opened is None:
        return part, rest.strip()
    # An indent after a cut line is part of the code.
    return _closed(part), f"{opened}\n" + rest.removeprefix("\n")


def _cut(text: str, room: int) -> int:
    """Where the first part of `text` ends: at the last boundary of the best kind in the second half of the room."""
    window = text[:room]
    outside = [m.end() for m in _BOUNDARIES[0].finditer(window) if _open_fence(text[: m.start()]) is None]
    if outside and outside[-1] > room // 2:
        return outside[-1]
    for boundary in _BOUNDARIES[1:]:
        ends = [m.start() for m in boundary.finditer(window) if m.start() > room // 2]
        if ends:
            return ends[-1]
    torn = _CUT_OFF.search(window)
    return torn.start() if torn else room


def _open_fence(text: str) -> str | None:
    """The opening line of the fence that `text` leaves open."""
    pieces = text.split(_FENCE)
    if len(pieces) % 2:
        return None
    info = _INFO.match(pieces[-1])
    return _FENCE + (info[0] if info else "")


def _closed(text: str) -> str:
    if _open_fence(text) is None:
        return text
    return f"{text}{_FENCE}" if text.endswith("\n") else f"{text}\n{_FENCE}"
