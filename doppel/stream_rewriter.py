"""Text that arrives in pieces, and is rewritten as if it had arrived whole. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_VISIBLE = re.compile("[!-~]*")


class Pieces:
    """Rewrites text that arrives in pieces; what it returns, one after the other, is the whole text rewritten.

    `scan` matches what is to be rewritten, and in a group `unsettled` that reaches the end of the text whatever could
    still become that; it waits for more text, and so does the last run of visible ASCII. `rewrite` must see only what
    `scan` sees.
    """

    def __init__(self, scan: re.Pattern[str], rewrite: Callable[[str], str]) -> None:
        self._scan = scan
        self._rewrite = rewrite
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece; returns what no later piece can change, rewritten."""
        text = self._held + piece
        cut = self._settled(text)
        self._held = text[cut:]
        return self._rewrite(text[:cut])

    def close(self) -> str:
        """The rest: no piece comes after it."""
        rest, self._held = self._held, ""
        return self._rewrite(rest)

    def _settled(self, text: str) -> int:
        word, end = _last_word(text), 0
        # Most calls lengthen one word: there is nothing to look for in it yet.
        for match in self._scan.finditer(text) if word else ():
            if match.start() >= word:
                break
            if match["unsettled"] is not None:
                return match.start()
            end = match.end()
        return max(word, end)


def _last_word(text: str) -> int:
    """Where the run of visible ASCII begins that ends `text`."""
    run = _VISIBLE.match(text[::-1])
    return len(text) - (run.end() if run else 0)
