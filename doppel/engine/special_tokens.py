"""Token ids of prompts in which what people wrote is plain text, whatever it says.

A tokenizer looks for its markers, such as `<|im_end|>`, before it reads the rest, also in what people wrote. Here they
are looked for in the chat template's own text only; all else is encoded by a copy of the tokenizer that has none.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

# Code points that are no characters: nobody's text has them, and what people write is rid of them.
_OPEN, _CLOSE, _STOP, _GAP = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_OURS = re.compile("[\ufdd0-\ufdef]")
_PLACE = re.compile(rf"{_OPEN}(\d+){_CLOSE}")
_BRACKETED = re.compile(r"[<\[{]+[^\s<>\[\]{}]{1,40}[>\]}]+")
_HEADING = re.compile(r"(?:[^\w\s]+[ ]?)?\w[\w ]{0,20}:")
_UNSEEN = "\u200b"

Render = Callable[[Sequence[str]], str]
"""Writes a conversation of the given contents as the chat template does."""


class PlainText:
    """What people wrote, on its way into a prompt: places held in the template, and ids without a marker among them."""

    def __init__(self, backend: Any) -> None:
        """`backend` is a `tokenizers.Tokenizer`."""
        from tokenizers import AddedToken, Tokenizer

        state = json.loads(backend.to_str())
        added = state["added_tokens"]
        self._unknown = _unknown(state["model"])
        self._backend = backend
        self._markers = {token["id"]: token["content"] for token in added if not _is_blank(token["content"])}
        state["added_tokens"] = [token for token in added if _is_blank(token["content"])]
        self._plain = Tokenizer.from_str(json.dumps(state))
        self._plain.no_truncation()
        self._plain.no_padding()
        self._plain.add_special_tokens([AddedToken(sign, normalized=False) for sign in (_STOP, _GAP)])
        self._stop, self._gap = (self._plain.token_to_id(sign) for sign in (_STOP, _GAP))
        # A tokenizer numbers its added tokens by itself; markers that are left are among its words.
        self._renumbered = {self._plain.token_to_id(token["content"]): token["id"] for token in state["added_tokens"]}
        self._left = {self._plain.token_to_id(content): content for content in self._markers.values()}
        self._heads: re.Pattern[str] | None = None
        self._marked = lru_cache(maxsize=1000)(self._mark)

    def learn_heads(self, render: Render, turns: int) -> None:
        """Note what `render` puts around `turns` turns and is no marker but text, such as Llama 2's `[INST]`."""
        parts = _PLACE.split(render([f"{_OPEN}{i}{_CLOSE}" for i in range(turns)]))[::2]
        heads = {head for part in parts for head in _heads(self._marked(part)[0])}
        if heads:
            words = "|".join(re.escape(head) for head in sorted(heads, key=len, reverse=True))
            self._heads = re.compile(words, re.IGNORECASE)

    def ids(self, text: str) -> list[int]:
        """Token ids of what somebody wrote, as they follow a marker."""
        return self._encode(_STOP + self.written(text), [0])[1:]

    def prompt_ids(self, render: Render, texts: Sequence[str]) -> list[int]:
        """Token ids of what `render` makes of places held for `texts`; the template never sees the texts themselves."""
        places = [f"{_OPEN}{i}{_CLOSE}" if text else "" for i, text in enumerate(texts)]
        written = ""
        marks: list[int] = []
        for i, part in zip(count(), _PLACE.split(render(places)), strict=False):
            if i % 2:
                written += self.written(texts[int(part)])
            else:
                text, found = self._marked(part)
                written, marks = written + text, [*marks, *found]
        return self._encode(written, marks)

    def written(self, text: str) -> str:
        """`text` as it may stand in a prompt: what reads as the template's own head of a turn is broken in two."""
        text = _OURS.sub("\ufffd", text.encode(errors="replace").decode())
        if self._heads:
            for match in reversed(list(self._heads.finditer(_folded(text)))):
                text = text[: match.start() + 1] + self._break + text[match.start() + 1 :]
        return text

    @property
    def _break(self) -> str:
        """What keeps two characters apart: unseen, unless the tokenizer drops it."""
        normalizer = self._backend.normalizer
        return _UNSEEN if normalizer is None or _UNSEEN in normalizer.normalize_str(f"a{_UNSEEN}b") else " "

    def _mark(self, part: str) -> tuple[str, list[int]]:
        """Text of the template with a stop for each marker, and the markers' ids."""
        encoded = self._backend.encode(part, add_special_tokens=False)
        pairs = zip(encoded.ids, encoded.offsets, strict=True)
        found = [(span, token) for token, span in pairs if self._is_said(self._markers.get(token), part, span)]
        text, last = "", 0
        for (start, end), _ in found:
            text, last = text + part[last:start] + _STOP, end
        return text + part[last:], [token for _, token in found]

    def _encode(self, text: str, marks: Sequence[int]) -> list[int]:
        while True:
            encoded = self._plain.encode(text, add_special_tokens=False)
            pairs = zip(encoded.ids, encoded.offsets, strict=True)
            spans = [span for token, span in pairs if self._is_said(self._left.get(token), text, span)]
            if not spans:
                break
            for start, end in reversed(spans):
                text = _parted(text, start, end)
        marked = iter(marks)
        return [
            next(marked) if token == self._stop else self._renumbered.get(token, token)
            for token in encoded.ids
            if token != self._gap
        ]

    def _is_said(self, marker: str | None, text: str, span: tuple[int, int]) -> bool:
        """Whether a token is a marker that stands in the text, and not the one for unknown characters."""
        return marker is not None and (marker != self._unknown or marker in text[slice(*span)])


def _unknown(model: Any) -> str | None:
    """The token for characters that the vocabulary lacks; a Unigram model names it by its place."""
    place = model.get("unk_id")
    word = model.get("unk_token") if place is None else model["vocab"][place][0]
    return None if word is None else str(word)


def _is_blank(content: str) -> bool:
    """Whether an added token is white space, which is text like any other."""
    return content.replace("▁", " ").isspace()


def _parted(text: str, start: int, end: int) -> str:
    """`text` with a gap in what reads as a marker; one of a single character goes."""
    while start < end and text[start].isspace():
        start += 1
    return f"{text[: start + 1]}{_GAP}{text[start + 1 :]}" if end - start > 1 else text[:start] + text[end:]


def _heads(text: str) -> set[str]:
    """What opens or closes a turn in the template's text next to a place, other than by markers."""
    lines = [line.replace(_STOP, " ").strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    found: set[str] = set()
    for line in {*lines[:1], *lines[-1:]}:
        found.update(_BRACKETED.findall(line) or ([line] if _HEADING.fullmatch(line) else []))
    return found


def _folded(text: str) -> str:
    """`text` with each character in its plain form, as some tokenizers read it; of the same length."""
    forms = (unicodedata.normalize("NFKC", sign) for sign in text)
    return "".join(form if len(form) == 1 else sign for form, sign in zip(forms, text, strict=True))
